from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flp_ray.report import ReportContent, numbers, print_summary

PATH = Path("study") / "report.html"


def printed(content: ReportContent, *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system="standard" if terminal else None)
    print_summary(content, console, PATH)
    return out.getvalue().replace(numbers.THIN, " ")


def test_plain_output_has_laws_proposals_verdict_and_path(study: ReportContent) -> None:
    text = printed(study, terminal=False)
    assert "\x1b" not in text
    for line in study.surrogate.lines() if study.surrogate else ():
        assert any(row.startswith(line.name) and row.endswith(line.formula) for row in text.splitlines())
    assert "0.740 %" in text
    proposal, comparison = study.proposals[0], study.comparisons[0]
    assert numbers.score_interval(proposal.expected).replace(numbers.THIN, " ") in text
    assert numbers.score(comparison.measured, comparison.measured_stderr).replace(numbers.THIN, " ") in text
    assert (
        numbers.score(comparison.best_known_measured, comparison.best_known_stderr).replace(numbers.THIN, " ") in text
    )
    assert comparison.verdict in text
    assert "Prediction: " in text and "written down 2026-01-01 00:03:11, training began 00:03:15 UTC" in text
    assert text.rstrip().endswith(f"Report: {PATH}")


def test_a_terminal_gets_tables(study: ReportContent) -> None:
    text = printed(study, terminal=True)
    assert "─" in text and "\x1b[" in text


def test_missing_parts_are_said_in_words() -> None:
    text = printed(ReportContent(study="demo"), terminal=False)
    for words in ("No law has been fitted.", "No mixture has been proposed.", "nothing has been measured"):
        assert words in text


def test_names_in_brackets_are_not_markup(study: ReportContent) -> None:
    named = replace(study.proposals[0], objective="[bold]x[/bold]")
    content = replace(study, proposals=(named,), comparisons=(), notes=("[red]note[/red]",))
    for terminal in (False, True):
        text = printed(content, terminal=terminal)
        assert "[bold]x[/bold]" in text and "[red]note[/red]" in text
