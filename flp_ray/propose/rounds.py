"""The next run of a search, or its end: a pure function of what is known. There are no rounds to wait for.

Whenever a slot is free it is asked again, with what has finished and what is still training. In this order:

    start        the design before anything is known (start.py)
    emergence    an objective has tasks that no run has risen on: a larger size, as far as its cost allows
    stop         the expected regret of every objective is within the tolerance, and the law has been seen at three
                 sizes, so that a floor of the losses or a best mixture that moves with size would have shown
    check        within the tolerance, but not yet seen at three sizes: the cheapest size that is missing
    value        what takes the most off the expected regret for each FLOP (value.py); `repeat` where it was trained
    stop         the budget holds no further run
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.search import DecisionKind
from flp_ray.core.surrogate import SearchModel
from flp_ray.propose.goals import Goal
from flp_ray.propose.space import Space, spread_out
from flp_ray.propose.start import SearchSize
from flp_ray.propose.sweep import Judge
from flp_ray.propose.value import Aims, aims_of, best_candidate

SIZES_SEEN, MIXTURES_SEEN = 3, 3
"""Sizes at which the law must have been seen before the search may end, each at so many mixtures."""

EMERGENCE_RUNS = 2
"""Runs of a size that tell whether a task has risen there."""

EMERGENCE_SHARE, PART_SHARE = 0.5, 0.1
"""Share of what is left of the budget that runs of a larger size may cost to see a task rise: while no objective can be
predicted, and where one can be in part."""

LEAST_GAIN = 0.01
"""Share of the tolerance that a run must take off the expected regret to be worth training."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A run that was decided on.

    Attributes:
        size: Its size.
        mixture: Its mixture.
        finished: Whether it is measured; otherwise it is training or waits for a slot.
    """

    size: str
    mixture: Mixture
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """What stays the same over a search.

    Attributes:
        goals: Objectives.
        space: What may be proposed.
        sizes: What may be trained, cheap to dear.
        target_flops: FLOPs of the training that proposals are for.
        start: Sizes and mixtures of the first runs.
        present: The mixture in use now.
        tolerance: Expected regret (score 0 to 1) within which the search ends.
        budget_flops: What sampling runs may cost together.
        max_runs: Sampling runs at most.
        seed: Of spreads and draws.
        other_sizes: FLOPs of a run by size, of first and earlier runs, whose sizes it may not choose itself.
    """

    goals: tuple[Goal, ...]
    space: Space
    sizes: tuple[SearchSize, ...]
    target_flops: float
    start: tuple[tuple[str, Mixture], ...]
    present: Mixture | None
    tolerance: float
    budget_flops: float
    max_runs: int | None
    seed: int
    other_sizes: Mapping[str, float] = field(default_factory=dict)

    def cost(self, size: str) -> float:
        """FLOPs of a run of a size."""
        return next((s.flops for s in self.sizes if s.name == size), None) or self.other_sizes[size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to do next.

    Attributes:
        kind: Why, as a word; see `flp_ray.core.search.DecisionKind`.
        reason: Why, in a sentence.
        size: The run's size; None for `stop`.
        mixture: The run's mixture; None for `stop`.
        repeat: Runs of this size and mixture that were decided before.
        gain: Expected regret that it takes off; None where nothing was reckoned.
        expected_regret: Largest expected regret among the objectives as known now; None while nothing can be predicted.
        best: Best mixture for the first objective that can be predicted.
    """

    kind: DecisionKind
    reason: str
    size: str | None = None
    mixture: Mixture | None = None
    repeat: int = 0
    gain: float | None = None
    expected_regret: float | None = None
    best: Mixture | None = None


