"""The tuning on the console and on the page."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from report_study import planted_study
from rich.console import Console

from flp_ray.core.tuning import Carried, Optimum, TrialReport, Tuning
from flp_ray.report import ReportContent, numbers, print_tuning
from flp_ray.report.page import render
from flp_ray.report.tuning_view import TrialLines


@pytest.fixture(scope="module")
def tuned() -> ReportContent:
    content = planted_study()
    base = content.specs[0]
    trials = tuple(replace(base, learning_rate=rate) for rate in (0.001, 0.004, 0.016, 0.3))
    report = TrialReport(run_id="", size=base.size, tokens=base.train_tokens, event="measured")
    half = base.train_tokens // 2
    reports = (
        replace(report, run_id=trials[0].run_id, tokens=half, loss=5.5),
        replace(report, run_id=trials[0].run_id, tokens=half, event="stopped"),
        replace(report, run_id=trials[1].run_id, tokens=half, loss=4.9),
        replace(report, run_id=trials[1].run_id, loss=4.25),
        replace(report, run_id=trials[2].run_id, loss=4.3125),
        replace(report, run_id=trials[3].run_id, tokens=0, event="diverged", reason="DivergedError: nan"),
    )
    optimum = Optimum(
        parameter="learning_rate",
        size=base.size,
        params=base.shape.non_embedding_params,
        train_tokens=base.train_tokens,
        value=0.0061,
        log_stderr=0.2,
        edge="high",
        trials=3,
        diverged=1,
    )
    carried = Carried(
        parameter="learning_rate",
        size="64-4",
        train_tokens=1_200_000,
        value=0.00321,
        low=0.0011,
        high=0.0094,
        tuned=False,
        stated=0.003,
    )
    tuning = Tuning(
        trials=trials,
        reports=reports,
        optima=(optimum,),
        carried=(replace(carried, size=base.size, value=0.0061, tuned=True), carried),
        formulas=(("learning_rate", "0.0061 (N / 25000)^-0.71"),),
        notes=("The best lies at the edge.",),
    )
    return replace(content, tuning=tuning)


def printed(tuning: Tuning | None) -> str:
    out = io.StringIO()
    print_tuning(tuning, Console(file=out, width=120))
    return out.getvalue().replace(numbers.THIN, " ")


def test_the_console_shows_value_interval_and_where_it_comes_from(tuned):
    lines = printed(tuned.tuning).splitlines()
    [line] = [line for line in lines if "carried" in line]
    assert " ".join(line.split()) == "learning rate 64-4 1.2 M 0.00321 0.00110 to 0.00940 0.00300 carried"
    assert any("at the high end of its range, 1 diverged" in line for line in lines)
    assert "Law of the learning rate: 0.0061 (N / 25000)^-0.71" in lines
    assert "Note: The best lies at the edge." in lines


def test_nothing_is_printed_before_there_is_something(tuned):
    assert printed(None) == ""
    assert printed(replace(tuned.tuning, optima=(), carried=(), formulas=())) == ""


def test_the_page_has_the_figure_and_every_trial(tuned):
    page = render(tuned).replace(numbers.THIN, " ")
    for name in ("tuning", "hyperparameters", "optima", "trials"):
        assert f'<section id="{name}">' in page
    trials = page.split('<section id="trials">')[1].split("</section>")[0]
    rows = [row for row in trials.split("<tr>") if "<td" in row]
    for row, state, loss in zip(
        rows,
        ("stopped", "finished", "finished", "diverged"),
        ("5.5000", "4.2500", "4.3125", numbers.MISSING),
        strict=True,
    ):
        assert state in row and loss in row
    assert "0.00110 to 0.00940" in page


def test_a_study_that_does_not_tune_has_no_such_section_and_one_that_has_not_yet_says_so(tuned):
    assert 'id="tuning"' not in render(replace(tuned, tuning=None))
    page = render(replace(tuned, tuning=Tuning(trials=tuned.tuning.trials)))
    assert "The trials have not ended." in page and "planned" in page


def test_a_line_an_event(tuned):
    out, tuning = io.StringIO(), tuned.tuning
    lines = TrialLines(tuning.trials, ("learning_rate",), Console(file=out, width=200))
    lines.started(tuning.trials[0])
    for report in tuning.reports:
        lines.reported(next(t for t in tuning.trials if t.run_id == report.run_id), report)
    lines.failed(tuning.trials[0], "killed", again=True)
    said = out.getvalue()
    for words in ("0.001: started", "0.001: loss 5.5000 at 50 %", "0.001: stopped at 50 %", "0.3: diverged: Diverged"):
        assert f"learning rate {words}" in said
    assert "tried again: killed" in said
