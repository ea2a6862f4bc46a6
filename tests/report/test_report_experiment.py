from __future__ import annotations

from dataclasses import replace

import pytest
from report_study import BEGAN, WRITTEN

from flp_ray.core.prediction import Comparison, DifferenceTest, Outcome, Prediction
from flp_ray.report import ReportContent, numbers
from flp_ray.report.experiment import count_sentence, difference_sentence, prediction_sentence
from flp_ray.report.experiment_tables import comparison_table, outcome_table

TEST = DifferenceTest(
    difference=0.025,
    low=0.011,
    high=0.039,
    p_value=0.0312,
    degrees_of_freedom=4,
    scatter=0.01,
    evaluation_stderr=0.008,
    detectable=0.0234,
)


def plain(text: str) -> str:
    return text.replace(numbers.THIN, " ")


@pytest.fixture
def comparison(study: ReportContent) -> Comparison:
    """62.6 percent where 60.0 to 62.8 were predicted, three trainings a side."""
    first = study.main_comparisons[0]
    expected = Prediction(mean=0.614, low=0.600, high=0.628, extrapolated=False)
    return replace(
        first,
        proposal=replace(first.proposal, expected=expected),
        measured=0.626,
        inside_interval=True,
        verdict="better",
        test=TEST,
        expected_difference=0.021,
        runs=3,
        best_known_runs=3,
        planned=3,
        best_known_source="validation",
    )


def test_a_hit_is_stated_with_both_times(comparison: Comparison) -> None:
    assert plain(prediction_sentence(comparison)) == (
        "Prediction: hit, 62.6 in 60.0 to 62.8 %; written down 2026-01-01 00:03:11, training began 00:03:15 UTC."
    )


def test_a_miss_shows_on_which_side_it_lies(comparison: Comparison) -> None:
    missed = replace(comparison, measured=0.62803, inside_interval=False)
    assert "miss, 62.803 outside 60.000 to 62.800 %" in plain(prediction_sentence(missed))
    assert "miss, 62.9 outside 60.0 to 62.8 %" in plain(prediction_sentence(replace(missed, measured=0.629)))


def test_times_that_are_not_known_are_left_out_and_a_late_prediction_is_called_so(comparison: Comparison) -> None:
    assert prediction_sentence(replace(comparison, written=None)).endswith("%.")
    late = prediction_sentence(replace(comparison, written=BEGAN, began=WRITTEN))
    assert "had begun before it was written down" in late
    assert "before" not in prediction_sentence(comparison)
    other_day = prediction_sentence(replace(comparison, began=BEGAN + 86_400))
    assert "training began 2026-01-02 00:03:15 UTC" in other_day


def test_hits_are_counted_beside_the_nominal_share(comparison: Comparison) -> None:
    def outcome(kind: str, measured: float, inside: int, runs: int) -> Outcome:
        expected = Prediction(mean=0.5, low=0.4, high=0.6, extrapolated=False)
        return Outcome(kind=kind, name="n", expected=expected, measured=measured, runs=runs, inside=inside)

    one = (outcome("objective", 0.7, 0, 1), outcome("performance", 0.5, 1, 1), outcome("domain_loss", 0.5, 1, 1))
    said = plain(count_sentence(replace(comparison, outcomes=one)))
    assert said == "2 of 3 predictions hit (the objective not, 1 of 1 task, 1 of 1 domain); 80 % would be 2.4."
    three = (outcome("objective", 0.5, 2, 3), outcome("domain_loss", 0.5, 3, 3))
    said = plain(count_sentence(replace(comparison, outcomes=three)))
    assert "2 of 2 predictions hit" in said
    assert "of the values of single trainings 5 of 6 lie inside; 80 % would be 4.8." in said
    assert count_sentence(replace(comparison, outcomes=())) == ""


def test_the_difference_comes_with_interval_chance_and_power(comparison: Comparison) -> None:
    said = plain(difference_sentence(comparison))
    assert "+2.5 points (80 % interval +1.1 to +3.9, p = 0.031; predicted +2.1 points), better." in said
    assert "Trainings: 3 at the proposal, 3 at the best known mixture." in said
    assert "A true difference of 2.3 points would have been told apart in 80 % of cases." in said
    assert "seed changes" not in said
    assert "p < 0.001" in difference_sentence(replace(comparison, test=replace(TEST, p_value=1e-9)))


def test_missing_trainings_and_single_ones_are_said(comparison: Comparison) -> None:
    missing = difference_sentence(replace(comparison, runs=2, best_known_runs=1))
    assert "2 of 3 at the proposal, 1 of 3 at the best known mixture; the others have failed" in missing
    single = replace(
        comparison,
        runs=1,
        best_known_runs=1,
        planned=1,
        best_known_source="sampling",
        test=replace(TEST, degrees_of_freedom=0, scatter=None),
    )
    said = difference_sentence(single)
    assert "1 at the proposal, 1 of the sampling runs at the best known mixture." in said
    assert "one training a side does not show what a seed changes" in said
    assert "cannot be judged" in difference_sentence(replace(single, test=None, verdict="not distinguishable"))


def test_the_tables_show_every_comparison_and_every_prediction(study: ReportContent) -> None:
    compared, shown = comparison_table(study), outcome_table(study)
    assert len(compared.rows) == len(study.comparisons)
    assert len(shown.rows) == sum(len(c.outcomes) for c in study.comparisons)
    for table in (compared, shown):
        assert {len(row) for row in table.rows} == {len(table.columns)}
    # The mean, its three tasks and five domains; the task, the other two and five domains.
    assert len(shown.rows) == 9 + 8
    assert {row[4] for row in shown.rows} <= {"hit", "miss"}