def next_choice(search: Search, model: SearchModel | None, taken: Sequence[Taken], spent_flops: float) -> Choice | None:
    """The next run, or the end; None where what is training must be waited for.

    Args:
        search: What stays the same.
        model: The fit to the finished runs; None where they are too few.
        taken: Every sampling run that was decided on.
        spent_flops: What these cost.
    """
    have = Counter((t.size, t.mixture) for t in taken)
    if search.max_runs is not None and len(taken) >= search.max_runs:
        return _ended(taken, Choice(kind="stop", reason=f"the study's {search.max_runs} runs are used up"))
    for size, mixture in search.start:
        if not have[size, mixture]:
            return _first(search, size, mixture, taken, spent_flops)
    left = search.budget_flops - spent_flops
    goals = predictable(search.goals, model)
    rising = _emergence(search, model, goals, taken, left)
    if rising is not None:
        return rising
    if model is None or not goals:
        reason = "no objective can be predicted: no score has risen at the sizes that the budget allows"
        return _spread(search, taken, left) or _ended(taken, Choice(kind="stop", reason=reason))
    return _valued(search, _with_running(search, model, taken), goals, taken, left)


def predictable(goals: Sequence[Goal], model: SearchModel | None) -> tuple[Goal, ...]:
    """The objectives of which some task can be predicted, and all that must be kept."""
    if model is None:
        return ()
    return tuple(g for g in goals if g.shares(model.tasks) is not None and all(t in model.tasks for t in g.keep))


def _first(search: Search, size: str, mixture: Mixture, taken: Sequence[Taken], spent: float) -> Choice | None:
    if spent + search.cost(size) > search.budget_flops * (1 + 1e-9):
        return _ended(taken, Choice(kind="stop", reason="the budget does not hold the first runs"))
    return Choice(kind="start", reason="one of the first runs, before anything is known", size=size, mixture=mixture)


def _emergence(
    search: Search, model: SearchModel | None, goals: Sequence[Goal], taken: Sequence[Taken], left: float
) -> Choice | None:
    """A run of a larger size, while tasks of an objective have not risen and it does not cost too much."""
    tasks = () if model is None else model.tasks
    missing = sorted({t for g in search.goals for t in g.missing(tasks)})
    if not missing:
        return None
    of_size = Counter(t.size for t in taken)
    finished = Counter(t.size for t in taken if t.finished)
    share = PART_SHARE if goals else EMERGENCE_SHARE
    for size in search.sizes:
        if size.highest is None or finished[size.name] >= EMERGENCE_RUNS:
            continue
        wanted = EMERGENCE_RUNS - of_size[size.name]
        if wanted <= 0:
            return None  # they are training; meanwhile something else
        if wanted * size.flops > share * left:
            return None
        before = [t.mixture for t in taken if t.size == size.name]
        mixture = _first_untaken(search, size, taken) or next(iter(before), None)
        if mixture is None:
            continue  # the text allows none
        reason, repeat = f"no run has risen on {', '.join(missing)} yet; {size.name} may", before.count(mixture)
        return Choice(kind="emergence", reason=reason, size=size.name, mixture=mixture, repeat=repeat)
    return None


def _valued(
    search: Search, model: SearchModel, goals: Sequence[Goal], taken: Sequence[Taken], left: float
) -> Choice | None:
    trained = np.unique([[t.mixture.ratio(s) for s in search.space.sources] for t in taken], axis=0)
    aims = [
        aims_of(
            Judge(model=model, goal=g, space=search.space, flops=search.target_flops, present=search.present),
            search.space,
            trained,
            search.seed,
        )
        for g in goals
    ]
    regret = max(a.regret for a in aims)
    known: dict[str, Any] = {"expected_regret": regret, "best": search.space.mixture(aims[0].best)}
    if not np.isfinite(regret):
        reason = "no mixture is expected to keep what must be kept; widen `keep`, or the bounds"
        return _ended(taken, Choice(kind="stop", reason=reason))
    if regret <= search.tolerance:
        return _confirmed(search, aims, taken, left, known)
    affordable = [None if s.highest is None or s.flops > left else np.array(s.highest) for s in search.sizes]
    least, costs = LEAST_GAIN * search.tolerance, [s.flops for s in search.sizes]
    found = best_candidate(aims, search.space, trained, costs, affordable, search.seed, least=least)
    if found is None or found.gain <= least:
        reason = (
            f"the budget holds no further run; the expected regret is {100 * regret:.2g} points, "
            f"more than the {100 * search.tolerance:.2g} asked for"
            if found is None
            else f"no run is expected to change the choice; the expected regret stays at {100 * regret:.2g} points"
        )
        return _ended(taken, Choice(kind="stop", reason=reason, **known))
    size, mixture = search.sizes[found.size], search.space.mixture(found.ratios)
    repeat = sum(t.size == size.name and t.mixture == mixture for t in taken)
    gain = found.gain / found.repeats
    more = f" ({found.repeats} such runs together)" if found.repeats > 1 else ""
    reason = (
        f"takes {100 * found.gain:.2g} of {100 * regret:.2g} points off the expected regret{more}, "
        f"the most per FLOP of all sizes and mixtures"
    )
    if repeat:
        reason += "; trained before, but its noise is what is unknown"
    return Choice(
        kind="repeat" if repeat else "value",
        reason=reason,
        size=size.name,
        mixture=mixture,
        repeat=repeat,
        gain=gain,
        **known,
    )


