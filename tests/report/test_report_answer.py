from __future__ import annotations

from dataclasses import replace

import pytest
from report_study import TASKS, PlantedSurrogate, planted_study

from flp_ray.core.records import Records
from flp_ray.report import ReportContent, RunRow, numbers
from flp_ray.report.answer import Answer, answer
from flp_ray.report.series import objective_value


def words(said: Answer) -> str:
    rows = [f"{r.label} {r.score} {r.note}" for r in said.rows]
    parts = [said.question, said.headline, said.detail, *rows, *said.sure, *said.known, *said.caveats]
    return " ".join(parts).replace(numbers.THIN, " ")


def judged(study: ReportContent, verdict: str, measured: float, inside: bool = True) -> ReportContent:
    first = study.main_comparisons[0]
    gap = first.best_known_measured - measured
    changed = replace(first, verdict=verdict, measured=measured, regret=gap, inside_interval=inside)
    return replace(study, comparisons=(changed, *study.comparisons[1:]))


def test_better_names_the_mixture_first(study: ReportContent) -> None:
    said = answer(judged(study, "better", study.main_comparisons[0].best_known_measured + 0.02))
    assert said.headline.replace(numbers.THIN, " ") == "Train on 76 % general, 24 % code."
    assert said.tone == "sure"
    assert "+2.0 points" in said.detail and "larger than its noise" in said.detail
    assert "regret −2.0 points: the proposal is better" in words(said)


def test_worse_stays_with_the_grid(study: ReportContent) -> None:
    said = answer(judged(study, "worse", study.main_comparisons[0].best_known_measured - 0.03))
    assert said.headline.replace(numbers.THIN, " ") == "Stay with the best known mixture: 80 % general, 20 % code."
    assert "regret +3.0 points: the proposal is worse" in words(said)


def test_not_distinguishable_is_said_first(study: ReportContent) -> None:
    said = answer(judged(study, "not distinguishable", study.main_comparisons[0].best_known_measured))
    assert said.headline.startswith("Cannot tell")
    assert said.tone == "unsure"


def test_a_proposal_that_is_the_best_known_mixture_is_not_held_against_itself(study: ReportContent) -> None:
    one = replace(study.main_comparisons[0], verdict="same mixture", test=None)
    said = answer(replace(study, comparisons=(one,)))
    assert said.headline.replace(numbers.THIN, " ") == "Train on 76 % general, 24 % code."
    assert "proposes the best known mixture itself" in said.detail
    assert "nothing to compare it with" in words(said)
    assert [row.label for row in said.rows] == ["Proposed, predicted", "Proposed, trained"]


def test_a_proposal_without_anything_beside_it_still_has_its_hit_or_miss(study: ReportContent) -> None:
    one = replace(
        study.main_comparisons[0],
        verdict="not compared",
        note="no finished sampling run of 64-4",
        test=None,
        best_known_measured=None,
        best_known_stderr=None,
        regret=None,
    )
    said = answer(replace(study, comparisons=(one,)))
    assert "nothing to compare it with" in said.headline and said.tone == "unsure"
    assert "No finished sampling run of 64-4." in said.detail
    assert "Prediction: " in words(said)


def test_several_trainings_are_named_beside_their_mean(study: ReportContent) -> None:
    one = replace(study.main_comparisons[0], runs=3, best_known_runs=3, planned=3, best_known_source="validation")
    said = answer(replace(study, comparisons=(one,)))
    assert "mean of 3 seeds" in said.rows[1].note
    assert "Trainings: 3 at the proposal, 3 at the best known mixture." in words(said)


def test_seeds_that_disagree_are_not_averaged_away(study: ReportContent) -> None:
    one = study.main_comparisons[0]
    both = (
        replace(one, verdict="better"),
        replace(one, run_id="other", verdict="worse", measured=one.measured - 0.02),
    )
    said = answer(replace(study, comparisons=both))
    assert said.headline.startswith("Cannot tell")
    assert "seeds disagree" in words(said) and "mean of 2 seeds" in words(said)
    assert numbers.score(one.measured - 0.01)[:4] in said.rows[1].score


