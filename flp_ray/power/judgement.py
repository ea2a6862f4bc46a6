"""One fit held against the planted world that its records came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import DEFAULT_EMERGENCE_MARGIN
from flp_ray.fit import FittedSurrogate
from flp_ray.propose.lattice import Lattice
from flp_ray.synthetic import Design, PlantedSize, World

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One fit held against the world that its records came from.

    Attributes:
        distances: How far the found mixture lies from the best, largest ratio, by objective; None: not predicted.
        regrets: True score lost by taking the found mixture, 0 to 1, by objective.
        score_errors: Relative errors of predicted scores at new mixtures, against the true scores; where the true
            score has not emerged none is judged.
        loss_errors: Relative errors of predicted losses there, against measured ones.
        inside: Whether new measurements lay in their 80 percent intervals, by `loss`, `score` and `objective`.
    """

    distances: dict[str, float | None]
    regrets: dict[str, float]
    score_errors: tuple[float, ...]
    loss_errors: tuple[float, ...]
    inside: dict[str, tuple[bool, ...]]


def judge(
    surrogate: FittedSurrogate,
    world: World,
    target: PlantedSize,
    *,
    lattice: Lattice,
    objectives: Sequence[str],
    mixtures: Sequence[Mixture],
    seed: int,
) -> Judgement:
    """Holds a fit against the truth at one size.

    Args:
        surrogate: The fit.
        world: The world that its records came from.
        target: The size that is predicted.
        lattice: Mixtures that may be proposed.
        objectives: `mean` or tasks.
        mixtures: Where runs of that size are measured anew.
        seed: Seed of their noise.
    """
    distances: dict[str, float | None] = {}
    regrets: dict[str, float] = {}
    fine = Lattice.of(lattice.bounds, 0.1 / lattice.units)
    for name in objectives:
        best = _best(fine, partial(world.objective_at, name, flops=target.flops))
        if name not in surrogate.tasks and not (name == "mean" and surrogate.weights.any()):
            distances[name] = None
            continue
        found = _best(lattice, partial(_predicted, surrogate, name, flops=target.flops))
        distances[name] = float(np.abs(found - best).max())
        both = world.objective_at(name, np.stack([best, found]), target.flops)
        regrets[name] = float(both[0] - both[1])
    ratios = np.array([[m.ratio(s) for s in surrogate.sources] for m in mixtures])
    surface = surrogate.surface(ratios, target.flops)
    true = world.scores(world.losses(ratios, target.flops))[:, [list(world.tasks).index(t) for t in surrogate.tasks]]
    chance = np.array([world.tasks[t].random_performance for t in surrogate.tasks])
    emerged = true >= chance + DEFAULT_EMERGENCE_MARGIN
    measured = world.records(Design(sizes=(target,), mixtures=tuple(mixtures), checkpoints=1), seed, purpose="target")
    finals = {c.run.mixture: c for c in measured.final_checkpoints()}
    loss = np.array([[finals[m].domain_loss[d] for d in surrogate.domains] for m in mixtures])
    score = np.array([[finals[m].performance[t] for t in surrogate.tasks] for m in mixtures])
    inside = {"loss": _inside(surface.loss, loss)}
    if surrogate.weights.any():
        inside["score"] = _inside(surface.performance[:, emerged], score[emerged])
        inside["objective"] = _inside(surface.objective, score @ surrogate.weights)
    errors = np.abs(surface.performance[0] - true)[emerged] / true[emerged]
    off = np.abs(surface.loss[0] - loss) / loss
    return Judgement(
        distances=distances,
        regrets=regrets,
        score_errors=tuple(errors.tolist()),
        loss_errors=tuple(off.ravel().tolist()),
        inside=inside,
    )


def _inside(ends: Array, values: Array) -> tuple[bool, ...]:
    return tuple(bool(b) for b in ((values >= ends[1]) & (values <= ends[2])).ravel())


def _predicted(surrogate: FittedSurrogate, objective: str, ratios: Array, flops: float) -> Array:
    surface = surrogate.surface(ratios, flops)
    value = surface.objective[0] if objective == "mean" else surface.performance[0][:, surrogate.tasks.index(objective)]
    return np.asarray(value)


def _best(lattice: Lattice, value: Callable[[Array], Array]) -> Array:
    """Ratios of the lattice mixture with the highest value, (K,): of two sources all are tried, of more it climbs."""
    units = np.array(list(_starts(lattice)))
    values = value(units / lattice.units)
    best, highest = units[np.argmax(values)], values.max()
    step = max(1, lattice.units // 20)
    while len(lattice.low) > 2 and step:
        unit = np.eye(len(best), dtype=int)
        moves = step * (unit[:, None] - unit[None]).reshape(-1, len(best))
        near = best + moves
        near = near[((near >= lattice.low) & (near <= lattice.high)).all(axis=1)]
        values = value(near / lattice.units) if len(near) else np.array([-np.inf])
        if values.max() > highest + 1e-12:  # a rounding error is no gain
            best, highest = near[np.argmax(values)], values.max()
        else:
            step //= 2
    return np.asarray(best / lattice.units)


def _starts(lattice: Lattice) -> Iterator[tuple[int, ...]]:
    if len(lattice.low) == 2:
        for first in range(lattice.low[0], lattice.high[0] + 1):
            if lattice.low[1] <= lattice.units - first <= lattice.high[1]:
                yield first, lattice.units - first
        return
    sources = lattice.bounds.sources
    for row in np.random.default_rng(0).dirichlet(np.ones(len(sources)), 300).tolist():
        yield lattice.nearest(Mixture.of(dict(zip(sources, row, strict=True))))
