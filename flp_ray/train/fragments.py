"""Where an engine keeps the optimiser's state: which numbers of which parameter this process holds.

DeepSpeed shards what it optimises in another way at each ZeRO stage and number of workers. Said as ranges of each
parameter, flattened, the state is the same at all of them, so what one engine saves any other can load.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed

STATES = ("weight", "exp_avg", "exp_avg_sq")
"""What is kept of every number: its fp32 master weight and AdamW's two moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """Consecutive numbers of one flattened parameter, with their state.

    Attributes:
        name: The parameter's name in the model.
        start: Place of the first number in the flattened parameter.
        tensors: By each of `STATES` the engine's own numbers, one-dimensional; to be read and written.
    """

    name: str
    start: int
    tensors: dict[str, torch.Tensor]

    @property
    def stop(self) -> int:
        """Place after the last number."""
        return self.start + self.tensors["weight"].numel()

    def cut(self, start: int, stop: int) -> Fragment:
        """The part from `start` to `stop` (excluded), both places in the parameter."""
        inside = slice(start - self.start, stop - self.start)
        return Fragment(name=self.name, start=start, tensors={k: t[inside] for k, t in self.tensors.items()})


def fragments(engine: Any) -> list[Fragment]:
    """Everything that this process's optimiser works on, in the order of the model's parameters.

    At stage 0 each process has all of it, at the others its own share. Moments that a fresh engine has not made yet
    are made, as zeros.

    Args:
        engine: A DeepSpeed engine of a `TokenLoss`.
    """
    return list(_fragments(engine))


def share(found: list[Fragment], *, rank: int, world: int) -> list[Fragment]:
    """This rank's part of fragments that all ranks have; the parts are of equal size, up to one number."""
    total = sum(f.stop - f.start for f in found)
    begin, end = total * rank // world, total * (rank + 1) // world
    mine, place = [], 0
    for fragment in found:
        start = max(fragment.start, fragment.start + begin - place)
        stop = min(fragment.stop, fragment.start + end - place)
        if start < stop:
            mine.append(fragment.cut(start, stop))
        place += fragment.stop - fragment.start
    return mine


def optimizer_steps(engine: Any) -> int:
    """Optimiser steps that AdamW has counted; 0 before the first."""
    states = _adamw(engine).state.values()
    return next((int(state["step"]) for state in states if "step" in state), 0)


def take_over(engine: Any, *, steps: int) -> None:
    """Makes an engine go on from what was written into its fragments; every rank calls it.

    Args:
        engine: The engine.
        steps: Optimiser steps done.
    """
    for state in _adamw(engine).state.values():
        state["step"].fill_(float(steps))
    zero, stage = engine.optimizer, engine.zero_optimization_stage()
    if stage in (1, 2):
        zero.update_lp_params()
    elif stage == 3:
        for group, (low, master) in enumerate(
            zip(zero.fp16_partitioned_groups_flat, zero.fp32_partitioned_groups_flat, strict=True)
        ):
            low.data.copy_(master.data)
            zero._unflatten_partitioned_parameters(group)
        if zero.persistent_parameters:  # small ones that every rank keeps whole
            zero.persistent_parameters[0].partition(zero.persistent_parameters)
            zero.persistent_parameters[0].all_gather(zero.persistent_parameters)


def _adamw(engine: Any) -> Any:
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _moments(engine: Any, number: torch.Tensor) -> dict[str, Any]:
    state: dict[str, Any] = _adamw(engine).state[number]
    if "exp_avg" not in state:  # what AdamW itself makes at its first step
        state["step"] = torch.zeros((), dtype=torch.float32, device=number.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(number.data), torch.zeros_like(number.data)
    return state


def _fragments(engine: Any) -> Iterator[Fragment]:
    stage, zero = engine.zero_optimization_stage(), engine.optimizer
    if stage == 3:
        for flat in zero.fp32_partitioned_groups_flat:
            _moments(engine, flat)
    # bf16 at stage 1 has an optimiser class of its own.
    names = "single_partition_of_fp32_groups", "fp32_groups_flat_partition"
    masters: Any = next((getattr(zero, name) for name in names if hasattr(zero, name)), [])
    for name, parameter in engine.module.model.named_parameters():
        if stage == 0:
            moments = _moments(engine, parameter)
            tensors = {"weight": parameter.data, "exp_avg": moments["exp_avg"], "exp_avg_sq": moments["exp_avg_sq"]}
            yield Fragment(name=name, start=0, tensors={k: t.view(-1) for k, t in tensors.items()})
        elif stage in (1, 2):
            held = parameter._hp_mapping
            if held is not None:
                # Not by DeepSpeed's safe_get_*: after the first step it links the moments of the first group alone.
                flat = masters[held.param_group_index]
                begin, numbers = held.hp_fragment_address.start, held.hp_fragment_address.numel
                states = {"weight": flat.data, **_moments(engine, flat)}
                parts = {s: states[s].narrow(0, begin, numbers) for s in STATES}
                yield Fragment(name=name, start=held.lp_fragment_address.start, tensors=parts)
        else:
            yield from _partition(zero, name, parameter)


def _partition(zero: Any, name: str, parameter: Any) -> Iterator[Fragment]:
    """This rank's part of a parameter at stage 3; the last ones of all are filled up, or nothing but filling."""
    parts = {s: zero.get_local_fp32_param(parameter, None if s == "weight" else s).detach() for s in STATES}
    start = torch.distributed.get_rank() * parts["weight"].numel()
    stop = min(start + parts["weight"].numel(), parameter.ds_numel)
    if start < stop:
        yield Fragment(name=name, start=start, tensors={s: t[: stop - start] for s, t in parts.items()})
