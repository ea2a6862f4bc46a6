"""What a search in rounds leaves behind: its decisions with their reasons, its answers, and how it got there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction

DecisionKind = Literal["start", "emergence", "value", "repeat", "check", "stop"]
"""Why a run was chosen.

`start`: the design before anything is known. `emergence`: no score has risen yet, so a larger size. `value`: it takes
the most off the expected regret per FLOP. `repeat`: the same, at a mixture and size that were trained before (noise,
not the mixture, is what is unknown). `check`: the law is held against another size before the search may end. `stop`:
no run; the search ends.
"""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision of a search: a run to train, or the end.

    Attributes:
        number: Place among the study's decisions, from 0.
        at: When it was made, Unix seconds.
        kind: Why, as a word.
        reason: Why, in a sentence.
        run_id: The run; None for `stop`.
        size: The run's size; None for `stop`.
        mixture: The run's mixture; None for `stop`.
        repeat: How many runs of this size and mixture were there before.
        flops: What the run costs.
        gain: What it is expected to take off the regret, score 0 to 1; None where nothing was reckoned.
        expected_regret: What taking the best mixture as known now is expected to lose at the target, score 0 to 1, the
            largest among the objectives; None while nothing can be predicted.
        spent_flops: FLOPs of all runs decided before.
        best: Best mixture for the first objective as known now; None while nothing can be predicted.
        fit_id: The fit that the decision was made from; None where there was none.
    """

    number: int
    at: float
    kind: DecisionKind
    reason: str
    run_id: str | None
    size: str | None
    mixture: Mixture | None
    repeat: int
    flops: float
    gain: float | None
    expected_regret: float | None
    spent_flops: float
    best: Mixture | None
    fit_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """What the search says for one objective.

    Attributes:
        objective: Its name.
        mixture: The best mixture that keeps the constraints.
        expected: The objective there, at the target.
        expected_regret: What taking it is expected to lose against the best one, score 0 to 1.
        confident: Whether that is within the tolerance; otherwise the search cannot tell.
        free_mixture: The best mixture without constraints; None where there are none.
        free_expected: The objective there.
        present: The mixture in use now; None where none was given.
        present_expected: The objective there.
        surely_better: Probability that the mixture is better than the present one, 0 to 1; None without one.
    """

    objective: str
    mixture: Mixture
    expected: Prediction
    expected_regret: float
    confident: bool
    free_mixture: Mixture | None = None
    free_expected: Prediction | None = None
    present: Mixture | None = None
    present_expected: Prediction | None = None
    surely_better: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixtureSurface:
    """One objective at the target over many mixtures; n of them over K sources.

    Attributes:
        objective: Its name.
        sources: Names, sorted.
        ratios: Mixing ratios, (n, K).
        mean: Predicted objective, 0 to 1, (n,).
        low: Lower end of the 80 percent interval of the law (no noise of a single run), (n,).
        high: Upper end, (n,).
        feasible: Whether the mixture keeps the constraints, (n,).
    """

    objective: str
    sources: tuple[str, ...]
    ratios: Array
    mean: Array
    low: Array
    high: Array
    feasible: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """A mixture that no other beats in every one of several objectives.

    Attributes:
        mixture: The mixture.
        expected: Prediction by objective.
    """

    mixture: Mixture
    expected: dict[str, Prediction]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchView:
    """Everything that status and report show of a search.

    Attributes:
        budget_flops: What the study may spend on training, validation included.
        spent_flops: FLOPs of all runs that were decided, finished or not.
        reserved_flops: Kept for validation that has not been trained yet.
        tolerance: Expected regret at which the search ends, score 0 to 1.
        decisions: In order.
        answers: One an objective that can be predicted.
        surfaces: One an objective; empty while nothing can be predicted.
        front: The Pareto front of the objectives in `front_objectives`; empty where none was asked for.
        front_objectives: Their names.
    """

    budget_flops: float
    spent_flops: float
    reserved_flops: float
    tolerance: float
    decisions: tuple[Decision, ...]
    answers: tuple[SearchAnswer, ...]
    surfaces: tuple[MixtureSurface, ...]
    front: tuple[FrontPoint, ...] = ()
    front_objectives: tuple[str, ...] = ()

    @property
    def stopped(self) -> str | None:
        """Why the search ended, in words; None while it goes on."""
        last = self.decisions[-1] if self.decisions else None
        return last.reason if last is not None and last.kind == "stop" else None