def test_a_value_outside_the_interval_is_a_caveat(study: ReportContent) -> None:
    gave = study.main_comparisons[0].measured
    assert "outside the predicted" in words(answer(judged(study, "worse", gave, inside=False)))
    assert "outside the predicted" not in words(answer(judged(study, "worse", gave, inside=True)))


def test_the_first_screen_says_how_sure_and_how_known(study: ReportContent) -> None:
    text = words(answer(study))
    assert "Which mixture for 64-4 (1.2 M tokens)?" in text
    assert "18 small runs (3 sizes, 6 mixtures)" in text
    checkpoints = len(study.records.of_purpose("sampling").checkpoints())
    assert f"{checkpoints} measured checkpoints" in text
    assert "0.740 % for losses and 2.10 % for scores" in text
    assert "Any share of code from" in text


def test_untrained_and_extrapolated_say_so(study: ReportContent) -> None:
    untrained = answer(replace(study, comparisons=()))
    assert "not yet trained" in untrained.headline and untrained.tone == "unsure"
    far = replace(study.proposals[0], expected=replace(study.proposals[0].expected, extrapolated=True))
    said = answer(replace(study, comparisons=(), proposals=(far,)))
    assert said.headline.startswith("Extrapolated")
    assert "extrapolated" in " ".join(said.caveats)


def test_nothing_emerged_is_refused_with_the_reasons(study: ReportContent) -> None:
    law = PlantedSurrogate(hidden_tasks=dict.fromkeys(TASKS, "0 checkpoints above chance"))
    said = answer(replace(study, surrogate=law, proposals=(), comparisons=()))
    assert said.headline == "Cannot tell: no task has emerged."
    assert all(task in said.detail for task in TASKS)


def test_a_task_that_has_not_emerged_is_named_beside_the_answer() -> None:
    said = answer(planted_study(PlantedSurrogate(hidden_tasks={"word-order": "2 checkpoints above chance"})))
    assert "word-order (2 checkpoints above chance)" in " ".join(said.caveats)


@pytest.mark.parametrize("missing", ["everything", "measurements", "fit", "proposal"])
def test_a_study_in_progress_says_what_is_missing(study: ReportContent, missing: str) -> None:
    content = {
        "everything": ReportContent(study="demo"),
        "measurements": ReportContent(study="demo", specs=study.specs),
        "fit": replace(study, surrogate=None, proposals=(), comparisons=()),
        "proposal": replace(study, proposals=(), comparisons=()),
    }[missing]
    expected = {
        "everything": "nothing has been measured",
        "measurements": "nothing has been measured",
        "fit": "no law has been fitted",
        "proposal": "no mixture has been proposed",
    }[missing]
    said = answer(content)
    assert expected in said.headline
    assert said.tone == "none"


def test_failed_runs_are_counted(study: ReportContent) -> None:
    failed = RunRow(run_id="x", state="failed", reason="loss is not a number")
    assert "1 run failed" in words(answer(replace(study, run_states=(*study.run_states, failed))))


def test_the_mean_weighs_tasks_and_needs_them_all(study: ReportContent) -> None:
    weighted = replace(study, weights={"code-syntax": 3.0})
    end = study.records.final_checkpoints()[0]
    value, error = objective_value(weighted, end, "mean") or (0.0, None)
    scores = end.performance
    expected = (3 * scores["code-syntax"] + scores["continuation-general"] + scores["word-order"]) / 5
    # Sums of three doubles in another order.
    assert value == pytest.approx(expected, abs=1e-12)
    assert error is not None and 0 < error < max(end.stderr.values())
    assert objective_value(weighted, replace(end, performance={"code-syntax": 0.9}), "mean") is None


def test_unfinished_runs_are_not_shown_as_ends(study: ReportContent) -> None:
    from flp_ray.report.series import end_checkpoints

    run = study.records.runs[0]
    half = tuple(m for m in study.records.measurements if m.run_id != run.run_id or m.tokens < run.train_tokens / 2)
    records = Records(runs=study.records.runs, measurements=half, tasks=study.records.tasks)
    assert run.run_id not in {c.run.run_id for c in end_checkpoints(records)}
    assert len(end_checkpoints(records)) == len(study.records.runs) - 1
