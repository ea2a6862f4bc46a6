"""A backtest in the terminal: methods, targets, what `auto` took, warnings, the method to trust."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flp_ray.core.backtest import Backtest, MethodResult, ValueKind
from flp_ray.report import numbers
from flp_ray.report.backtest_answer import backtest_answer, backtest_notes, few_targets
from flp_ray.report.backtest_method_tables import choice_table, fitted, measured_kinds, summary_table
from flp_ray.report.backtest_series import WORDS, measured_targets, names_of
from flp_ray.report.backtest_tables import target_rows, worst_table
from flp_ray.report.console import aligned_table, say
from flp_ray.report.tables import TableView

if TYPE_CHECKING:
    from rich.console import Console

_WORST = 5
_CELL = 32
"""Letters that a prediction with its interval and error takes in a row."""

_PLAIN_WIDTH = 160
"""Width of the tables where there is no terminal."""


def print_backtest(backtest: Backtest, console: Console) -> None:
    """Prints what a backtest found: tables in a terminal, aligned plain lines elsewhere.

    Args:
        backtest: What to print.
        console: Where to print.
    """
    for kind in measured_kinds(backtest):
        table = summary_table(backtest, [kind])
        _view(console, replace(table, title=f"Relative error of the {WORDS[kind][0]} by method"))
    if few_targets(backtest):
        for target in measured_targets(backtest):
            _target(console, backtest, target.run_id)
    else:
        _view(console, worst_table(backtest, _WORST))
    choices = choice_table(backtest)
    if choices.rows:
        _view(console, choices)
    said = backtest_answer(backtest)
    say(console, "")
    for note in backtest_notes(backtest):
        say(console, f"Note: {note}")
    say(console, said.question)
    say(console, said.headline, style="bold")
    for line in (said.detail, said.targets, said.setting):
        if line:
            say(console, line)


def _target(console: Console, backtest: Backtest, run_id: str) -> None:
    """One target's scores, or its losses where there are no tasks, by as many methods as there is room for."""
    kind: ValueKind = "performance" if names_of(backtest, "performance") else "domain_loss"
    methods = list(fitted(backtest))
    width = console.width if console.is_terminal else _PLAIN_WIDTH
    shown: list[MethodResult] = methods[: max(1, (width - 30) // _CELL)]
    rows = target_rows(backtest, run_id, kind, shown)
    what = "scores" if kind == "performance" else "losses (nats per token)"
    heads = ("task" if kind == "performance" else "domain", "measured", *(r.method for r in shown))
    title = f"{run_id}: {what}, predicted [80{numbers.THIN}% interval], relative error"
    right = set(range(1, len(heads)))
    aligned_table(console, title, heads, rows, right=right, missing="Nothing is predicted.")
    if len(shown) < len(methods):
        say(console, f"{numbers.count(len(methods) - len(shown), 'more method')}: see the report.")


def _view(console: Console, view: TableView) -> None:
    heads = tuple(c.head for c in view.columns)
    right = {i for i, c in enumerate(view.columns) if c.numeric}
    aligned_table(console, view.title, heads, view.rows, right=right, missing=view.missing)
