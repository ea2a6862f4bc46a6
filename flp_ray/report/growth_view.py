"""What has changed since a study was last given, on the console, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console


def print_growth(growth: Mapping[str, Any], console: Console) -> None:
    """Prints what a study file changes and what of the study's folder is used again.

    Args:
        growth: As `flp-ray plan --json` gives it.
        console: Where to print.
    """
    for line in growth_lines(growth):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def growth_lines(growth: Mapping[str, Any]) -> list[str]:
    """The lines of `print_growth`."""
    sources = growth["reused_sources"]
    reused = [f"{_runs(growth['reused_runs'], 'finished ')} ({growth['reused_flops']:.3g} FLOPs)"]
    if sources:
        reused.append(f"text of {len(sources)} source{'s' * (len(sources) > 1)} ({', '.join(sources)})")
    lines = [
        f"Changed since the study was last given: {', '.join(growth['changes'])}",
        f"  used again: {', '.join(reused)}",
        f"  new: {_runs(growth['new_runs'])} ({growth['new_flops']:.3g} FLOPs)",
    ]
    if growth["unplanned_runs"]:
        runs = _runs(growth["unplanned_runs"], "finished ")
        lines.append(f"  kept, but no longer planned and not fitted on: {runs}")
    return lines


def _runs(count: int, kind: str = "") -> str:
    return f"{count} {kind}run{'' if count == 1 else 's'}"
