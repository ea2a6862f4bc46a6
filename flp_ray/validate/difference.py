"""Does one mixture score higher than another? A test over seeds that knows the evaluation noise. Pure.

A training's score differs from its mixture's expectation by the luck of the seed and by the luck of the questions.
Repeated trainings show both at once in their scatter, as far as the questions strike each training differently;
the binomial standard error of each score is recorded, and the scatter may by luck come out smaller than that. So
the interval of the difference is the wider of two:

    scatter      the two-sample interval of Student's t: the scatter around each side's mean is pooled over both sides
                 (they differ in a few ratios, not in size or recipe), with n - 1 degrees of freedom a side
    evaluation   the normal interval of the recorded evaluation errors by themselves

A difference counts if it is outside both, and the p-value is the larger of the two. As each of the two holds for the
noise that it knows, equal mixtures are told apart in at most 20 percent of cases: 16 percent where seeds and
evaluation scatter alike, 11 percent where seeds do not scatter at all (two trainings a side).

Evaluation errors are taken as independent from training to training. All trainings answer the same questions, and
what makes questions easy or hard for all of them cancels in the difference, which is on the safe side: single
answers are not stored, so how much cancels is not known. Not on the safe side is what the questions prefer in one of
the two mixtures, since it strikes all seeds of a side alike and more seeds do not average it away. In sum the interval
is wide enough for other questions of the same kind as long as the two mixtures' chances at a question correlate by
(n - 1) / n or more with n trainings a side; below that it holds for these very questions alone. On planted questions
and three trainings a side, 87 percent of equal mixtures are not told apart at a correlation of 0.9, 81 at 0.7, 77 at
0.5.

Reference: Welch 1947 and Student's pooled test; the union of two tests as in Berger 1982, intersection-union.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from flp_ray.core.prediction import INTERVAL_COVERAGE, DifferenceTest, Verdict

POWER = 0.8
"""With which probability the smallest detectable difference is told apart."""

UPPER = 0.5 + INTERVAL_COVERAGE / 2
"""The quantile that ends a two-sided interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The trainings at one mixture.

    Attributes:
        values: The objective's value of each training, at least one.
        stderrs: Standard error of each by evaluation alone; None where it is not known.
    """

    values: tuple[float, ...]
    stderrs: tuple[float | None, ...]

    @property
    def mean(self) -> float:
        """Mean over the trainings."""
        return math.fsum(self.values) / len(self.values)

    @property
    def squares(self) -> float:
        """Sum of squared differences from the mean."""
        mean = self.mean
        return math.fsum((v - mean) ** 2 for v in self.values)

    @property
    def evaluation_variance(self) -> float | None:
        """Variance of the mean by evaluation alone; None where an error is not known."""
        known = [e for e in self.stderrs if e is not None]
        if len(known) < len(self.values):
            return None
        return math.fsum(e * e for e in known) / len(known) ** 2

    @property
    def stderr(self) -> float | None:
        """Standard error of the mean: the larger of what evaluation and what this side's own scatter gives."""
        number, evaluation = len(self.values), self.evaluation_variance
        scatter = self.squares / (number - 1) / number if number > 1 else None
        known = [variance for variance in (evaluation, scatter) if variance is not None]
        return math.sqrt(max(known)) if known else None


def difference_test(proposal: Side, best_known: Side) -> DifferenceTest | None:
    """Tests whether the two sides' expectations differ.

    Args:
        proposal: Trainings at the proposal.
        best_known: Trainings at the mixture it is held against.

    Returns:
        The test; None where there is neither a scatter (one training a side) nor a recorded error. With one training a
        side it knows the evaluation noise alone, and takes the luck of the seed for the mixture's.
    """
    sides = (proposal, best_known)
    difference = proposal.mean - best_known.mean
    freedom = sum(len(side.values) - 1 for side in sides)
    evaluated = [side.evaluation_variance for side in sides]
    evaluation = None if None in evaluated else math.sqrt(math.fsum(v for v in evaluated if v is not None))
    scatter = math.sqrt(math.fsum(side.squares for side in sides) / freedom) if freedom else None
    found = []
    if evaluation is not None:
        found.append(_normal(difference, evaluation))
    if scatter is not None:
        error = scatter * math.sqrt(math.fsum(1 / len(side.values) for side in sides))
        found.append(_student(difference, error, freedom))
    if not found:
        return None
    half, p_value, detectable = (max(part) for part in zip(*found, strict=True))
    return DifferenceTest(
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=p_value,
        degrees_of_freedom=freedom,
        scatter=scatter,
        evaluation_stderr=evaluation,
        detectable=detectable,
    )


def verdict(test: DifferenceTest | None) -> Verdict:
    """The proposal is better or worse where the interval of the difference leaves 0 out."""
    if test is None or test.low <= 0 <= test.high:
        return "not distinguishable"
    return "better" if test.difference > 0 else "worse"


def _normal(difference: float, error: float) -> tuple[float, float, float]:
    """Half the interval, p-value and smallest detectable difference of a known error."""
    normal = NormalDist()
    detectable = (normal.inv_cdf(UPPER) + normal.inv_cdf(POWER)) * error
    return normal.inv_cdf(UPPER) * error, 2 * normal.cdf(-_ratio(difference, error)), detectable


def _student(difference: float, error: float, freedom: int) -> tuple[float, float, float]:
    """The same of an error that was estimated from this many degrees of freedom."""
    from scipy.special import nctdtrinc, stdtr, stdtrit  # here, since a plan does without scipy

    critical = float(stdtrit(freedom, UPPER))
    # The non-central t that passes the critical value with the wanted power.
    detectable = float(nctdtrinc(freedom, 1 - POWER, critical)) * error
    return critical * error, 2 * float(stdtr(freedom, -_ratio(difference, error))), detectable


def _ratio(difference: float, error: float) -> float:
    if error > 0:
        return abs(difference) / error
    return math.inf if difference else 0.0
