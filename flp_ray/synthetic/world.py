"""A planted truth and the records that come from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, MeasurementKind, Records, Run, Task
from flp_ray.core.run import Purpose, stable_hash
from flp_ray.synthetic.design import Design, PlantedSize

DRIFT_FROM = 1e20
"""FLOPs at which the drift of a source's power is 0."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedDomain:
    """The true law of one domain: Eq. 5, and what a hostile world adds to it.

    Attributes:
        log_scale: Natural logarithm of the loss at 1 FLOP of every kind, nats per token.
        exponent_total: Power of all FLOPs.
        exponents: Power of the FLOPs on each source.
        drift: What each e-fold of FLOPs beyond 1e20 adds to the power of a source's ratio; Eq. 5 has none.
        floor: Nats per token that no training removes; Eq. 5 has none.
    """

    log_scale: float
    exponent_total: float
    exponents: dict[str, float]
    drift: dict[str, float] = field(default_factory=dict)
    floor: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedTask:
    """The true link from losses to the score of one task.

    Attributes:
        random_performance: Chance level, 0 to 1.
        shares: Share of each domain in the loss that the task depends on; sum to 1.
        onset: That loss, nats per token, below which the score rises.
        slope: Score gained per nat below the onset.
        width: Softness of the bend at the onset, nats.
        ceiling: Highest score, 0 to 1.
        items: Questions of this task; None takes the world's number.
    """

    random_performance: float
    shares: dict[str, float]
    onset: float
    slope: float
    width: float = 0.03
    ceiling: float = 0.98
    items: int | None = None

    def score(self, losses: Array) -> Array:
        """The score at these combined losses."""
        risen = self.slope * self.width * np.logaddexp(0.0, (self.onset - losses) / self.width)
        score: Array = np.minimum(self.ceiling, self.random_performance + risen)
        return score


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A planted truth.

    Attributes:
        sources: Names, sorted.
        domains: Laws by domain.
        tasks: Links by task.
        overlap: Share of each source that leaks into the others (the treatment of ratio 0 in `fit`).
        run_noise: Standard deviation of a run's log loss, drawn once a run and domain.
        edge_noise: By how many times itself that noise grows from the even mixture to the edge of the simplex.
        size_noise: Standard deviation of a log loss shared by all runs of a size: what a size's learning rate or
            shape adds to the law, once a size and domain. The world's own, so another seed of the records does not
            change it.
        size_seed: Seed of these.
        checkpoint_noise: The same, drawn at every checkpoint.
        unfinished: How far above its final law a training's log loss lies at its start; falls linearly to 0.
        items: Questions of each task; None measures the true score.
        intermediate_items: Questions at checkpoints before a run's last; None asks all.
        weights: Weight of each task in the mean; None weighs all alike.
    """

    sources: tuple[str, ...]
    domains: dict[str, PlantedDomain]
    tasks: dict[str, PlantedTask]
    overlap: float = 0.01
    run_noise: float = 0.003
    edge_noise: float = 0.0
    size_noise: float = 0.0
    size_seed: int = 0
    checkpoint_noise: float = 0.001
    unfinished: float = 0.02
    items: int | None = 2000
    intermediate_items: int | None = None
    weights: dict[str, float] | None = None

    def losses(self, ratios: Array, flops: Array | float) -> Array:
        """True domain losses, nats per token, (n, D).

        Args:
            ratios: Mixing ratios in the order of the sources, (n, K).
            flops: Training FLOPs, (n,) or one number.
        """
        others = (1 - ratios) / max(1, len(self.sources) - 1)
        effective = ratios if len(self.sources) == 1 else (1 - self.overlap) * ratios + self.overlap * others
        log_ratios, log_flops = np.log(effective), np.log(np.broadcast_to(flops, (len(ratios),)))[:, None]
        laws = list(self.domains.values())
        exponents = np.array([[law.exponents[s] for s in self.sources] for law in laws])
        drift = np.array([[law.drift.get(s, 0.0) for s in self.sources] for law in laws])
        total, scale, floor = np.array([[law.exponent_total, law.log_scale, law.floor] for law in laws]).T
        logs = scale + log_flops * total + (log_ratios + log_flops) @ exponents.T
        losses: Array = floor + np.exp(logs + (log_flops - np.log(DRIFT_FROM)) * (log_ratios @ drift.T))
        return losses

    def scores(self, losses: Array) -> Array:
        """True scores at given domain losses, (n, T)."""
        names = list(self.domains)
        columns = []
        for task in self.tasks.values():
            shares = np.array([task.shares.get(d, 0.0) for d in names])
            columns.append(task.score(losses @ shares))
        return np.stack(columns, axis=1)

    def objective(self, name: str, mixtures: Sequence[Mixture], flops: float) -> Array:
        """True value of an objective (`mean` or a task) at several mixtures, (n,)."""
        ratios = np.array([[m.ratio(s) for s in self.sources] for m in mixtures])
        return self.objective_at(name, ratios, flops)

    def objective_at(self, name: str, ratios: Array, flops: float) -> Array:
        """The same at mixing ratios in the order of the sources, (n, K)."""
        scores = self.scores(self.losses(ratios, flops))
        if name != "mean":
            return np.asarray(scores[:, list(self.tasks).index(name)])
        weights = [1.0 if self.weights is None else self.weights.get(t, 1.0) for t in self.tasks]
        return np.asarray(scores @ np.array(weights) / sum(weights))

    def optimum(self, name: str, flops: float) -> Mixture:
        """The mixture with the highest true value of an objective, to about 1e-4 in every ratio.

        Args:
            name: `mean` or a task.
            flops: Training FLOPs of the model in question.
        """
        count = len(self.sources)
        generator = np.random.default_rng(0)
        points = np.concatenate([np.eye(count), generator.dirichlet(np.ones(count), 4000)])
        values = self.objective_at(name, points, flops)
        best, value = points[np.argmax(values)], values.max()
        step = 0.1
        while step > 5e-5:
            moves = step * (np.eye(count)[:, None] - np.eye(count)[None]).reshape(-1, count)
            near = best + moves
            near = near[(near >= 0).all(axis=1)]
            values = self.objective_at(name, near, flops)
            if values.max() > value + 1e-13:  # a rounding error is no gain: the walk would never end
                best, value = near[np.argmax(values)], values.max()
            else:
                step /= 2
        return Mixture.of(dict(zip(self.sources, best / best.sum(), strict=True)))

    def records(self, design: Design, seed: int, *, purpose: Purpose = "sampling") -> Records:
        """Measured records of a design; a run's noise depends on the seed and the run alone.

        Args:
            design: Which runs.
            seed: Seed of the noise; also part of the run ids.
            purpose: Purpose of every run.
        """
        runs, measurements = [], []
        for size, mixture in design.runs():
            run = Run(
                run_id=f"{size.name}-{stable_hash([mixture.as_dict(), seed], length=8)}",
                purpose=purpose,
                params=size.params,
                train_tokens=size.train_tokens,
                mixture=mixture,
                size=size.name,
            )
            runs.append(run)
            measurements += self._measure(run, size, design.checkpoints)
        tasks = tuple(Task(task=n, random_performance=t.random_performance) for n, t in self.tasks.items())
        return Records(runs=tuple(runs), measurements=tuple(measurements), tasks=tasks)

    def _measure(self, run: Run, size: PlantedSize, checkpoints: int) -> list[Measurement]:
        assert run.mixture is not None
        generator = np.random.default_rng(int(stable_hash([run.run_id]), 16))
        done = np.arange(1, checkpoints + 1) / checkpoints
        ratios = np.tile([run.mixture.ratio(s) for s in self.sources], (checkpoints, 1))
        losses = self.losses(ratios, done * size.flops) * np.exp(self.unfinished * (1 - done))[:, None]
        losses *= np.exp(self._run_noise(ratios[0]) * generator.standard_normal(losses.shape[1]))
        losses *= np.exp(self.checkpoint_noise * generator.standard_normal(losses.shape))
        of_size = np.random.default_rng(int(stable_hash([size.name, round(size.flops), self.size_seed]), 16))
        losses *= np.exp(self.size_noise * of_size.standard_normal(losses.shape[1]))
        scores, items = self.scores(losses), self._asked(checkpoints)
        asked = items > 0
        scores[asked] = generator.binomial(items[asked], scores[asked]) / items[asked]
        made = []
        for i, part in enumerate(done):
            rows: list[tuple[MeasurementKind, str, float, int]] = [("train_loss", "train", losses[i].mean(), 0)]
            rows += [("domain_loss", name, value, 0) for name, value in zip(self.domains, losses[i], strict=True)]
            scored = zip(self.tasks, scores[i], items[i].tolist(), strict=True)
            rows += [("performance", name, value, number) for name, value, number in scored]
            made += [
                Measurement(
                    run_id=run.run_id,
                    tokens=round(part * size.train_tokens),
                    flops=float(part * size.flops),
                    kind=kind,
                    name=name,
                    value=float(value),
                    stderr=float(np.sqrt(value * (1 - value) / number)) if number else None,
                    items=number or None,
                )
                for kind, name, value, number in rows
            ]
        return made

    def _run_noise(self, ratios: Array) -> float:
        """Standard deviation of a run's log loss at a mixture."""
        edge = 1 - len(ratios) * float(ratios.min())  # 0 at the even mixture, 1 where a source is absent
        return self.run_noise * (1 + self.edge_noise * edge)

    def _asked(self, checkpoints: int) -> NDArray[np.int64]:
        """Questions at each checkpoint, (checkpoints, T); 0 measures the true score."""
        whole = [t.items or self.items or 0 for t in self.tasks.values()]
        asked = np.tile(np.array(whole, dtype=np.int64), (checkpoints, 1))
        if self.intermediate_items is not None:
            asked[:-1] = np.minimum(asked[:-1], self.intermediate_items)
        return asked
