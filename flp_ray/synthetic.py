"""Planted worlds: the law and the best mixture are known, so that every stage after training can be judged.

A world holds the truth of FLP-M: domain losses by Eq. 5 for any number of sources, and a score that stays at
chance until a task's loss falls below its onset and then rises along a line. From it come records with the
noise of runs, of checkpoints and of a finite number of items. `hostile` worlds hold nothing to be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, MeasurementKind, Records, Run, Task
from flp_ray.core.run import Purpose, stable_hash

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedDomain:
    """The true law of one domain, Eq. 5.

    Attributes:
        log_scale: Natural logarithm of the loss at 1 FLOP of every kind, nats per token.
        exponent_total: Power of all FLOPs.
        exponents: Power of the FLOPs on each source.
    """

    log_scale: float
    exponent_total: float
    exponents: dict[str, float]


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
    """

    random_performance: float
    shares: dict[str, float]
    onset: float
    slope: float
    width: float = 0.03
    ceiling: float = 0.98

    def score(self, losses: Array) -> Array:
        """The score at these combined losses."""
        risen = self.slope * self.width * np.logaddexp(0.0, (self.onset - losses) / self.width)
        score: Array = np.minimum(self.ceiling, self.random_performance + risen)
        return score


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedSize:
    """A model size and what its training costs."""

    name: str
    params: int
    train_tokens: int
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Which runs are trained: every size at every mixture, and single runs beside."""

    sizes: tuple[PlantedSize, ...]
    mixtures: tuple[Mixture, ...]
    extra: tuple[tuple[PlantedSize, Mixture], ...] = ()
    checkpoints: int = 30

    def runs(self) -> list[tuple[PlantedSize, Mixture]]:
        """Size and mixture of every run."""
        return [(s, m) for s in self.sizes for m in self.mixtures] + list(self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A planted truth.

    Attributes:
        sources: Names, sorted.
        domains: Laws by domain.
        tasks: Links by task.
        overlap: Share of each source that leaks into the others (the treatment of ratio 0 in `fit`).
        run_noise: Standard deviation of a run's log loss, drawn once a run and domain.
        checkpoint_noise: The same, drawn at every checkpoint.
        unfinished: How far above its final law a training's log loss lies at its start; falls linearly to 0.
        items: Questions of each task; None measures the true score.
    """

    sources: tuple[str, ...]
    domains: dict[str, PlantedDomain]
    tasks: dict[str, PlantedTask]
    overlap: float = 0.01
    run_noise: float = 0.003
    checkpoint_noise: float = 0.001
    unfinished: float = 0.02
    items: int | None = 2000

    def losses(self, ratios: Array, flops: Array | float) -> Array:
        """True domain losses, nats per token, (n, D).

        Args:
            ratios: Mixing ratios in the order of the sources, (n, K).
            flops: Training FLOPs, (n,) or one number.
        """
        others = (1 - ratios) / max(1, len(self.sources) - 1)
        effective = ratios if len(self.sources) == 1 else (1 - self.overlap) * ratios + self.overlap * others
        log_flops = np.log(np.broadcast_to(flops, (len(ratios),)))[:, None]
        laws = list(self.domains.values())
        exponents = np.array([[law.exponents[s] for s in self.sources] for law in laws])
        total = np.array([law.exponent_total for law in laws])
        scale = np.array([law.log_scale for law in laws])
        losses: Array = np.exp(scale + log_flops * total + (np.log(effective) + log_flops) @ exponents.T)
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
        return self._objective(name, ratios, flops)

    def optimum(self, name: str, flops: float) -> Mixture:
        """The mixture with the highest true value of an objective, to about 1e-4 in every ratio.

        Args:
            name: `mean` or a task.
            flops: Training FLOPs of the model in question.
        """
        count = len(self.sources)
        generator = np.random.default_rng(0)
        points = np.concatenate([np.eye(count), generator.dirichlet(np.ones(count), 4000)])
        values = self._objective(name, points, flops)
        best, value = points[np.argmax(values)], values.max()
        step = 0.1
        while step > 5e-5:
            moves = step * (np.eye(count)[:, None] - np.eye(count)[None]).reshape(-1, count)
            near = best + moves
            near = near[(near >= 0).all(axis=1)]
            values = self._objective(name, near, flops)
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

    def _objective(self, name: str, ratios: Array, flops: float) -> Array:
        scores = self.scores(self.losses(ratios, flops))
        value: Array = scores.mean(axis=1) if name == "mean" else scores[:, list(self.tasks).index(name)]
        return value

    def _measure(self, run: Run, size: PlantedSize, checkpoints: int) -> list[Measurement]:
        assert run.mixture is not None
        generator = np.random.default_rng(int(stable_hash([run.run_id]), 16))
        done = np.arange(1, checkpoints + 1) / checkpoints
        ratios = np.tile([run.mixture.ratio(s) for s in self.sources], (checkpoints, 1))
        losses = self.losses(ratios, done * size.flops) * np.exp(self.unfinished * (1 - done))[:, None]
        losses *= np.exp(self.run_noise * generator.standard_normal(losses.shape[1]))
        losses *= np.exp(self.checkpoint_noise * generator.standard_normal(losses.shape))
        scores = self.scores(losses)
        if self.items is not None:
            scores = generator.binomial(self.items, scores) / self.items
        made = []
        for i, part in enumerate(done):
            rows: list[tuple[MeasurementKind, str, float]] = [("train_loss", "train", losses[i].mean())]
            rows += [("domain_loss", name, value) for name, value in zip(self.domains, losses[i], strict=True)]
            rows += [("performance", name, value) for name, value in zip(self.tasks, scores[i], strict=True)]
            made += [
                Measurement(
                    run_id=run.run_id,
                    tokens=round(part * size.train_tokens),
                    flops=float(part * size.flops),
                    kind=kind,
                    name=name,
                    value=float(value),
                    stderr=self._stderr(value) if kind == "performance" else None,
                )
                for kind, name, value in rows
            ]
        return made

    def _stderr(self, score: float) -> float | None:
        return None if self.items is None else float(np.sqrt(score * (1 - score) / self.items))


