"""The joint law as fitted: predictions with intervals, draws of the truth, and what a next run would teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # not scipy.stats, which takes half a second to import

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import INTERVAL_COVERAGE, Prediction
from flp_ray.core.surrogate import FitLine, SurrogatePrediction
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit.joint.kernel import Frame
from flp_ray.fit.joint.link import RUN_WEIGHT, ScoreLink
from flp_ray.fit.joint.loss_law import LossLaw
from flp_ray.fit.observations import ratio_rows

SHARED = 0.5
"""Share of the variance that domains have in common where they err, and tasks likewise: a run's luck, a law's fault,
and what the mixtures trained so far leave open show in all of them."""

BEYOND = 0.05
"""How far (as a share) FLOPs may lie outside the fitted range before a prediction counts as extrapolated."""

JITTER = 1e-6
"""Share of a covariance's mean variance that is added to its diagonal before it is factored."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointSurrogate:
    """The joint law; implements `flp_ray.core.surrogate.SearchModel`. Build it with `fit_joint`.

    Arrays of shares, (T,), are the weights of the tasks in an objective; they sum to 1.

    Attributes:
        fit_id: Hash of the records that it was fitted on and of its settings.
        sources: Sources that it knows, sorted, K.
        frame: Where its inputs are centred.
        laws: Stage 1, one law a domain, D.
        links: Stage 2, one line a task that can be predicted, T.
        weights: Shares of the tasks in the mean; all 0 where only tasks of weight 0 can be predicted.
        not_emerged: Tasks that cannot be predicted, with the reason in words.
        runs: Runs that it was fitted on.
        flops_range: Smallest and largest FLOPs among them.
        ratio_ranges: Smallest and largest ratio of each source, (2, K).
    """

    fit_id: str
    sources: tuple[str, ...]
    frame: Frame
    laws: tuple[LossLaw, ...]
    links: tuple[ScoreLink, ...]
    weights: Array
    not_emerged: dict[str, str]
    runs: int
    flops_range: tuple[float, float]
    ratio_ranges: Array

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains with a fitted loss law."""
        return tuple(law.domain for law in self.laws)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a fitted line."""
        return tuple(link.task for link in self.links)

    def rows(self, mixtures: Sequence[Mixture]) -> Array:
        """Ratios of mixtures in the order of `sources`, (n, K).

        Raises:
            ConfigError: A mixture has text of a source that the fit does not know.
        """
        return ratio_rows(mixtures, self.sources)

    def losses(self, ratios: Array, flops: Array | float) -> Array:
        """Expected domain losses, nats per token, (n, D), at ratios (n, K) and FLOPs (n,) or one number."""
        inputs = self.frame.inputs(ratios, flops)
        return np.stack([law.loss(inputs)[0] for law in self.laws], axis=1)

    def outlook(self, ratios: Array, flops: float, shares: Array) -> tuple[Array, Array]:
        """Expected objective and the law's own standard deviation at many mixtures, each (n,); not clipped."""
        losses = self.losses(ratios, flops)
        return self._scores(losses) @ shares, np.sqrt(self._law_variance(ratios, flops, losses, shares))

    def sweep(self, ratios: Array, flops: float) -> Array:
        """Expected scores of all tasks at very many mixtures, (n, T), by the likeliest floors in single precision."""
        if not len(ratios):
            return np.zeros((0, len(self.links)))
        inputs = self.frame.inputs(ratios, flops)
        columns = [law.best.sweep(inputs) for law in self.laws]
        return self._scores(np.stack(columns, axis=1))

    def draws(self, ratios: Array, flops: float, shares: Array, number: int, seed: int) -> Array:
        """Draws of the true objective at mixtures, from what the runs leave possible, (number, n)."""
        generator = np.random.default_rng(seed)
        inputs, losses = self.frame.inputs(ratios, flops), self.losses(ratios, flops)
        drawn = np.tile(self._scores(losses) @ shares, (number, 1))
        common = generator.standard_normal(drawn.shape)
        for d, (law, pull) in enumerate(zip(self.laws, self._pull(losses, shares).T, strict=True)):
            own = generator.standard_normal(drawn.shape)
            moved = (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own) @ _root(law.best.between(inputs, inputs)).T
            drawn += pull * (losses[:, d] - law.best.floor) * moved
        alike = generator.standard_normal((number, len(self.laws) + 3))
        for share, link in zip(shares, self.links, strict=True):
            own = generator.standard_normal(alike.shape)
            moved = (np.sqrt(SHARED) * alike + np.sqrt(1 - SHARED) * own) @ _root(link.covariance).T
            drawn += share * moved @ link.rows(losses).T
        return drawn

    def lessons(
        self, ratios: Array, flops: Array, repeats: int, *, aims: Array, target_flops: float, shares: Array
    ) -> Array:
        """How far runs would move the expected objective at the target, a standard normal surprise each.

        Args:
            ratios: Mixtures of the possible runs, (C, K).
            flops: Their FLOPs, (C,).
            repeats: Trainings of each.
            aims: Mixtures in question at the target, (J, K).
            target_flops: FLOPs of the target.
            shares: Of the tasks in the objective, (T,).

        Returns:
            (C, J, 2 + D + T): what all domains share, what all links share, each domain's own, each link's own.
        """
        inputs, there = self.frame.inputs(ratios, flops), self.frame.inputs(aims, target_flops)
        losses, own = (np.stack([law.best.loss(i) for law in self.laws], axis=1) for i in (there, inputs))
        made = np.zeros((len(ratios), len(aims), 2 + len(self.laws) + len(self.links)))
        for d, (law, pull) in enumerate(zip(self.laws, self._pull(losses, shares).T, strict=True)):
            process = law.best
            across, spread = process.told(inputs, there, repeats)
            moved = pull * (losses[:, d] - process.floor) * across / np.sqrt(spread)[:, None]
            made[:, :, 0] += np.sqrt(SHARED) * moved
            made[:, :, 2 + d] = np.sqrt(1 - SHARED) * moved
        for t, (share, link) in enumerate(zip(shares, self.links, strict=True)):
            here, rows = link.rows(own), link.rows(losses)
            spread = link.covariance @ here.T
            told = np.sqrt((here * spread.T).sum(axis=1) + link.noise**2 / (RUN_WEIGHT * repeats))
            moved = share * (rows @ spread).T / told[:, None]
            made[:, :, 1] += np.sqrt(SHARED) * moved
            made[:, :, 2 + len(self.laws) + t] = np.sqrt(1 - SHARED) * moved
        return made

    def also(self, ratios: Array, flops: Array) -> JointSurrogate:
        """As if these runs were measured too and came out as expected: for runs that are still training."""
        if not len(ratios):
            return self
        pending = self.frame.inputs(ratios, flops)
        return replace(self, laws=tuple(law.also(pending) for law in self.laws))

    def predict(self, mixtures: Sequence[Mixture], flops: float) -> list[SurrogatePrediction]:
        """Predictions of single trainings with intervals.

        Args:
            mixtures: Mixtures over the sources that the fit knows.
            flops: Training FLOPs of the model in question.

        Raises:
            NotEnoughDataError: No task can be predicted.
            ConfigError: A mixture has a source that the fit does not know.
        """
        if not self.links:
            reasons = " ".join(f"{task}: {reason}" for task, reason in self.not_emerged.items())
            raise NotEnoughDataError(f"No score can be predicted, no task has emerged. {reasons}")
        ratios = self.rows(mixtures)
        flags = self._extrapolated(ratios, flops)
        losses = [law.loss(self.frame.inputs(ratios, flops), noisy=True) for law in self.laws]
        eye = np.eye(len(self.links))
        scores = [self.predicted(ratios, flops, row) for row in eye]
        # Where only tasks of weight 0 can be predicted the mean means nothing, and no objective asks for it.
        shares = self.weights if self.weights.any() else np.full(len(self.links), 1 / len(self.links))
        objective = self.predicted(ratios, flops, shares)
        return [
            SurrogatePrediction(
                domain_loss={
                    domain: _prediction(mean[i], self.width * spread[i], flag, highest=None)
                    for domain, (mean, spread) in zip(self.domains, losses, strict=True)
                },
                performance={
                    task: _prediction(mean[i], half[i], flag)
                    for task, (mean, half) in zip(self.tasks, scores, strict=True)
                },
                objective=_prediction(objective[0][i], objective[1][i], flag),
            )
            for i, flag in enumerate(flags.tolist())
        ]

    def predicted(self, ratios: Array, flops: float, shares: Array) -> tuple[Array, Array]:
        """An objective of single trainings: mean and half of the 80 percent interval, each (n,)."""
        losses = self.losses(ratios, flops)
        scores = self._scores(losses)
        noise = np.zeros(len(ratios))
        for t, (share, link) in enumerate(zip(shares, self.links, strict=True)):
            noise += share**2 * link.run_variance(scores[:, t])
        spread = self._law_variance(ratios, flops, losses, shares, noisy=True)
        return scores @ shares, self.width * np.sqrt(spread + noise)

    @property
    def width(self) -> float:
        """Half an 80 percent interval in standard deviations."""
        return float(stdtrit(max(3, self.runs - 3), 0.5 + INTERVAL_COVERAGE / 2))

    def predict_performance(self, losses: dict[str, float]) -> dict[str, float]:
        """Stage 2 alone: performance by task from given domain losses (nats per token).

        Raises:
            ConfigError: The loss of a domain is missing.
        """
        missing = [d for d in self.domains if d not in losses]
        if missing:
            raise ConfigError(f"The loss of domain {missing[0]} is missing; needed: {', '.join(self.domains)}.")
        row = np.array([[losses[d] for d in self.domains]])
        return dict(zip(self.tasks, self._scores(row)[0].tolist(), strict=True))

    def lines(self) -> tuple[FitLine, ...]:
        """Every fitted law, for tables."""
        from flp_ray.fit.joint.tables import joint_lines

        return joint_lines(self)

    def to_dict(self) -> dict[str, Any]:
        """The fitted numbers as a JSON value; the law itself is made anew from the records that the fit's id names."""
        lines = [
            {"name": line.name, "stage": line.stage, "observations": line.observations} | line.parameters
            for line in self.lines()
        ]
        return {"fit_id": self.fit_id, "sources": list(self.sources), "overlap": self.frame.overlap, "lines": lines}

    def _scores(self, losses: Array) -> Array:
        """Expected scores, (n, T), at domain losses (n, D)."""
        return (
            np.stack([link.score(losses) for link in self.links], axis=1) if self.links else np.zeros((len(losses), 0))
        )

    def _pull(self, losses: Array, shares: Array) -> Array:
        """Objective gained per nat of each domain's loss, (n, D), at domain losses (n, D)."""
        pull = np.zeros(losses.shape)
        for share, link in zip(shares, self.links, strict=True):
            pull = pull + share * link.slopes(losses)
        return pull

    def _law_variance(self, ratios: Array, flops: float, losses: Array, shares: Array, *, noisy: bool = False) -> Array:
        """Variance of the objective, (n,): of the law alone, or with what a single training's losses scatter."""
        inputs = self.frame.inputs(ratios, flops)
        own, common = np.zeros(len(ratios)), np.zeros(len(ratios))
        for law, pull in zip(self.laws, self._pull(losses, shares).T, strict=True):
            moved = pull * law.loss(inputs, noisy=noisy)[1]
            own, common = own + moved**2, common + moved
        total = (1 - SHARED) * own + SHARED * common**2
        own, common = np.zeros(len(ratios)), np.zeros(len(ratios))
        for share, link in zip(shares, self.links, strict=True):
            rows = link.rows(losses)
            moved = share * np.sqrt(((rows @ link.covariance) * rows).sum(axis=1))
            own, common = own + moved**2, common + moved
        return np.asarray(total + (1 - SHARED) * own + SHARED * common**2)

    def _extrapolated(self, ratios: Array, flops: float) -> Array:
        low, high = self.flops_range
        outside = not low / (1 + BEYOND) <= flops <= high * (1 + BEYOND)
        seen = (ratios >= self.ratio_ranges[0] - 1e-6) & (ratios <= self.ratio_ranges[1] + 1e-6)
        return np.asarray(outside | ~seen.all(axis=1))


def _root(covariance: Array) -> Array:
    """A square root of a covariance that may be singular but for rounding."""
    jitter = JITTER * max(float(np.diag(covariance).mean()), 1e-12)
    return np.asarray(np.linalg.cholesky(covariance + jitter * np.eye(len(covariance))))


def _prediction(mean: float, half: float, extrapolated: bool, *, highest: float | None = 1.0) -> Prediction:
    low, high = max(0.0, mean - half), mean + half
    if highest is not None:  # a line may leave 0 to 1; a score does not
        mean, low, high = (min(max(v, 0.0), highest) for v in (mean, low, high))
    return Prediction(mean=float(mean), low=float(low), high=float(high), extrapolated=extrapolated)
