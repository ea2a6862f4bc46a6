"""The closing summary for the terminal: laws, proposals, what training gave, the report's path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flp_ray.report import numbers
from flp_ray.report.answer import answer
from flp_ray.report.content import ReportContent
from flp_ray.report.experiment import hit_or_miss, objective_name, sentences
from flp_ray.report.search_words import budget_sentence, findings, no_finding, regret_sentence, stop_sentence

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"sure": "bold green", "unsure": "bold yellow", "none": "bold"}


def print_summary(content: ReportContent, console: Console, report_path: Path) -> None:
    """Prints the summary: tables in a terminal, aligned plain lines elsewhere.

    Args:
        content: What the report shows.
        console: Where to print.
        report_path: The written report.
    """
    said = answer(content)
    print_laws(content, console)
    print_proposals(content, console)
    print_search(content, console)
    _comparisons(content, console)
    say(console, "")
    say(console, said.question)
    say(console, said.headline, style=_STYLES[said.tone])
    say(console, said.detail)
    for caveat in (*said.caveats, *content.notes):
        say(console, f"Note: {caveat}")
    say(console, f"Report: {report_path}")


def print_laws(content: ReportContent, console: Console) -> None:
    """Prints every fitted law with its errors."""
    rows = [
        (
            line.name,
            line.stage,
            line.method,
            f"{line.observations:,}",
            numbers.percent(line.fit_error),
            numbers.percent(line.held_out_error),
            line.formula,
        )
        for line in content.lines
    ]
    heads = ("law of", "stage", "method", "points", "fit error", "held out", "formula")
    aligned_table(console, "Fitted laws", heads, rows, right={3, 4, 5}, missing="No law has been fitted.")


def print_proposals(content: ReportContent, console: Console) -> None:
    """Prints the proposed mixtures with their intervals."""
    rows = [
        (
            objective_name(p.objective),
            numbers.mixture(p.mixture),
            p.size,
            numbers.score(p.expected.mean),
            numbers.score_interval(p.expected),
            "extrapolated" if p.expected.extrapolated else "",
        )
        for p in content.proposals
    ]
    heads = ("objective", "mixture", "size", "expected", f"80{numbers.THIN}% interval", "")
    aligned_table(console, "Proposed mixtures", heads, rows, right={3, 4}, missing="No mixture has been proposed.")


def print_search(content: ReportContent, console: Console) -> None:
    """Prints what a search found, what it spent and why it ended; nothing where there was none."""
    view = content.search
    if view is None:
        return
    say(console, "")
    say(console, "Search", style="bold")
    found = findings(view)
    for finding in found:
        say(console, f"For the best {finding.objective}: {finding.headline}")
        for detail in finding.details:
            say(console, f"  {detail}")
    if not found:
        say(console, no_finding(view))
    for sentence in (stop_sentence(view), regret_sentence(view), budget_sentence(view)):
        say(console, sentence)


def _comparisons(content: ReportContent, console: Console) -> None:
    rows = [
        (
            objective_name(c.proposal.objective),
            numbers.score(c.measured, c.measured_stderr),
            hit_or_miss(c.inside_interval),
            numbers.mixture(c.best_known),
            numbers.score(c.best_known_measured, c.best_known_stderr),
            numbers.points(c.regret),
            c.verdict,
        )
        for c in content.comparisons
    ]
    heads = (
        "objective",
        "trained there",
        "prediction",
        "best known",
        "trained there",
        "regret",
        "proposal is",
    )
    missing = "No proposal has been trained yet."
    aligned_table(console, "Proposals put to the test", heads, rows, right={1, 4, 5}, missing=missing)
    for comparison in content.comparisons:
        if len(content.comparisons) > 1:
            say(console, f"Proposed for the best {objective_name(comparison.proposal.objective)}:")
        for sentence in sentences(comparison):
            say(console, sentence)


def aligned_table(
    console: Console,
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: set[int],
    missing: str,
) -> None:
    """Prints a table: a rich one in a terminal, aligned plain lines elsewhere.

    Args:
        console: Where to print.
        title: Heading.
        heads: Headings of the columns.
        rows: Cells as text.
        right: Columns that are set flush right.
        missing: What is said instead of an empty table.
    """
    say(console, "")
    say(console, title, style="bold")
    if not rows:
        say(console, missing)
    elif console.is_terminal:
        _rich_table(console, heads, rows, right)
    else:
        # Files and pipes have no width, so lines are never wrapped there.
        widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
        for row in (heads, *rows):
            cells = [
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            say(console, "  ".join(cells).rstrip())


def _rich_table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        # Text, not str: a name in square brackets must not be read as markup.
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Prints one line of text, in which brackets are no markup."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal)
