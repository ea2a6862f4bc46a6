"""How far a study is, on the console."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

STATES = ("finished", "started", "failed", "planned")
"""States of a run, in the order in which they are shown; `started` may also mean that its process was killed."""

_LAST_DECISIONS = 5
"""Decisions that are shown with their reasons."""


def print_status(status: Mapping[str, Any], console: Console) -> None:
    """Prints runs by size and state, failures with their reasons, the search and the proposals.

    Args:
        status: What `flp-ray status --json` prints.
        console: Where to print.
    """
    groups: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for run in status["runs"]:
        groups[run["purpose"], run["size"]][run["state"]] += 1
    table = Table(title=f"Study {status['study']}", title_justify="left")
    for name in ("purpose", "size"):
        table.add_column(name)
    for name in STATES:
        table.add_column(name, justify="right")
    for (purpose, size), counts in groups.items():
        table.add_row(purpose, size, *(str(counts[state] or "") for state in STATES))
    console.print(table)
    for run in status["runs"]:
        if run["state"] == "failed":
            line = f"run {run['run_id']} failed after {run['attempts']} attempt(s): {run['reason']}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in search_lines(status.get("search")):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for proposal in status["proposals"]:
        ratios = " ".join(f"{source}={ratio:g}" for source, ratio in proposal["mixture"].items())
        expected = " to ".join(f"{100 * proposal['expected'][end]:.1f}" for end in ("low", "high"))
        line = f"proposed for {proposal['objective']}: {ratios}, expected {expected} percent"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {status['report'] or 'not written yet'}", highlight=False, soft_wrap=True)


def search_lines(search: Mapping[str, Any] | None) -> list[str]:
    """What a search has spent, what it expects to lose, why it chose its last runs and why it ended.

    Args:
        search: As `flp_ray.report.search_json` gives it; None where there is none.

    Returns:
        Lines of text; none without a search.
    """
    if search is None:
        return []
    regret, decisions = search["expected_regret"], search["decisions"]
    known = "not known yet" if regret is None else f"{_points(regret)} points"
    lines = [
        _spent(search),
        f"expected regret: {known}, the search ends at {_points(search['tolerance'])} points",
    ]
    chosen = [d for d in decisions if d["kind"] != "stop"]
    if len(chosen) > _LAST_DECISIONS:
        lines.append(f"the last {_LAST_DECISIONS} of {len(chosen)} runs decided:")
    lines += [_decision(d) for d in chosen[-_LAST_DECISIONS:]]
    lines.append(f"search ended: {search['stopped']}" if search["stopped"] is not None else "search goes on")
    for answer in search["answers"]:
        sure = "" if answer["confident"] else "cannot tell yet; best as known now "
        loss = _points(answer["expected_regret"])
        mixture = _mixture(answer["mixture"])
        lines.append(f"found for {answer['objective']}: {sure}{mixture}, expected to lose {loss} points")
    return lines


def _spent(search: Mapping[str, Any]) -> str:
    spent, budget = search["spent_flops"], search["budget_flops"]
    share = f" ({100 * spent / budget:.0f} percent)" if budget else ""
    kept = f", {search['reserved_flops']:.3g} kept for validation" if search["reserved_flops"] else ""
    return f"search: {spent:.3g} of {budget:.3g} FLOPs spent{share}{kept}"


def _decision(decision: Mapping[str, Any]) -> str:
    again = f" again ({decision['repeat']} before)" if decision["repeat"] else ""
    where = f"{decision['size']} at {_mixture(decision['mixture'])}{again}, {decision['flops']:.3g} FLOPs"
    return f"  {decision['number']} {decision['kind']}: {where}: {decision['reason']}"


def _mixture(ratios: Mapping[str, float]) -> str:
    return " ".join(f"{source}={ratio:.3g}" for source, ratio in ratios.items())


def _points(regret: float | None) -> str:
    return "an unknown number of" if regret is None else f"{100 * regret:.2g}"
