"""What a backtest asks: which runs are fitted on, which are predicted, which domains and tasks count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.records import Records
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit.predictor.runs import RunTable, known_sources, run_table

FEWEST_LEFT = 4
"""Runs to fit on that must remain when the largest are held out."""

HELD_OUT = 0.2
"""Share of the runs that is held out where no size stands out."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What is fitted on and what is compared.

    Attributes:
        fitted: Sampling runs.
        targets: Runs to predict, with what was measured of them.
        held_out: How the targets were chosen, in words.
    """

    fitted: RunTable
    targets: RunTable
    held_out: str


def selection(records: Records, kind: str, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Domains or tasks that are asked for, in the order asked; all that sampling runs have, where none are.

    Args:
        records: The records.
        kind: `domain` or `task`.
        wanted: Names; None takes all.

    Raises:
        ConfigError: A name is unknown.
    """
    value = "domain_loss" if kind == "domain" else "performance"
    sampling = {r.run_id for r in records.runs if r.purpose == "sampling"}
    known = sorted({m.name for m in records.measurements if m.kind == value and m.run_id in sampling})
    if wanted is None:
        return tuple(known)
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"There is no {kind} {name!r} among the sampling runs. Known: {', '.join(known) or 'none'}.{hint}"
            )
    return tuple(dict.fromkeys(wanted))


def sampling_table(records: Records, domains: Sequence[str] | None, tasks: Sequence[str] | None) -> RunTable:
    """The sampling runs as arrays.

    Raises:
        ConfigError: A domain or a task is unknown.
        NotEnoughDataError: No sampling run has a measurement.
    """
    chosen = selection(records, "domain", domains), selection(records, "task", tasks)
    table = run_table(records, "sampling", sources=known_sources(records), domains=chosen[0], tasks=chosen[1])
    if not table.run_ids:
        raise NotEnoughDataError(
            "Nothing can be fitted: no sampling run has a domain loss or a score. Add measurements of kind "
            "domain_loss or performance."
        )
    return table


def question_of(records: Records, domains: Sequence[str] | None, tasks: Sequence[str] | None) -> Question:
    """What to fit on and what to compare: the targets, or the largest runs where there are none.

    Raises:
        ConfigError: A domain or a task is unknown, or a target has an unknown source.
        NotEnoughDataError: There are too few runs.
    """
    fitted = sampling_table(records, domains, tasks)
    if any(r.purpose == "target" for r in records.runs):
        targets = run_table(
            records,
            "target",
            sources=fitted.sources,
            domains=fitted.domains,
            tasks=tuple(t.task for t in fitted.tasks),
            ends=True,
        )
        _check_ratios(targets)
        if targets.run_ids:
            return Question(fitted=fitted, targets=targets, held_out=f"{len(targets.run_ids)} runs of purpose target")
    held = _largest(fitted)
    return Question(
        fitted=fitted.take(~held),
        targets=fitted.take(held),
        held_out=f"no measured run has the purpose target: {int(held.sum())} of {len(held)} sampling runs held out, "
        + ("the largest" if np.ptp(np.log(fitted.queries.flops)) > 0.1 else "drawn at random, all are of one size"),
    )


def _largest(table: RunTable) -> Array:
    """The runs to hold out: those of the largest size, else the last fifth by FLOPs, else a random fifth."""
    params, flops = table.queries.params, table.queries.flops
    runs = len(params)
    if runs <= FEWEST_LEFT:
        raise NotEnoughDataError(
            f"{runs} sampling runs and no target: nothing can be held out and {FEWEST_LEFT} runs still be fitted. "
            f"Add runs, or give the runs to be predicted the purpose `target`."
        )
    largest: Array = params >= params.max() * 0.98
    if len(np.unique(params)) >= 3 and largest.sum() <= runs - FEWEST_LEFT and largest.sum() <= runs / 2:
        return largest
    number = min(max(1, round(HELD_OUT * runs)), runs - FEWEST_LEFT)
    order = np.argsort(flops, kind="stable")
    if np.ptp(np.log(flops)) <= 0.1:
        order = np.random.default_rng(0).permutation(runs)
    held = np.zeros(runs, bool)
    held[order[-number:]] = True
    return held


def _check_ratios(targets: RunTable) -> None:
    total = targets.queries.ratios.sum(axis=1)
    for i in np.flatnonzero(np.abs(total - 1) > 1e-3)[:1]:
        raise ConfigError(
            f"Target {targets.run_ids[i]} has {1 - total[i]:.3g} of its text from sources that no sampling run has "
            f"({', '.join(targets.sources)} are known). Leave it out, or add sampling runs with that source."
        )
