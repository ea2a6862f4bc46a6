"""The validation as an experiment, in words and tables: hit or miss, and whether the proposal was worth it."""

from __future__ import annotations

from datetime import UTC, datetime

from flp_ray.core.prediction import Comparison, DifferenceTest, Outcome
from flp_ray.report import numbers
from flp_ray.report.content import MEAN

NOMINAL = 0.8
"""Share of single trainings that an interval should hold."""


def objective_name(objective: str) -> str:
    """An objective as a reader says it."""
    return "mean score" if objective == MEAN else objective


def hit_or_miss(inside: bool) -> str:
    """A prediction's fate in one word."""
    return "hit" if inside else "miss"


def prediction_sentence(comparison: Comparison) -> str:
    """Hit or miss of the objective, with the times that show which came first."""
    expected = comparison.proposal.expected
    values = [100 * value for value in (comparison.measured, expected.low, expected.high)]
    # As many decimals as it takes to see on which side of an end the value lies.
    digits = next((n for n in (1, 2, 3) if f"{values[0]:.{n}f}" not in [f"{v:.{n}f}" for v in values[1:]]), 1)
    measured, low, high = (f"{v:.{digits}f}".replace("-", "−") for v in values)
    where = "in" if comparison.inside_interval else "outside"
    said = f"Prediction: {hit_or_miss(comparison.inside_interval)}, {measured} {where} {low} to {high}{numbers.THIN}%"
    if comparison.written is None or comparison.began is None:
        return f"{said}."
    written, began = (datetime.fromtimestamp(t, UTC) for t in (comparison.written, comparison.began))
    later = f"{began:%H:%M:%S}" if began.date() == written.date() else f"{began:%Y-%m-%d %H:%M:%S}"
    said += f"; written down {written:%Y-%m-%d %H:%M:%S}, training began {later} UTC."
    if began < written:
        said += " Training there had begun before it was written down; the fit does not know these runs."
    return said


def count_sentence(comparison: Comparison) -> str:
    """How many predictions hit, beside how many should; empty where they were not kept."""
    found = comparison.outcomes
    if not found:
        return ""
    parts = ["the objective"]
    for kind, noun in (("performance", "task"), ("domain_loss", "domain")):
        of_kind = [o for o in found if o.kind == kind]
        if of_kind:
            parts.append(f"{sum(o.hit for o in of_kind)} of {numbers.count(len(of_kind), noun)}")
    parts[0] += "" if found[0].hit else " not"
    said = f"{sum(o.hit for o in found)} of {numbers.count(len(found), 'prediction')} hit ({', '.join(parts)})"
    single, inside = sum(o.runs for o in found), sum(o.inside for o in found)
    if single > len(found):
        said += f"; of the values of single trainings {inside} of {single} lie inside"
    return f"{said}; 80{numbers.THIN}% would be {NOMINAL * single:.1f}."


def difference_sentence(comparison: Comparison) -> str:
    """How the proposal did beside the best known mixture, and what the design could have seen."""
    test = comparison.test
    if comparison.verdict == "same mixture":
        return "The proposal is the best known mixture itself: there is nothing to compare it with."
    if comparison.verdict == "not compared":
        return f"There is nothing to compare it with: {comparison.note}."
    if test is None:
        return "No standard error is known, so the difference to the best known mixture cannot be judged."
    guess = comparison.expected_difference
    predicted = f"; predicted {numbers.points(guess)}" if guess is not None else ""
    said = (
        f"Difference to the best known mixture: {numbers.points(test.difference)} ({interval(test)}, "
        f"{p_value(test)}{predicted}), {comparison.verdict}. {trainings_sentence(comparison)} A true difference of "
        f"{numbers.points(test.detectable).lstrip('+')} would have been told apart in 80{numbers.THIN}% of cases."
    )
    if test.degrees_of_freedom == 0:
        said += " The interval holds the evaluation noise alone: one training a side does not show what a seed changes."
    return said


def trainings_sentence(comparison: Comparison) -> str:
    """How many trainings stand behind each side, and how many of those planned are missing."""
    planned = comparison.planned
    missing = planned is not None and comparison.runs < planned
    here = f"{comparison.runs} of {planned}" if missing else f"{comparison.runs}"
    there = f"{comparison.best_known_runs}"
    if comparison.best_known_source == "sampling":
        there += " of the sampling runs"
    elif planned is not None and comparison.best_known_runs < planned:
        there += f" of {planned}"
        missing = True
    said = f"Trainings: {here} at the proposal, {there} at the best known mixture"
    return f"{said}; the others have failed or are not finished." if missing else f"{said}."


def sentences(comparison: Comparison) -> tuple[str, ...]:
    """All that is said of one comparison."""
    found = (prediction_sentence(comparison), count_sentence(comparison), difference_sentence(comparison))
    return tuple(sentence for sentence in found if sentence)


def interval(test: DifferenceTest | None) -> str:
    """The difference's 80 percent interval."""
    if test is None:
        return numbers.MISSING
    low, high = (numbers.points(end).removesuffix(" points") for end in (test.low, test.high))
    return f"80{numbers.THIN}% interval {low} to {high}"


def p_value(test: DifferenceTest | None) -> str:
    """The p-value, to two digits."""
    if test is None:
        return numbers.MISSING
    return "p < 0.001" if test.p_value < 0.001 else f"p = {numbers.significant(test.p_value, 2)}"


def measured(outcome: Outcome) -> str:
    """An outcome's measured value, in its unit."""
    if outcome.kind == "domain_loss":
        return numbers.significant(outcome.measured)
    return numbers.score(outcome.measured)


def predicted(outcome: Outcome) -> str:
    """An outcome's prediction with its interval, in its unit."""
    if outcome.kind == "domain_loss":
        return f"{numbers.significant(outcome.expected.mean)} ({numbers.loss_interval(outcome.expected)})"
    return f"{numbers.score(outcome.expected.mean)} ({numbers.score_interval(outcome.expected)})"
