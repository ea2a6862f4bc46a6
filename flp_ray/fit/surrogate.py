"""The fitted FLP-M: (mixture, FLOPs) -> domain losses and scores with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.core.surrogate import FitLine, SurrogatePrediction
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit.interval import Noise
from flp_ray.fit.mixture_law import LawDesign, MixtureLaw
from flp_ray.fit.observations import ratio_rows
from flp_ray.fit.performance_law import PerformanceLaw

BEYOND = 0.05
"""How far (as a share) FLOPs may lie outside the fitted range before a prediction counts as extrapolated."""

BLOCK_MIXTURES = 1024
"""Mixtures that are evaluated at once; bounds the memory of large surfaces."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """Predictions at n mixtures as arrays; `low` and `high` end the 80 percent prediction intervals.

    Attributes:
        loss: Domain losses in nats per token, (3, n, D): mean, low, high.
        performance: Scores, (3, n, T): mean, low, high; the ends are clipped to 0..1, the mean is not.
        objective: Weighted mean over the tasks, (3, n); NaN where no task has emerged.
        extrapolated: Which mixtures lie outside what the fit has seen, (n,).
    """

    loss: Array
    performance: Array
    objective: Array
    extrapolated: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedSurrogate:
    """FLP-M as fitted; implements `flp_ray.core.surrogate.Surrogate`.

    Build it with `flp_ray.fit.fit_surrogate`.

    Attributes:
        fit_id: Hash of the records that it was fitted on and of its settings.
        sources: Sources that it knows, sorted.
        laws: Stage 1, one law a domain, fitted on all sampling runs.
        design: The columns of its linear form.
        coefficients: Each member's refit of it, (M, D, K + 2).
        performance_law: Stage 2.
        loss_noise: Noise of single runs by domain, of log losses.
        score_noise: Noise of single runs by predicted task.
        objective_noise: Noise of the weighted mean.
        weights: Weight of each predicted task in the mean, sum 1; all 0 where only tasks of weight 0 emerged.
        not_emerged: Tasks that cannot be predicted, with the reason in words.
        sensitivity: What another overlap would change (see `overlap_sensitivity`).
        baselines: FLP and FP on the same runs.
    """

    fit_id: str
    sources: tuple[str, ...]
    laws: tuple[MixtureLaw, ...]
    design: LawDesign
    coefficients: Array
    performance_law: PerformanceLaw
    loss_noise: tuple[Noise, ...]
    score_noise: tuple[Noise, ...]
    objective_noise: Noise
    weights: Array
    not_emerged: dict[str, str]
    sensitivity: tuple[dict[str, float], ...]
    baselines: tuple[FitLine, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains with a fitted loss law."""
        return tuple(law.domain for law in self.laws)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a fitted performance law."""
        return self.performance_law.tasks

    @property
    def flops_range(self) -> tuple[float, float]:
        """Smallest and largest FLOPs of the fitted runs."""
        return min(w.flops_range[0] for w in self.laws), max(w.flops_range[1] for w in self.laws)

    @property
    def ratio_ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest ratio of the fitted runs by source."""
        return {
            s: (min(w.ratio_ranges[s][0] for w in self.laws), max(w.ratio_ranges[s][1] for w in self.laws))
            for s in self.sources
        }

    def predict(self, mixtures: Sequence[Mixture], flops: float) -> list[SurrogatePrediction]:
        """Predictions with intervals at several mixtures.

        Args:
            mixtures: Mixtures over the sources that the fit knows.
            flops: Training FLOPs of the model in question.

        Raises:
            NotEnoughDataError: No task has emerged, so there is no objective; `predict_losses` still answers.
            ConfigError: A mixture has a source that the fit does not know.
        """
        if not self.weights.any():
            raise NotEnoughDataError(self._no_objective())
        surface = self.surface(ratio_rows(mixtures, self.sources), flops)
        return [
            SurrogatePrediction(
                domain_loss=_named(self.domains, surface.loss[:, i], flag),
                performance=_named(self.tasks, surface.performance[:, i], flag),
                objective=_prediction(surface.objective[:, i], flag),
            )
            for i, flag in enumerate(surface.extrapolated.tolist())
        ]

    def predict_losses(self, mixtures: Sequence[Mixture], flops: float) -> list[dict[str, Prediction]]:
        """Stage 1 alone: domain losses with intervals; answers where no task has emerged too.

        Args:
            mixtures: Mixtures over the sources that the fit knows.
            flops: Training FLOPs of the model in question.
        """
        surface = self.surface(ratio_rows(mixtures, self.sources), flops)
        return [_named(self.domains, surface.loss[:, i], flag) for i, flag in enumerate(surface.extrapolated.tolist())]

    def predict_performance(self, losses: dict[str, float]) -> dict[str, float]:
        """Stage 2 alone: performance by task from given domain losses (nats per token).

        Raises:
            ConfigError: The loss of a domain is missing.
        """
        missing = [d for d in self.domains if d not in losses]
        if missing:
            raise ConfigError(f"The loss of domain {missing[0]} is missing; needed: {', '.join(self.domains)}.")
        row = np.array([[[losses[d] for d in self.domains]]])
        scores = self.performance_law.members(row).mean(axis=0)[0]
        return dict(zip(self.tasks, scores.tolist(), strict=True))

    def surface(self, ratios: Array, flops: float) -> Surface:
        """Predictions at many mixtures as arrays; what `predict` and plots are made of.

        Args:
            ratios: Mixing ratios in the order of `sources`, (n, K), rows sum to 1.
            flops: Training FLOPs of the model in question.
        """
        blocks = [ratios[i : i + BLOCK_MIXTURES] for i in range(0, max(1, len(ratios)), BLOCK_MIXTURES)]
        parts = [self._evaluate(block, flops) for block in blocks]
        return Surface(
            loss=np.concatenate([p[0] for p in parts], axis=1),
            performance=np.concatenate([p[1] for p in parts], axis=1),
            objective=np.concatenate([p[2] for p in parts], axis=1),
            extrapolated=self._extrapolated(ratios, flops),
        )

    def member_losses(self, ratios: Array, flops: Array | float) -> Array:
        """Every member's domain losses, (M, n, D).

        Args:
            ratios: Mixing ratios, (n, K).
            flops: Training FLOPs, (n,) or one number.
        """
        rows = self.design.rows(ratios, flops)
        losses: Array = np.exp(np.matmul(rows, self.coefficients.transpose(0, 2, 1)))
        return losses

    def lines(self) -> tuple[FitLine, ...]:
        """Every fitted law, for tables: FLP-M first, then FLP and FP."""
        from flp_ray.fit.tables import surrogate_lines

        return surrogate_lines(self)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the laws must know: how ratio 0 is treated, and how much hangs on it."""
        from flp_ray.fit.tables import surrogate_notes

        return surrogate_notes(self)

    def to_dict(self) -> dict[str, Any]:
        """A JSON value; `from_dict` reads it back to the last bit."""
        from flp_ray.fit.snapshot import surrogate_to_dict

        return surrogate_to_dict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> FittedSurrogate:
        """Reads what `to_dict` wrote."""
        from flp_ray.fit.snapshot import surrogate_from_dict

        return surrogate_from_dict(value)

    def _evaluate(self, ratios: Array, flops: float) -> tuple[Array, Array, Array]:
        losses = self.member_losses(ratios, flops)
        scores = self.performance_law.members(losses)
        logs = np.log(losses)
        half = np.stack([n.half(logs[:, :, d]) for d, n in enumerate(self.loss_noise)], axis=-1)
        mean = losses.mean(axis=0)
        loss = np.stack([mean, mean * np.exp(-half), mean * np.exp(half)])
        expected = scores.mean(axis=0)
        evaluated = np.zeros(expected.shape)
        for t, noise in enumerate(self.score_noise):
            evaluated[:, t] = noise.evaluated(expected[:, t])
        halves = [n.half(scores[:, :, t], evaluated[:, t]) for t, n in enumerate(self.score_noise)]
        performance = _ends(expected, np.array(halves).reshape(len(halves), len(ratios)).T)
        if not self.weights.any():
            return loss, performance, np.full((3, len(ratios)), np.nan)
        objectives = scores @ self.weights
        half = self.objective_noise.half(objectives, evaluated @ self.weights**2)
        return loss, performance, _ends(objectives.mean(axis=0), half)

    def _extrapolated(self, ratios: Array, flops: float) -> Array:
        low, high = self.flops_range
        outside = not low / (1 + BEYOND) <= flops <= high * (1 + BEYOND)
        ranges = np.array([self.ratio_ranges[s] for s in self.sources])
        seen = (ratios >= ranges[:, 0] - 1e-6) & (ratios <= ranges[:, 1] + 1e-6)
        return np.asarray(outside | ~seen.all(axis=1))

    def _no_objective(self) -> str:
        if self.tasks:
            return (
                f"The mean cannot be predicted: the tasks that have emerged ({', '.join(self.tasks)}) "
                f"all weigh 0. Give one of them a weight."
            )
        reasons = " ".join(f"{task}: {reason}" for task, reason in self.not_emerged.items())
        return f"No score can be predicted, no task has emerged. {reasons or 'No task was measured.'}"


def _ends(mean: Array, half: Array) -> Array:
    return np.stack([mean, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)])


def _prediction(values: Array, extrapolated: bool) -> Prediction:
    mean, low, high = values.tolist()
    return Prediction(mean=mean, low=low, high=high, extrapolated=extrapolated)


def _named(names: tuple[str, ...], values: Array, extrapolated: bool) -> dict[str, Prediction]:
    return {
        name: Prediction(mean=mean, low=low, high=high, extrapolated=extrapolated)
        for name, mean, low, high in zip(names, *values.tolist(), strict=True)
    }
