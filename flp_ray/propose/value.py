"""What a next run is worth: the regret at the target that it is expected to take off, for each FLOP it costs.

Notation
    f_j  true objective of mixture j at the target      m_j  its expectation now
    regret of taking the best as known now   max_j f_j - f_j*,   j* = argmax m

A run's result moves the expectations by A_j . e, e standard normal (`SearchModel.lessons`), whatever it is. Taking the
best afterwards is worth E max_j (m_j + A_j . e) - max_j m_j more than taking the best now, and that is what the run
takes off the expected regret (the knowledge gradient). One cheap run may change no choice where four would, so each
candidate is also reckoned as several trainings at once, by its gain per FLOP (the KG(*) rule).

Reference: Frazier, Powell and Dayanik 2009 (knowledge gradient); Frazier and Powell 2010 (KG(*), why one step is short
sighted); Wu et al. 2020 (the same over fidelities, per unit of cost).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.propose.space import Space, spread_out
from flp_ray.propose.sweep import FEW_POINTS, Judge, best_mixture, corners

SURPRISES = 2**6
"""Normal draws, each with its mirror image, that an expected maximum is averaged over."""

REPEATS = (1, 4, 16)
"""Trainings of one candidate that are reckoned with at once."""

DRAWS = 512
"""Draws of the truth that an expected regret is averaged over."""

WIDE, HOPEFUL, NEAR = 64, 48, 48
"""Aims by the mean plus two spreads, plus one spread, and around the best mixture."""

CANDIDATES, PROMISING = 40, 24
"""Mixtures to train at: spread over the space, and the most hopeful aims."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aims:
    """The mixtures between which the search decides, for one objective.

    Attributes:
        judge: The objective.
        ratios: (J, K).
        values: Expected objective less penalty, -inf where a kept task falls too far, (J,).
        regret: Expected regret of taking the best of them, score 0 to 1.
        best: Ratios of the best, (K,).
    """

    judge: Judge
    ratios: Array
    values: Array
    regret: float
    best: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A run that could be next.

    Attributes:
        size: Place of its size among those asked about.
        ratios: Its mixture, (K,).
        repeats: Trainings of it that are worth it together; the first is proposed.
        gain: Expected regret that they take off together, over all objectives.
        per_flop: The same a FLOP.
    """

    size: int
    ratios: Array
    repeats: int
    gain: float
    per_flop: float


def aims_of(judge: Judge, space: Space, trained: Array, seed: int) -> Aims:
    """The mixtures between which an objective decides.

    Args:
        judge: The objective.
        space: What may be proposed.
        trained: Mixtures that were trained, (n, K).
        seed: Of the spread of mixtures and of the draws.
    """
    ratios = _pool(judge, space, trained, seed)
    scored = judge.score(ratios)
    values = np.where(
        np.isfinite(scored.values),
        judge.model.outlook(ratios, judge.flops, judge.shares)[0] - space.penalty(ratios),
        -np.inf,
    )
    if not np.isfinite(values).any():
        return Aims(judge=judge, ratios=ratios, values=values, regret=np.inf, best=ratios[0])
    keeps = np.isfinite(values)
    ratios, values = ratios[keeps], values[keeps]
    best = int(np.argmax(values))
    drawn = judge.model.draws(ratios, judge.flops, judge.shares, DRAWS, seed) - space.penalty(ratios)
    regret = float((drawn.max(axis=1) - drawn[:, best]).mean())
    return Aims(judge=judge, ratios=ratios, values=values, regret=regret, best=ratios[best])


def expected_gains(aims: Aims, ratios: Array, flops: Array, repeats: int, surprises: Array) -> Array:
    """What runs take off the expected regret of one objective, (C,).

    Args:
        aims: The objective.
        ratios: Mixtures of the runs, (C, K).
        flops: Their FLOPs, (C,).
        repeats: Trainings of each.
        surprises: Standard normal draws, (F, S).
    """
    judge = aims.judge
    moved = judge.model.lessons(
        ratios, flops, repeats, aims=aims.ratios, target_flops=judge.flops, shares=judge.shares
    ).astype(np.float32)
    behind = (aims.values - aims.values.max()).astype(np.float32)  # in single precision only what they differ by
    after = behind[None, :, None] + moved @ surprises
    return np.asarray(after.max(axis=1).mean(axis=1), float)


def best_candidate(
    aims: Sequence[Aims],
    space: Space,
    trained: Array,
    sizes: Sequence[float],
    allowed: Sequence[Array | None],
    seed: int,
    *,
    least: float = 0.0,
) -> Candidate | None:
    """The run that takes the most off the expected regret for each FLOP.

    Args:
        aims: One an objective; their gains add up.
        space: What may be proposed.
        trained: Mixtures that were trained, (n, K); training them again is a candidate too.
        sizes: FLOPs of a run, by size.
        allowed: Highest ratio of each source by size, (K,), for the text there is; None: cannot be trained.
        seed: Of the spread of mixtures.
        least: Gain that a candidate must pass; where none does, the best per FLOP of all comes back.
    """
    ratios = _candidates(aims, space, trained, seed)
    model = aims[0].judge.model
    factors = 2 + len(model.domains) + len(model.tasks)
    surprises = normal_draws(factors, SURPRISES, seed=3).astype(np.float32)
    best: Candidate | None = None
    for place, (cost, highest) in enumerate(zip(sizes, allowed, strict=True)):
        if highest is None:
            continue
        can = ratios[(ratios <= highest + 1e-9).all(axis=1)]
        if not len(can):
            continue
        for repeats in REPEATS:
            costs = np.full(len(can), cost)
            gains = np.sum([expected_gains(a, can, costs, repeats, surprises) for a in aims], axis=0)
            top = int(np.argmax(gains))
            found = Candidate(
                size=place,
                ratios=can[top],
                repeats=repeats,
                gain=float(gains[top]),
                per_flop=float(gains[top] / (repeats * cost)),
            )
            if best is None or (found.gain > least, found.per_flop) > (best.gain > least, best.per_flop):
                best = found
    return best


def normal_draws(dimensions: int, number: int, *, seed: int) -> Array:
    """Evenly spread standard normal draws and their mirror images, (dimensions, 2 number)."""
    from scipy.special import ndtri
    from scipy.stats.qmc import Sobol

    half = ndtri(Sobol(dimensions, seed=seed).random(number))
    return np.asarray(np.concatenate([half, -half]).T)


def surely_better(judge: Judge, ratios: Array, other: Array, seed: int) -> float:
    """Probability that one mixture (K,) is truly better than another for an objective, 0 to 1."""
    drawn = judge.model.draws(np.stack([ratios, other]), judge.flops, judge.shares, DRAWS, seed)
    difference = drawn[:, 0] - drawn[:, 1]
    spread = float(difference.std())
    return NormalDist().cdf(float(difference.mean()) / spread) if spread > 0 else float(difference.mean() > 0)


def _pool(judge: Judge, space: Space, trained: Array, seed: int) -> Array:
    lattice = space.lattice
    if len(lattice.low) <= 2:
        return lattice.all() / lattice.units
    wide = np.concatenate([corners(lattice), spread_out(lattice.bounds, FEW_POINTS // 4, seed)])
    mean, spread = judge.model.outlook(wide, judge.flops, judge.shares)
    mean = np.where(np.isfinite(judge.score(wide).values), mean - space.penalty(wide), -np.inf)
    chosen = np.unique(np.concatenate([np.argsort(-(mean + k * spread))[:n] for k, n in ((2, WIDE), (1, HOPEFUL))]))
    known = [space.mixture(r) for r in trained if lattice.bounds.contains(space.mixture(r))]
    top = best_mixture(judge, lattice, points=FEW_POINTS, known=known, seed=seed).best
    generator = np.random.default_rng(seed)
    around = np.concatenate([generator.dirichlet(top * c + 0.3, NEAR // 2) for c in (30.0, 200.0)])
    low, high = np.array(lattice.bounds.low), np.array(lattice.bounds.high)
    found = np.concatenate([wide[chosen], _within(around, low, high)])
    units = np.array([lattice.nearest(space.mixture(row)) for row in found])  # what may be proposed, nothing between
    rows = np.concatenate([_within(trained, low, high), top[None], units / lattice.units])
    return np.asarray(rows[np.unique(rows.round(9), axis=0, return_index=True)[1]])


def _candidates(aims: Sequence[Aims], space: Space, trained: Array, seed: int) -> Array:
    lattice = space.lattice
    spread = spread_out(lattice.bounds, CANDIDATES, seed) if len(lattice.low) > 1 else trained[:1]
    hopeful = [a.ratios[np.argsort(-a.values)[: PROMISING // len(aims)]] for a in aims]
    unsure = [_unsure(a) for a in aims]
    made = np.concatenate([corners(lattice), spread, *hopeful, *unsure])
    units = np.array([lattice.nearest(space.mixture(row)) for row in made])
    low, high = np.array(lattice.bounds.low), np.array(lattice.bounds.high)
    rows = np.concatenate([_within(trained, low, high), units / lattice.units])
    return np.asarray(rows[np.unique(rows.round(9), axis=0, return_index=True)[1]])  # to the bit, as it was trained


def _unsure(aims: Aims) -> Array:
    """The aims that may yet turn out best, by the mean plus one spread."""
    mean, spread = aims.judge.model.outlook(aims.ratios, aims.judge.flops, aims.judge.shares)
    return np.asarray(aims.ratios[np.argsort(-(mean + spread))[: PROMISING // 2]])


def _within(ratios: Array, low: Array, high: Array) -> Array:
    keeps = ((ratios >= low - 1e-9) & (ratios <= high + 1e-9)).all(axis=1)
    return np.asarray(ratios[keeps]).reshape(-1, len(low))