def _confirmed(
    search: Search, aims: Sequence[Aims], taken: Sequence[Taken], left: float, known: dict[str, Any]
) -> Choice | None:
    """The end, or a run that the law must be held against before."""
    seen = {s.name: {t.mixture for t in taken if t.size == s.name} for s in search.sizes}
    usable = [s for s in search.sizes if s.highest is not None]
    untaken = {s.name: _first_untaken(search, s, taken) for s in usable}
    exhausted = {s.name for s in usable if seen[s.name] and untaken[s.name] is None}
    enough = [s for s in search.sizes if len(seen[s.name]) >= MIXTURES_SEEN or s.name in exhausted]
    missing = [s for s in usable if s not in enough and untaken[s.name] is not None]
    if len(enough) < min(SIZES_SEEN, len(usable)) and missing and missing[0].flops <= left:
        size = missing[0]
        best = known["best"]
        trainable = all(r <= h + 1e-9 for r, h in zip(best.ratios, size.highest or (), strict=True))
        mixture = best if trainable and best not in seen[size.name] else untaken[size.name]
        reason = (
            f"within the tolerance, but the law has been seen at {len(enough)} sizes; {size.name} would show a floor "
            "of the losses, or a best mixture that moves with size"
        )
        return Choice(kind="check", reason=reason, size=size.name, mixture=mixture, **known)
    if any(not t.finished for t in taken):
        return None
    reason = (
        f"the expected regret, {100 * known['expected_regret']:.2g} points, is within the tolerance of "
        f"{100 * search.tolerance:.2g}"
    )
    return Choice(kind="stop", reason=reason, **known)


def _spread(search: Search, taken: Sequence[Taken], left: float) -> Choice | None:
    """A cheap run at a new mixture, so that no slot stands idle while larger runs are under way."""
    size = next((s for s in search.sizes if s.highest is not None), None)
    if size is None or size.flops > left or all(t.finished or t.size == size.name for t in taken):
        return None
    mixture = _first_untaken(search, size, taken)
    reason = "spreads the mixtures at the cheapest size while larger runs are under way"
    return None if mixture is None else Choice(kind="start", reason=reason, size=size.name, mixture=mixture)


def _first_untaken(search: Search, size: SearchSize, taken: Sequence[Taken]) -> Mixture | None:
    """A mixture that the size has not been trained at: of the first runs, else of an even spread; None: no such."""
    have = {t.mixture for t in taken if t.size == size.name}
    highest = np.array(size.highest)
    lattice = search.space.lattice
    spread = (
        lattice.mixture(lattice.nearest(search.space.mixture(r))) for r in spread_out(lattice.bounds, 64, search.seed)
    )
    for mixture in (*dict.fromkeys(m for _, m in search.start), *spread):
        if mixture not in have and (np.array(mixture.ratios) <= highest + 1e-9).all():
            return mixture
    return None


def _with_running(search: Search, model: SearchModel, taken: Sequence[Taken]) -> SearchModel:
    running = [t for t in taken if not t.finished]
    ratios = np.array([[t.mixture.ratio(s) for s in search.space.sources] for t in running])
    return model.also(ratios.reshape(-1, len(search.space.sources)), np.array([search.cost(t.size) for t in running]))


def _ended(taken: Sequence[Taken], stop: Choice) -> Choice | None:
    """The end, once nothing is training any more."""
    return stop if all(t.finished for t in taken) else None
