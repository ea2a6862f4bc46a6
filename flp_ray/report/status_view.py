"""How far a study is, on the console."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

STATES = ("finished", "started", "failed", "planned")
"""States of a run, in the order in which they are shown; `started` may also mean that its process was killed."""


def print_status(status: Mapping[str, Any], console: Console) -> None:
    """Prints runs by size and state, failures with their reasons, and the proposals.

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
    for proposal in status["proposals"]:
        ratios = " ".join(f"{source}={ratio:g}" for source, ratio in proposal["mixture"].items())
        expected = " to ".join(f"{100 * proposal['expected'][end]:.1f}" for end in ("low", "high"))
        line = f"proposed for {proposal['objective']}: {ratios}, expected {expected} percent"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {status['report'] or 'not written yet'}", highlight=False, soft_wrap=True)
