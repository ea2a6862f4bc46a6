"""What a list of runs costs: tokens, FLOPs, device hours, disk, epochs per source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flp_ray.core.run import RunSpec
from flp_ray.errors import BudgetError
from flp_ray.plan.config import BudgetConfig

STATE_BYTES_PER_PARAM = 16
"""A resumable checkpoint: weights, gradients' master copy and two AdamW moments, four bytes each."""

MEASUREMENT_BYTES = 200
"""Upper estimate of one stored measurement on disk, Delta log included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Totals over runs. None: not known yet.

    Attributes:
        runs: Number of runs.
        tokens: Training tokens.
        flops: Training FLOPs.
        device_hours: Training time times devices; None until a rate is known.
        wall_hours: Time with all slots busy; None until a rate is known.
        disk_bytes: Largest use at one time: text, one state per slot, measurements.
        epochs: Largest number of passes any single run makes over a source's text; None where its tokens are not known.
    """

    runs: int
    tokens: int
    flops: float
    device_hours: float | None
    wall_hours: float | None
    disk_bytes: float
    epochs: dict[str, float | None]


def cost(
    specs: Sequence[RunSpec],
    *,
    devices_per_run: int,
    slots: int,
    flops_per_s_per_device: Mapping[str, float | None],
    source_tokens: Mapping[str, int | None],
    measurements_per_checkpoint: int,
) -> Cost:
    """Adds up what runs cost.

    Args:
        specs: The runs.
        devices_per_run: Data-parallel workers of a run.
        slots: Runs at the same time.
        flops_per_s_per_device: Achieved FLOP/s by size, measured or stated; None where neither is there.
        source_tokens: Tokens of text by source; None where not known.
        measurements_per_checkpoint: Values that a kept checkpoint leaves in the store.
    """
    rates = {spec.size: flops_per_s_per_device.get(spec.size) for spec in specs}
    known = all(rates.values())
    device_seconds = sum(s.flops / rate for s in specs if (rate := rates[s.size])) if known else None
    largest_state = max((s.params for s in specs), default=0) * STATE_BYTES_PER_PARAM
    text_bytes = sum((tokens or 0) * 2 for tokens in source_tokens.values())
    checkpoints = sum(len(s.checkpoint_steps()) for s in specs)
    longest = max((s.flops / rate / devices_per_run for s in specs if (rate := rates[s.size])), default=0.0)
    return Cost(
        runs=len(specs),
        tokens=sum(s.train_tokens for s in specs),
        flops=sum(s.flops for s in specs),
        device_hours=None if device_seconds is None else device_seconds / 3600,
        wall_hours=None
        if device_seconds is None
        else max(longest, device_seconds / devices_per_run / min(slots, max(len(specs), 1))) / 3600,
        disk_bytes=text_bytes
        + 2.0 * largest_state * min(slots, len(specs))  # an old and a new state while one is replaced
        + checkpoints * measurements_per_checkpoint * MEASUREMENT_BYTES,
        epochs={source: _epochs(specs, source, tokens) for source, tokens in source_tokens.items()},
    )


def _epochs(specs: Sequence[RunSpec], source: str, available: int | None) -> float | None:
    if available is None:
        return None
    wanted = max((s.train_tokens * s.mixture.ratio(source) for s in specs), default=0.0)
    return wanted / available


def check_budget(total: Cost, to_do: Cost, budget: BudgetConfig) -> None:
    """Refuses a plan that costs more than was stated.

    Args:
        total: The whole study, validation included; its FLOPs are limited.
        to_do: What is not trained yet; its device hours and disk are limited, since what is done is paid for.
        budget: The limits.

    Raises:
        BudgetError: FLOPs, device hours or disk are over the budget; says by how much.
    """
    for what, value, allowed in (
        ("FLOPs", total.flops, budget.flops),
        ("device hours", to_do.device_hours, budget.device_hours),
        ("bytes of disk", to_do.disk_bytes, budget.disk_bytes),
    ):
        if allowed is not None and value is not None and value > allowed:
            raise BudgetError(
                f"The plan needs {value:.4g} {what}, the budget allows {allowed:.4g} "
                f"({value / allowed:.2f} times). Take fewer ratios or sizes, or raise the budget."
            )
    if budget.device_hours is not None and to_do.device_hours is None:
        raise BudgetError(
            "The budget limits device hours, but no rate is known to reckon them with. "
            "State resources.flops_per_s_per_device."
        )
