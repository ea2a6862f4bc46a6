"""What a search has found, from the law of all its runs: the best mixtures, the surface around them, the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import INTERVAL_COVERAGE, Prediction, Proposal
from flp_ray.core.search import FrontPoint, MixtureSurface, SearchAnswer
from flp_ray.core.surrogate import SearchModel
from flp_ray.errors import NotEnoughDataError
from flp_ray.propose.goals import MEAN, Goal
from flp_ray.propose.rounds import Search
from flp_ray.propose.space import spread_out
from flp_ray.propose.sweep import Judge, best_mixture, corners
from flp_ray.propose.value import aims_of, surely_better

SURFACE_POINTS = 2**12
"""Mixtures of a surface over more than three sources."""

TERNARY_UNITS = 40
"""Steps along each side of a surface over three sources."""

FRONT_POINTS = 2**15
"""Mixtures that are scored for a Pareto front."""

MOST_ON_FRONT = 24
"""Mixtures of a front that are shown, evenly along it."""

Array = NDArray[Any]


def answer(search: Search, model: SearchModel, goal: Goal, trained: Array) -> SearchAnswer:
    """The best mixture for one objective, beside the present one and the best without constraints.

    Args:
        search: What is sought.
        model: The law of all finished runs.
        goal: An objective that the law can predict.
        trained: Mixtures of the finished runs, (n, K).

    Raises:
        NotEnoughDataError: No mixture is expected to keep what the objective must keep.
    """
    space = search.space
    judge = Judge(model=model, goal=goal, space=space, flops=search.target_flops, present=search.present)
    known = [space.mixture(row) for row in trained]
    found = best_mixture(judge, space.lattice, known=known, seed=search.seed)
    if not found.feasible:
        kept = ", ".join(goal.keep)
        raise NotEnoughDataError(
            f"No mixture is expected to keep {kept} as objective {goal.name} asks. Allow a larger loss in its `keep`."
        )
    aims = aims_of(judge, space, np.concatenate([trained, found.best[None]]), search.seed)
    free = None
    if space.constrained or goal.keep or space.prior is not None:
        alone = Judge(
            model=model,
            goal=replace(goal, keep={}),
            space=replace(space, lattice=space.free, prior=None),
            flops=search.target_flops,
        )
        free = best_mixture(alone, space.free, known=known, seed=search.seed).best
    present = None if search.present is None else np.array([search.present.ratio(s) for s in space.sources])
    return SearchAnswer(
        objective=goal.name,
        mixture=space.mixture(found.best),
        expected=_expected_of(search, model, goal, found.best),
        expected_regret=aims.regret,
        confident=aims.regret <= search.tolerance,
        free_mixture=None if free is None else space.mixture(free),
        free_expected=None if free is None else _expected_of(search, model, goal, free),
        present=search.present,
        present_expected=None if present is None else _expected_of(search, model, goal, present),
        surely_better=None if present is None else surely_better(judge, found.best, present, search.seed),
    )


def proposal(
    search: Search, model: SearchModel, goal: Goal, mixture: Mixture, *, size: str, train_tokens: int
) -> Proposal:
    """The proposal of a mixture for one objective, with what the law expects of training there.

    Args:
        search: What is sought.
        model: The law.
        goal: The objective.
        mixture: The mixture.
        size: Name of the target size.
        train_tokens: Tokens to train it for.
    """
    (found,) = model.predict([mixture], search.target_flops)
    ratios = np.array([mixture.ratio(s) for s in search.space.sources])
    return Proposal(
        objective=goal.name,
        mixture=mixture,
        size=size,
        train_tokens=train_tokens,
        flops=search.target_flops,
        expected=_expected_of(search, model, goal, ratios),
        performance=found.performance,
        domain_loss=found.domain_loss,
        fit_id=model.fit_id,
        shares=_own_shares(model, goal),
    )


def surface(search: Search, model: SearchModel, goal: Goal) -> MixtureSurface:
    """One objective over the whole simplex: all ratios of two sources, a triangle of three, a spread of more."""
    free, sources = search.space.free, search.space.sources
    if len(sources) <= 2:
        ratios = free.all() / free.units
    elif len(sources) == 3:
        first, second = np.meshgrid(np.arange(TERNARY_UNITS + 1), np.arange(TERNARY_UNITS + 1), indexing="ij")
        units = np.stack([first, second, TERNARY_UNITS - first - second], axis=-1).reshape(-1, 3)
        ratios = units[units[:, 2] >= 0] / TERNARY_UNITS
    else:
        inside = spread_out(search.space.bounds, SURFACE_POINTS // 2, search.seed)
        ratios = np.concatenate([corners(free), spread_out(free.bounds, SURFACE_POINTS // 2, search.seed), inside])
    mean, spread = model.outlook(ratios, search.target_flops, _shares(model, goal))
    half = NormalDist().inv_cdf(0.5 + INTERVAL_COVERAGE / 2) * spread
    bounds = search.space.bounds
    low, high = np.array(bounds.low), np.array(bounds.high)
    feasible = np.asarray(((ratios >= low - 1e-9) & (ratios <= high + 1e-9)).all(axis=1))
    judge = Judge(model=model, goal=goal, space=search.space, flops=search.target_flops, present=search.present)
    if goal.keep:
        feasible &= np.isfinite(judge.score(ratios).values)
    return MixtureSurface(
        objective=goal.name,
        sources=sources,
        ratios=ratios,
        mean=mean,
        low=mean - half,
        high=mean + half,
        feasible=feasible,
    )


def pareto_front(search: Search, model: SearchModel, goals: Sequence[Goal], trained: Array) -> tuple[FrontPoint, ...]:
    """Feasible mixtures that no other beats in every objective, along the first one.

    Args:
        search: What is sought.
        model: The law.
        goals: Two objectives or more that it can predict.
        trained: Mixtures of the finished runs, (n, K).
    """
    space = search.space
    known = [space.mixture(row) for row in trained]
    ends = [
        best_mixture(
            Judge(model=model, goal=g, space=space, flops=search.target_flops), space.lattice, known=known
        ).best
        for g in goals
    ]
    ratios = _front_candidates(search, ends)
    scores = model.sweep(ratios, search.target_flops)
    values = np.stack([scores @ _shares(model, g) for g in goals], axis=1)
    kept = np.flatnonzero(undominated(values))
    order = kept[np.argsort(values[kept, 0])]
    places = np.unique(np.linspace(0, len(order) - 1, min(MOST_ON_FRONT, len(order))).round().astype(int))
    return tuple(
        FrontPoint(
            mixture=space.mixture(ratios[i]),
            expected={g.name: _expected_of(search, model, g, ratios[i]) for g in goals},
        )
        for i in order[places]
    )


def undominated(values: Array) -> Array:
    """Which rows of (n, m) no other row reaches in every column and beats in one, (n,)."""
    mask = np.zeros(len(values), bool)
    left = np.lexsort(-values.T[::-1])  # best first column first: a row can only be beaten by one before it
    while len(left):
        row, others = values[left[0]], values[left[1:]]
        mask[left[0]] = True
        left = left[1:][(others > row).any(axis=1) | (others == row).all(axis=1)]
    return mask


def _front_candidates(search: Search, ends: Sequence[Array]) -> Array:
    """Lattice mixtures spread over the feasible space, and around the lines between the objectives' best ones."""
    lattice = search.space.lattice
    if len(lattice.low) <= 2:
        return np.asarray(lattice.all() / lattice.units)
    generator = np.random.default_rng(search.seed)
    weights = generator.dirichlet(np.ones(len(ends)), FRONT_POINTS // 8)
    between = weights @ np.array(ends)
    shaken = (1 - 0.1) * between + 0.1 * generator.dirichlet(np.ones(len(lattice.low)), len(between))
    made = np.concatenate([np.array(ends), between, shaken, spread_out(lattice.bounds, FRONT_POINTS, search.seed)])
    low, high = np.array(lattice.bounds.low), np.array(lattice.bounds.high)
    return np.asarray(made[((made >= low - 1e-9) & (made <= high + 1e-9)).all(axis=1)])


def _own_shares(model: SearchModel, goal: Goal) -> dict[str, float] | None:
    """Shares by task where the objective is neither the mean nor a task."""
    if goal.name == MEAN or goal.name in model.tasks:
        return None
    return {t: s for t, s in zip(model.tasks, _shares(model, goal).tolist(), strict=True) if s > 0}


def _shares(model: SearchModel, goal: Goal) -> Array:
    shares = goal.shares(model.tasks)
    assert shares is not None, "objectives that cannot be predicted are left out before"
    return shares


def expected_at(search: Search, model: SearchModel, goal: Goal, mixture: Mixture) -> Prediction:
    """An objective of one training of a mixture at the target, with its interval."""
    return _expected_of(search, model, goal, np.array([mixture.ratio(s) for s in search.space.sources]))


def _expected_of(search: Search, model: SearchModel, goal: Goal, ratios: Array) -> Prediction:
    mean, half = (float(v[0]) for v in model.predicted(ratios[None], search.target_flops, _shares(model, goal)))
    (any_of_them,) = model.predict([search.space.mixture(ratios)], search.target_flops)
    mean, low, high = (min(max(v, 0.0), 1.0) for v in (mean, mean - half, mean + half))
    return Prediction(
        mean=mean,
        low=low,
        high=high,
        extrapolated=any_of_them.objective.extrapolated,
    )