def two_source_world() -> World:
    """General and code text, five domains, four tasks; the mean over the tasks peaks inside, near 0.4."""
    laws = {
        "code": (4.6, -0.025, -0.012, -0.05),
        "general": (3.0, -0.028, -0.022, -0.002),
        "math": (3.4, -0.026, -0.024, -0.012),
        "reference": (3.2, -0.026, -0.026, -0.006),
        "science": (3.3, -0.027, -0.020, -0.010),
    }
    domains = {
        name: PlantedDomain(
            log_scale=scale_at(total + general + code, anchor, 1e20),
            exponent_total=total,
            exponents={"general": general, "code": code},
        )
        for name, (anchor, total, general, code) in laws.items()
    }
    tasks = {
        "completion": PlantedTask(
            random_performance=0.25, shares={"general": 0.7, "reference": 0.3}, onset=3.6, slope=0.35
        ),
        "programs": PlantedTask(random_performance=0.0, shares={"code": 0.8, "general": 0.2}, onset=5.2, slope=0.22),
        "reasoning": PlantedTask(random_performance=0.25, shares={"math": 0.6, "science": 0.4}, onset=4.0, slope=0.35),
        "recall": PlantedTask(random_performance=0.0, shares={"reference": 0.8, "science": 0.2}, onset=3.9, slope=0.4),
    }
    return World(sources=("code", "general"), domains=domains, tasks=tasks)


def many_source_world(sources: int = 5, seed: int = 0) -> World:
    """A world of any number of sources, as many domains and three tasks; the optimum of the mean lies inside.

    Args:
        sources: Number of sources, 2 or more.
        seed: Seed of the drawn laws.
    """
    generator = np.random.default_rng(seed)
    names = tuple(f"source{i}" for i in range(sources))
    domains = {}
    for i in range(sources):
        powers = generator.uniform(0.002, 0.01, sources)
        powers[i] = generator.uniform(0.02, 0.04)
        domains[f"domain{i}"] = PlantedDomain(
            log_scale=scale_at(-0.02 - float(powers.sum()), 3.5, 1e20),
            exponent_total=-0.02,
            exponents={s: -float(p) for s, p in zip(names, powers, strict=True)},
        )
    tasks = {}
    for t in range(3):
        shares = generator.dirichlet(np.ones(sources))
        tasks[f"task{t}"] = PlantedTask(
            random_performance=0.25,
            shares={d: float(s) for d, s in zip(domains, shares, strict=True)},
            onset=4.6,
            slope=0.25,
        )
    return World(sources=names, domains=domains, tasks=tasks)


def nothing_emerges(world: World) -> World:
    """The same world with tasks that stay at chance at every loss that can be reached."""
    tasks = {n: replace(t, onset=0.2) for n, t in world.tasks.items()}
    return replace(world, tasks=tasks)


def swallowed_by_noise(world: World) -> World:
    """The same world with so few items and so much noise that no mixture can be told from another."""
    return replace(world, run_noise=0.1, checkpoint_noise=0.03, items=50)


def scale_at(power: float, loss: float, flops: float) -> float:
    """The `log_scale` that gives a loss (nats per token) at some FLOPs, for a sum of powers."""
    return float(np.log(loss) - power * np.log(flops))


_PAPER = {  # params (vocabulary 50,304), tokens and FLOPs: Table 1 of Chen et al. 2024
    "0.12B": (119_965_440, 21_799_895_040, 6.81931e18),
    "0.2B": (204_227_584, 37_213_962_240, 2.63435e19),
    "0.32B": (326_437_120, 59_674_460_160, 8.01571e19),
    "0.5B": (496_080_384, 90_502_594_560, 2.05963e20),
    "0.72B": (722_643_712, 132_026_204_160, 4.70331e20),
    "1B": (1_015_613_440, 185_535_037_440, 9.75926e20),
    "3B": (3_041_283_072, 556_793_856_000, 9.63212e21),
    "7B": (6_888_361_984, 1_258_291_200_000, 5.09208e22),
}


def paper_size(name: str) -> PlantedSize:
    """A size of the paper's Table 1, `0.12B` to `7B`."""
    params, tokens, flops = _PAPER[name]
    return PlantedSize(name=name, params=params, train_tokens=tokens, flops=flops)


def two_source_mixtures(source: str, other: str, ratios: Sequence[float]) -> tuple[Mixture, ...]:
    """Mixtures of two sources at these ratios of the first."""
    return tuple(Mixture.of({source: r, other: 1 - r}) for r in ratios)


def paper_design() -> Design:
    """The 37 runs of section 5 of the paper: six sizes at code ratios 0 to 0.5, and a 3B at 0.3."""
    mixtures = two_source_mixtures("code", "general", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    return Design(
        sizes=tuple(paper_size(n) for n in ("0.12B", "0.2B", "0.32B", "0.5B", "0.72B", "1B")),
        mixtures=mixtures,
        extra=((paper_size("3B"), mixtures[3]),),
    )
