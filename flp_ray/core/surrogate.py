"""What the search, the validation and the report need of a fitted law, whatever its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLine:
    """One fitted law, for tables.

    Attributes:
        stage: `loss` (FLOPs to domain loss) or `performance` (losses or FLOPs to score).
        method: `flp-m`, `flp` or `fp`.
        name: The domain or the task.
        formula: The law with its fitted numbers, as text.
        parameters: Fitted numbers by name.
        observations: Points it was fitted on.
        fit_error: Mean relative error on these points.
        held_out_error: Mean relative error on runs left out; None where it could not be measured.
        note: What a reader must know (a treatment, a warning); empty where there is nothing.
    """

    stage: str
    method: str
    name: str
    formula: str
    parameters: dict[str, float]
    observations: int
    fit_error: float
    held_out_error: float | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurrogatePrediction:
    """Everything that is predicted at one mixture and one number of FLOPs.

    Attributes:
        domain_loss: Nats per token by domain.
        performance: 0 to 1 by task; tasks that have not emerged are absent.
        objective: The weighted mean over the tasks that are predicted.
    """

    domain_loss: dict[str, Prediction]
    performance: dict[str, Prediction]
    objective: Prediction


class Surrogate(Protocol):
    """The fitted function (mixture, FLOPs) -> losses and performance. Pure and picklable."""

    @property
    def fit_id(self) -> str:
        """Identity of the fit: hash of its records and settings."""
        ...

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains with a fitted loss law."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a fitted performance law (those that have emerged)."""
        ...

    @property
    def not_emerged(self) -> dict[str, str]:
        """Tasks that cannot be predicted, with the reason in words."""
        ...

    def predict(self, mixtures: Sequence[Mixture], flops: float) -> list[SurrogatePrediction]:
        """Predictions with intervals at several mixtures.

        Args:
            mixtures: Mixtures over the sources that the fit knows.
            flops: Training FLOPs of the model in question.
        """
        ...

    def predict_performance(self, losses: dict[str, float]) -> dict[str, float]:
        """Stage 2 alone: performance by task from given domain losses (nats per token)."""
        ...

    def lines(self) -> tuple[FitLine, ...]:
        """Every fitted law, for tables."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """A JSON value, for the store."""
        ...


class SearchModel(Surrogate, Protocol):
    """A surrogate that a search in rounds can be made with: it says how sure it is, and what a run would teach.

    Shares, (T,), are the weights of `tasks` in an objective; they sum to 1.
    """

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that it knows, sorted, K."""
        ...

    @property
    def weights(self) -> Array:
        """Shares of the tasks in the mean, (T,)."""
        ...

    def outlook(self, ratios: Array, flops: float, shares: Array) -> tuple[Array, Array]:
        """Expected objective and its standard deviation, without the noise of a run, at ratios (n, K): each (n,)."""
        ...

    def sweep(self, ratios: Array, flops: float) -> Array:
        """Expected scores of all tasks at very many mixtures, (n, T); to rank them."""
        ...

    def predicted(self, ratios: Array, flops: float, shares: Array) -> tuple[Array, Array]:
        """An objective of single trainings: mean and half of the 80 percent interval, each (n,)."""
        ...

    def draws(self, ratios: Array, flops: float, shares: Array, number: int, seed: int) -> Array:
        """Draws of the true objective at mixtures, (number, n)."""
        ...

    def lessons(
        self, ratios: Array, flops: Array, repeats: int, *, aims: Array, target_flops: float, shares: Array
    ) -> Array:
        """How far runs at (C, K) would move the expected objective at aims (J, K), by independent surprises (C, J, F).

        Args:
            ratios: Mixtures of the possible runs, (C, K).
            flops: Their FLOPs, (C,).
            repeats: Trainings of each.
            aims: Mixtures in question at the target, (J, K).
            target_flops: FLOPs of the target.
            shares: Of the tasks in the objective, (T,).
        """
        ...

    def also(self, ratios: Array, flops: Array) -> SearchModel:
        """As if these runs, (n, K) and (n,), were measured too and came out as expected."""
        ...
