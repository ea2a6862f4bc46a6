"""A search in sentences: what it found, what it spent, why it chose a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.report import numbers
from flp_ray.report.experiment import objective_name

if TYPE_CHECKING:
    from flp_ray.core.search import DecisionKind, SearchAnswer, SearchView

_SPELLED_OUT = 6
"""Sources that a short text names; the rest of more is summed up."""

KIND_WORDS: dict[DecisionKind, str] = {
    "start": "starting design, before anything is known",
    "emergence": "no score has risen yet: a larger size",
    "value": "takes most off the regret per FLOP",
    "repeat": "noise, not the mixture, is what is unknown",
    "check": "holds the law against another size",
    "stop": "the search ends",
}
"""What a kind of decision means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the search says for one objective.

    Attributes:
        objective: As a reader says it.
        headline: The answer, or that there is none.
        details: What stands behind it, one sentence an entry.
        confident: Whether the headline stands.
    """

    objective: str
    headline: str
    details: tuple[str, ...]
    confident: bool


def findings(view: SearchView) -> tuple[Finding, ...]:
    """What the search says, one entry an objective; empty while nothing can be predicted."""
    return tuple(
        Finding(
            objective=objective_name(answer.objective),
            headline=_headline(answer, view.tolerance),
            details=(_expected_sentence(answer), *_present_sentence(answer), *_free_sentence(answer)),
            confident=answer.confident,
        )
        for answer in view.answers
    )


def no_finding(view: SearchView) -> str:
    """What is said in place of a finding."""
    if not view.decisions:
        return "The search has not decided on a run yet."
    return "Nothing can be predicted yet: the runs so far do not carry a fit."


def budget_sentence(view: SearchView) -> str:
    """FLOPs spent, kept and left."""
    total = view.budget_flops
    parts = [f"{numbers.power(view.spent_flops)} of {numbers.power(total)} FLOPs spent"]
    if total > 0:
        parts[0] += f" ({numbers.percent(view.spent_flops / total, 2)})"
    if view.reserved_flops > 0:
        parts.append(f"{numbers.power(view.reserved_flops)} kept for validation")
    left = total - view.spent_flops - view.reserved_flops
    if left > 0:
        parts.append(f"{numbers.power(left)} left")
    elif left < -1e-9 * total:
        parts.append(f"{numbers.power(-left)} more than the budget")
    return ", ".join(parts) + "."


def regret_sentence(view: SearchView) -> str:
    """The expected regret as it is now, beside the tolerance."""
    regret = present_regret(view)
    ends = f"the search ends at {lost(view.tolerance)}"
    if regret is None:
        return f"The expected regret is not known yet; {ends}."
    return f"Expected regret now: {lost(regret)}; {ends}."


def stop_sentence(view: SearchView) -> str:
    """Why the search ended, or that it goes on."""
    if view.stopped is None:
        return "The search goes on."
    return f"The search ended: {view.stopped}" + ("" if view.stopped.endswith(".") else ".")


def present_regret(view: SearchView) -> float | None:
    """Expected regret as last reckoned, score 0 to 1, summed over the objectives; None while nothing is known."""
    for decision in reversed(view.decisions):
        if decision.expected_regret is not None:
            return decision.expected_regret
    return sum(a.expected_regret for a in view.answers) if view.answers else None


def lost(regret: float | None) -> str:
    """A loss of score in percentage points, without a sign."""
    return numbers.MISSING if regret is None else f"{numbers.significant(100 * regret, 2)} points"


def short_mixture(mixture: Mixture | None) -> str:
    """A mixture in one line; of many sources the smaller shares are summed up."""
    if mixture is None or len(mixture.sources) <= _SPELLED_OUT:
        return numbers.mixture(mixture)
    shares = sorted(mixture.as_dict().items(), key=lambda item: (-item[1], item[0]))
    named, rest = shares[: _SPELLED_OUT - 1], shares[_SPELLED_OUT - 1 :]
    text = ", ".join(f"{numbers.share(ratio)} {source}" for source, ratio in named)
    return f"{text}, {numbers.share(math.fsum(r for _, r in rest))} {len(rest)} others"


def score_with_interval(prediction: Prediction) -> str:
    """A predicted score with its 80 percent interval."""
    text = f"{numbers.score(prediction.mean)} (80{numbers.THIN}% interval {numbers.score_interval(prediction)})"
    return f"{text}, beyond what the laws were fitted on" if prediction.extrapolated else text


def _headline(answer: SearchAnswer, tolerance: float) -> str:
    where = short_mixture(answer.mixture)
    if answer.confident:
        return f"Train at {where}; expected to lose {lost(answer.expected_regret)} against the best mixture."
    return (
        f"Cannot tell: the best mixture known, {where}, is expected to lose {lost(answer.expected_regret)} "
        f"against the best one, and the search was to come down to {lost(tolerance)}."
    )


def _expected_sentence(answer: SearchAnswer) -> str:
    return f"Expected there: {score_with_interval(answer.expected)}."


def _present_sentence(answer: SearchAnswer) -> tuple[str, ...]:
    if answer.present is None:
        return ()
    if answer.present == answer.mixture:
        return ("That is the mixture in use now.",)
    text = f"The mixture in use now, {short_mixture(answer.present)}"
    if answer.present_expected is None:
        return (f"{text}, cannot be predicted.",)
    text += f", is expected to give {numbers.score(answer.present_expected.mean)}"
    text += f", {_more_or_less(answer.present_expected.mean - answer.expected.mean)}"
    if answer.surely_better is not None:
        text += f"; the search's is the better one with probability {_chance(answer.surely_better)}"
    return (f"{text}.",)


def _free_sentence(answer: SearchAnswer) -> tuple[str, ...]:
    if answer.free_mixture is None:
        return ()
    if answer.free_mixture == answer.mixture:
        return ("The constraints cost nothing: the best mixture without them is the same.",)
    text = f"Without the constraints the best mixture would be {short_mixture(answer.free_mixture)}"
    if answer.free_expected is not None:
        text += f", expected to give {numbers.score(answer.free_expected.mean)}"
        text += f", {_more_or_less(answer.free_expected.mean - answer.expected.mean)}"
    return (f"{text}.",)


def _more_or_less(difference: float) -> str:
    if abs(difference) < 5e-5:
        return "the same"
    return f"{lost(abs(difference))} {'more' if difference > 0 else 'less'}"


def _chance(probability: float) -> str:
    if probability > 0.995:
        return f"over 99{numbers.THIN}%"
    if probability < 0.005:
        return f"under 1{numbers.THIN}%"
    return numbers.percent(probability, 2)
