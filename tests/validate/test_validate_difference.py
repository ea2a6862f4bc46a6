"""The test of the difference on planted truth: how often it is right, and against textbook values."""

import math

import numpy as np
import pytest
from scipy import stats

from flp_ray.validate.difference import Side, difference_test, verdict

EVALUATION = 0.01
DRAWS = 4000
# Two standard errors of a share near 0.8 over DRAWS draws; a fixed seed, so nothing flickers.
SLACK = 2 * math.sqrt(0.8 * 0.2 / DRAWS)


def side(values, stderr=EVALUATION):
    return Side(values=tuple(values), stderrs=(stderr,) * len(values))


def verdicts(difference, seeds, runs, stderr=EVALUATION):
    """Verdicts over many draws: true scores differ, seeds scatter, questions scatter as their errors say."""
    chance = np.random.default_rng(7)
    spread = math.hypot(seeds, EVALUATION)
    here = 0.6 + difference + spread * chance.standard_normal((DRAWS, runs))
    there = 0.6 + spread * chance.standard_normal((DRAWS, runs))
    return [verdict(difference_test(side(a, stderr), side(b, stderr))) for a, b in zip(here, there, strict=True)]


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_equal_mixtures_are_not_told_apart_in_80_percent_of_draws(runs):
    # Seeds that scatter three times as much as the questions: the recorded errors play no part.
    found = verdicts(0.0, 3 * EVALUATION, runs)
    share = found.count("not distinguishable") / DRAWS
    assert 0.8 - SLACK <= share <= 0.83
    # The errors that remain fall on both sides alike.
    assert abs(found.count("better") - found.count("worse")) <= 4 * math.sqrt(0.2 * DRAWS)


@pytest.mark.parametrize(("seeds", "highest"), [(0.0, 0.90), (EVALUATION, 0.86)])
def test_where_questions_scatter_most_the_test_errs_on_the_safe_side(seeds, highest):
    share = verdicts(0.0, seeds, 2).count("not distinguishable") / DRAWS
    assert 0.8 - SLACK <= share <= highest


def test_the_scatter_alone_would_be_believed_too_often_if_it_ignored_the_questions():
    # All seeds give the same score by luck of few questions: without the recorded errors any difference would count.
    lucky = difference_test(side([0.60, 0.60]), side([0.601, 0.601]))
    assert verdict(lucky) == "not distinguishable"
    assert verdict(difference_test(side([0.60, 0.60], None), side([0.601, 0.601], None))) == "worse"


def answered(own_share, runs, questions=300, draws=1500):
    """Share of draws not told apart when all trainings answer the same questions, drawn anew for each draw.

    Both mixtures have the same expectation over all questions; `own_share` is how much of what makes a question easy
    is a mixture's own rather than common to both.
    """
    chance = np.random.default_rng(11)
    common = chance.standard_normal((draws, 1, questions))
    own = chance.standard_normal((draws, 2, questions))
    ease = stats.norm.cdf(0.3 + 1.5 * (math.sqrt(1 - own_share) * common + math.sqrt(own_share) * own))
    scores = chance.binomial(1, ease[:, :, None, :].repeat(runs, axis=2)).mean(axis=3)
    errors = np.sqrt(scores * (1 - scores) / questions)
    sides = [
        [Side(values=tuple(v), stderrs=tuple(e)) for v, e in zip(*d, strict=True)]
        for d in zip(scores, errors, strict=True)
    ]
    return sum(verdict(difference_test(*pair)) == "not distinguishable" for pair in sides) / draws


def test_the_same_questions_on_both_sides_leave_the_test_on_the_safe_side():
    # The two mixtures' chances correlate by about 0.9, above the (n - 1) / n that the module's text asks for.
    assert answered(0.1, runs=3) >= 0.8


def test_questions_that_prefer_a_mixture_are_what_more_seeds_cannot_average_away():
    # No correlation at all: the verdict holds for these questions alone, as the module's text says.
    assert answered(1.0, runs=5) < 0.7


def test_a_large_difference_is_found():
    assert verdicts(0.2, EVALUATION, 3).count("better") > 0.99 * DRAWS
    assert verdicts(-0.2, EVALUATION, 3).count("worse") > 0.99 * DRAWS


@pytest.mark.parametrize(("seeds", "stderr"), [(3 * EVALUATION, None), (0.0, EVALUATION)])
def test_the_detectable_difference_is_found_in_80_percent_of_draws(seeds, stderr):
    # With the true scatter in the place of the estimated one, by n = 9, where the two are near each other.
    runs, spread = 9, math.hypot(seeds, EVALUATION)
    scattered = spread * np.array([-1, 1, -1, 1, -1, 1, -1, 1, 0])  # variance 1
    known = difference_test(side(0.6 + scattered, stderr), side(0.6 + scattered, stderr))
    assert known is not None
    share = verdicts(known.detectable, seeds, runs, stderr).count("better") / DRAWS
    # Where the wider of two intervals decides, a little power is lost.
    assert 0.74 <= share <= 0.8 + SLACK


def test_the_scatter_part_is_students_pooled_test():
    here, there = [0.61, 0.66, 0.64], [0.58, 0.55]
    found = difference_test(side(here, None), side(there, None))
    book = stats.ttest_ind(here, there)
    interval = book.confidence_interval(0.8)
    assert found is not None
    assert found.degrees_of_freedom == 3
    assert found.difference == pytest.approx(np.mean(here) - np.mean(there))
    assert found.p_value == pytest.approx(book.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.evaluation_stderr is None


def test_the_interval_is_never_narrower_than_the_evaluation_noise():
    found = difference_test(side([0.60, 0.6001]), side([0.60, 0.6001]))
    # 1.2816 standard normal deviations of sqrt(2) / sqrt(2) hundredths.
    assert found is not None
    assert found.high == pytest.approx(1.2816 * EVALUATION, rel=1e-4)
    assert found.evaluation_stderr == pytest.approx(EVALUATION)
    assert found.p_value == pytest.approx(1)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(0.0, "not distinguishable"), (0.0181, "not distinguishable"), (0.0182, "better"), (-0.0182, "worse")],
)
def test_one_training_a_side_is_judged_by_the_evaluation_noise(difference, expected):
    # 1.2816 standard normal deviations of hypot(0.01, 0.01).
    found = difference_test(side([0.5 + difference]), side([0.5]))
    assert found is not None
    assert verdict(found) == expected
    assert (found.degrees_of_freedom, found.scatter) == (0, None)
    assert found.detectable == pytest.approx((1.28155 + 0.84162) * 0.0141421, rel=1e-4)


def test_without_scatter_and_errors_there_is_no_test():
    assert difference_test(side([0.9], None), side([0.1])) is None
    assert verdict(None) == "not distinguishable"


def test_p_value_and_interval_agree():
    chance = np.random.default_rng(1)
    for _ in range(200):
        found = difference_test(
            side(0.6 + 0.02 * chance.standard_normal(3)), side(0.61 + 0.02 * chance.standard_normal(2))
        )
        assert found is not None
        assert (found.p_value < 0.2) == (verdict(found) != "not distinguishable")
