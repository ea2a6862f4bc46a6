"""The best mixtures by a search model: very many are scored at once, the best are climbed from on the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.surrogate import SearchModel
from flp_ray.propose.goals import Goal
from flp_ray.propose.lattice import Lattice
from flp_ray.propose.space import Space, spread_out

POINTS = 100_000
"""Mixtures that are scored before any is climbed from."""

FEW_POINTS = 2**12
"""The same where the answer is wanted after each of many runs."""

CLIMBS = 4
"""Mixtures that are climbed from."""

STEPS = (16, 4, 1)
"""Units of the lattice that a step of a climb moves from one source to another."""

MOST_STEPS = 200

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Mixtures with what a model expects of them.

    Attributes:
        ratios: (n, K).
        values: Objective less the penalty for distance from the prior, -inf where a kept task falls too far, (n,).
    """

    ratios: Array
    values: Array

    @property
    def best(self) -> Array:
        """The ratios of the best one, (K,)."""
        return np.asarray(self.ratios[int(np.argmax(self.values))])

    @property
    def feasible(self) -> bool:
        """Whether any keeps what must be kept."""
        return bool(np.isfinite(self.values).any())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judge:
    """Scores mixtures for one objective at the target.

    Attributes:
        model: The law.
        goal: The objective.
        space: Gives the penalty.
        flops: Training FLOPs of the target.
        present: The mixture in use now, that kept tasks are held against.
    """

    model: SearchModel
    goal: Goal
    space: Space
    flops: float
    present: Mixture | None = None

    @property
    def shares(self) -> Array:
        """Shares of the model's tasks in the objective, (T,)."""
        shares = self.goal.shares(self.model.tasks)
        assert shares is not None, "objectives that cannot be predicted are left out before"
        return shares

    def score(self, ratios: Array) -> Scored:
        """Scores mixtures (n, K)."""
        scores = self.model.sweep(ratios, self.flops)
        values = scores @ self.shares - self.space.penalty(ratios)
        return Scored(ratios=ratios, values=np.where(self._kept(scores), values, -np.inf))

    def _kept(self, scores: Array) -> Array:
        kept = np.ones(len(scores), bool)
        if self.goal.keep and self.present is not None:
            now = self.model.sweep(np.array([[self.present.ratio(s) for s in self.space.sources]]), self.flops)[0]
            for task, margin in self.goal.keep.items():
                place = self.model.tasks.index(task)
                kept &= scores[:, place] >= now[place] - margin
        return kept


def best_mixture(
    judge: Judge, lattice: Lattice, *, points: int = POINTS, known: Sequence[Mixture] = (), seed: int = 0
) -> Scored:
    """The best lattice mixture for an objective, first of the climbs' ends.

    Args:
        judge: The objective.
        lattice: Which mixtures count.
        points: Mixtures to score before the climbs; of two sources all of the lattice are scored instead.
        known: Mixtures to score beside.
        seed: Of the spread of the points.
    """
    if len(lattice.low) <= 2:
        return _sorted(judge.score(lattice.all() / lattice.units))
    begun = np.concatenate([corners(lattice), spread_out(lattice.bounds, points, seed), _rows(known, lattice)])
    scored = judge.score(begun)
    starts = np.argsort(-scored.values)[:CLIMBS]
    units = np.array([lattice.nearest(judge.space.mixture(scored.ratios[i])) for i in starts])
    ends = np.array([_climbed(judge, lattice, row) for row in np.unique(units, axis=0)])
    return _sorted(judge.score(np.unique(ends, axis=0) / lattice.units))


def corners(lattice: Lattice) -> Array:
    """For each source the mixture with as much of it as the bounds allow, (K, K)."""
    return _rows([lattice.bounds.corner(s) for s in lattice.bounds.sources], lattice)


def _rows(mixtures: Sequence[Mixture], lattice: Lattice) -> Array:
    kept = [m for m in mixtures if lattice.bounds.contains(m)]
    return np.array([[m.ratio(s) for s in lattice.bounds.sources] for m in kept]).reshape(-1, len(lattice.low))


def _sorted(scored: Scored) -> Scored:
    order = np.argsort(-scored.values, kind="stable")
    return Scored(ratios=scored.ratios[order], values=scored.values[order])


def _climbed(judge: Judge, lattice: Lattice, units: Array) -> Array:
    """Moves units from source to source while the objective gains; large steps first."""
    low, high = np.array(lattice.low), np.array(lattice.high)
    unit = np.eye(len(units), dtype=int)
    pairs = (unit[:, None] - unit[None]).reshape(-1, len(units))
    value = float(judge.score(units[None] / lattice.units).values[0])
    for step in STEPS:
        for _ in range(MOST_STEPS):
            near = units + step * pairs
            near = near[((near >= low) & (near <= high)).all(axis=1)]
            if not len(near):
                break
            values = judge.score(near / lattice.units).values
            best = int(np.argmax(values))
            if not values[best] > value + 1e-7:  # below single precision a gain is none
                break
            units, value = near[best], float(values[best])
    return units
