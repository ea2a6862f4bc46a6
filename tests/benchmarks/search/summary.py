"""What a bench found: figures by world and strategy, as JSON, as a table and as the criteria of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.search.replay import Trajectory, quantiles
from tests.benchmarks.search.strategies import OURS
from tests.benchmarks.search.worlds import Case

Figures = dict[str, dict[str, dict[str, Any]]]
"""Figures by world and strategy; JSON values only."""

TWO_SHARE, FIVE_TIMES, TABLE_SHARE, TABLE_AIM = 1 / 3, 2.0, 1 / 3, 1 / 5
"""What ours should reach: of the paper's 37 runs; fewer FLOPs than the next best; of LightGBM's runs."""

NOT_OTHERS = (OURS, "even-mixture")
"""Not counted as the next best: ours, and a guess that pays nothing."""


def summarise(results: Mapping[str, Mapping[str, Sequence[Trajectory]]], cases: Mapping[str, Case]) -> Figures:
    """Figures of every strategy on every world.

    Returns:
        By world and strategy: `cost_to_goal` (median; null where half of the seeds or more do not reach the goal) with
        its `quartiles`, `reached` (share of seeds), `loss_at_end` (median), `seeds`, `unit`, `seconds` (mean), and on
        hostile worlds `cannot_tell` (share of seeds) and `loss_of_confident` (median and highest, null without any).
    """
    return {
        world: {name: _figures(cases[world], of) for name, of in strategies.items()}
        for world, strategies in results.items()
    }


def table_rows(figures: Figures, cases: Mapping[str, Case]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Tables as text: title, heads and rows of each world; ours first, then by cost."""
    tables = []
    for world, strategies in figures.items():
        case = cases[world]
        seeds = max(row["seeds"] for row in strategies.values())
        if case.goal is None:
            title = f"{case.title}; {seeds} seeds"
            heads = ["strategy", "cannot tell", "regret of those that can", "regret of all", "spent"]
            rows = [_hostile_row(case, name, row) for name, row in strategies.items()]
        else:
            title = f"{case.title}: cost to {_goal(case)}; {seeds} seeds"
            heads = ["strategy", case.unit, "quartiles", "times ours", "reached", "at its end"]
            ours = strategies.get(OURS, {}).get("cost_to_goal")
            ordered = sorted(strategies.items(), key=lambda item: _rank(*item))
            rows = [_row(case, name, row, ours) for name, row in ordered]
        tables.append((title, heads, rows))
    return tables


def markdown(tables: Sequence[tuple[str, list[str], list[list[str]]]]) -> str:
    """The same tables for a README."""
    parts = []
    for title, heads, rows in tables:
        lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
        parts.append("\n".join([f"**{title}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def criteria(figures: Figures) -> list[str]:
    """What was asked of ours, with what it reached, in words; nothing where ours did not run."""
    said = []
    for world, strategies in figures.items():
        if OURS not in strategies:
            continue
        ours = strategies[OURS]["cost_to_goal"]
        others = {n: row["cost_to_goal"] for n, row in strategies.items() if n not in NOT_OTHERS}
        known = {n: c for n, c in others.items() if c is not None}
        if world.startswith("two-sources") and "full-grid" in known:
            said.append(_share(world, ours, known["full-grid"], "of the paper's 37 runs", TWO_SHARE))
        elif world.startswith("five-sources") and known:
            name = min(known, key=lambda n: known[n])
            said.append(_share(world, ours, known[name], f"of the next best, {name}", 1 / FIVE_TIMES))
        elif world == "regmix" and known.get("lightgbm-random"):
            said.append(_share(world, ours, known["lightgbm-random"], "of LightGBM in random order", TABLE_SHARE))
        elif strategies[OURS].get("cannot_tell") is not None:
            said.append(f"{world}: ours says 'cannot tell' on {strategies[OURS]['cannot_tell']:.0%} of the seeds")
    return said


def _figures(case: Case, of: Sequence[Trajectory]) -> dict[str, Any]:
    costs = [None if case.goal is None else t.cost_to_goal(case.goal) for t in of]
    first, median, third = quantiles(costs)
    ends = [t.points[-1].loss for t in of if t.points and t.points[-1].loss is not None]
    row: dict[str, Any] = {
        "cost_to_goal": median,
        "quartiles": [first, third],
        "reached": float(np.mean([c is not None for c in costs])),
        "loss_at_end": float(np.median(ends)) if ends else None,
        "spent": float(np.median([t.spent for t in of])),
        "seeds": len(of),
        "unit": case.unit,
        "seconds": float(np.mean([t.seconds for t in of])),
    }
    if case.goal is None:
        sure = [loss for t in of if t.tells() and (loss := t.points[-1].loss) is not None]
        row["cannot_tell"] = 1 - len(sure) / len(of)
        row["loss_of_confident"] = [float(np.median(sure)), float(max(sure))] if sure else None
    return row


def _row(case: Case, name: str, row: dict[str, Any], ours: float | None) -> list[str]:
    cost, (first, third) = row["cost_to_goal"], row["quartiles"]
    times = f"{cost / ours:.{0 if cost >= 10 * ours else 2}f}" if cost is not None and ours else "-"
    return [
        name,
        _cost(case, cost),
        f"{_cost(case, first)} to {_cost(case, third)}",
        times,
        f"{row['reached']:.0%}",
        _loss(case, row["loss_at_end"]),
    ]


def _hostile_row(case: Case, name: str, row: dict[str, Any]) -> list[str]:
    sure = row["loss_of_confident"]
    shown = "-" if sure is None else f"{_loss(case, sure[0])} (at most {_loss(case, sure[1])})"
    return [name, f"{row['cannot_tell']:.0%}", shown, _loss(case, row["loss_at_end"]), _cost(case, row["spent"])]


def _rank(name: str, row: dict[str, Any]) -> tuple[bool, float]:
    cost = row["cost_to_goal"]
    return name != OURS, np.inf if cost is None else cost


def _cost(case: Case, cost: float | None) -> str:
    if cost is None:
        return "never"
    return f"{cost:.0f}" if case.unit == "runs" or cost == 0 else f"{cost:.2g}"


def _loss(case: Case, loss: float | None) -> str:
    if loss is None:
        return "-"
    return f"{1 - loss:.3f}" if case.kind == "table" else f"{100 * loss:.2f}"


def _goal(case: Case) -> str:
    assert case.goal is not None
    return f"Spearman {1 - case.goal:g}" if case.kind == "table" else f"a regret of {100 * case.goal:g} points"


def _share(world: str, ours: float | None, other: float, whose: str, most: float) -> str:
    if ours is None:
        return f"{world}: ours does not reach the goal at half of the seeds; MISSED"
    reached = "reached" if ours <= most * other else "MISSED"
    return f"{world}: ours needs {ours / other:.2f} {whose}; asked at most {most:.2f}: {reached}"
