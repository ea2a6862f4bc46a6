"""flp_ray's own search, as a study in rounds makes it: the same law, the same decisions, on a bill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Records
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit import FitSettings
from flp_ray.fit.joint import JointSurrogate, fit_joint
from flp_ray.fit.joint.kernel import Frame, Inputs
from flp_ray.fit.joint.loss_law import LossLaw, fit_loss_law
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.goals import goals_of
from flp_ray.propose.rounds import Choice, Search, Taken, next_choice, predictable
from flp_ray.propose.space import search_space
from flp_ray.propose.start import SearchSize, start_design
from flp_ray.propose.sweep import FEW_POINTS, Judge, best_mixture
from tests.benchmarks.search.problem import Answer, Problem, join
from tests.benchmarks.search.regmix_table import Ranking, TableProblem

TOLERANCE = 0.002
"""Expected regret at which the search ends: the default of a study."""

BUDGET_FLOPS, MOST_RUNS = 2.2e22, 60
"""What the study may spend, about the FLOPs of the paper's 37 runs, and on how many runs."""

FIRST, REFIT_UNTIL, REFIT = 8, 48, 4
"""On a table: runs spread out before the law is asked; after how many its numbers are sought anew each so many only."""

Array = NDArray[Any]


def search(problem: Problem, seed: int) -> Iterator[Answer | None]:
    """A study in rounds with default settings; it ends when it is sure, or when its budget or its runs are used up."""
    taken: list[Taken] = []
    parts: list[Records] = []
    repeats: dict[tuple[str, Mixture], int] = {}
    sizes = {size.name: size for size in problem.sizes}
    sought = _search(problem, seed)
    model: JointSurrogate | None = None
    while True:
        model = _fit(parts, model)
        choice = next_choice(sought, model, taken, problem.spent)
        assert choice is not None, "nothing trains in the background here"
        yield _answer(sought, model, choice)
        if choice.size is None or choice.mixture is None:
            return
        key = (choice.size, choice.mixture)
        repeats[key] = repeats.get(key, -1) + 1
        parts.append(problem.pay(choice.mixture, sizes[choice.size], seed=repeats[key]))
        taken.append(Taken(size=choice.size, mixture=choice.mixture, finished=True))


def rank(problem: TableProblem, seed: int) -> Iterator[Ranking | None]:
    """The loss law alone: each next run of the pool is the one that takes most off the variance over all of the pool.

    All runs are of one size, so only the mixture part of the law is at work.
    """
    pool = problem.pool / problem.pool.sum(axis=1, keepdims=True)
    order = _apart(np.cbrt(pool), FIRST, int(np.random.default_rng(seed).integers(len(pool))))
    paid = {i: problem.pay(i)[problem.domain] for i in order}
    yield None
    law: LossLaw | None = None
    while len(paid) < len(pool):
        chosen = np.array(list(paid))
        frame = Frame.of(pool, np.ones(len(pool)), 0.002)
        inputs = frame.inputs(pool, 1.0)
        losses = np.array([paid[i] for i in chosen.tolist()])
        again = law is None or len(paid) < REFIT_UNTIL or len(paid) % REFIT == 0
        law = fit_loss_law(
            problem.domain, inputs.take(chosen), losses, frame, start=law.start if law else None, search=again
        )
        yield Ranking(model=_ranking(law, frame))
        across, spread = law.best.told(inputs, inputs, 1)
        worth = (across**2).sum(axis=1) / spread
        worth[chosen] = -1.0
        best = int(np.argmax(worth))
        paid[best] = problem.pay(best)[problem.domain]


def _search(problem: Problem, seed: int) -> Search:
    low, high = (dict(zip(problem.sources, v, strict=True)) for v in (problem.bounds.low, problem.bounds.high))
    config = SearchConfig(min_ratios=low, max_ratios=high)
    space = search_space(config, problem.sources)
    whole = (1.0,) * len(problem.sources)
    sizes = tuple(SearchSize(name=s.name, flops=s.flops, highest=whole) for s in problem.sizes)
    return Search(
        goals=goals_of(config, {t.task: 1.0 for t in problem.tasks}),
        space=space,
        sizes=sizes,
        target_flops=problem.target.flops,
        start=start_design(space, sizes, mixtures=None, present=None, seed=seed),
        present=None,
        tolerance=TOLERANCE,
        budget_flops=BUDGET_FLOPS,
        max_runs=MOST_RUNS,
        seed=seed,
    )


def _fit(parts: list[Records], like: JointSurrogate | None) -> JointSurrogate | None:
    try:
        return fit_joint(join(*parts), FitSettings(), like=like) if parts else None
    except NotEnoughDataError:
        return None


def _answer(sought: Search, model: JointSurrogate | None, choice: Choice) -> Answer | None:
    goals = predictable(sought.goals, model)
    if model is None or not goals:
        return None
    if choice.best is not None and choice.expected_regret is not None:
        sure = choice.expected_regret <= sought.tolerance
        return Answer(mixture=choice.best, confident=sure, expected_regret=choice.expected_regret, note=choice.reason)
    judge = Judge(model=model, goal=goals[0], space=sought.space, flops=sought.target_flops)
    found = best_mixture(judge, sought.space.lattice, points=FEW_POINTS, seed=sought.seed)
    return Answer(mixture=sought.space.mixture(found.best), confident=False)


def _ranking(law: LossLaw, frame: Frame) -> Callable[[Array], Array]:
    def expected(ratios: Array) -> Array:
        inputs: Inputs = frame.inputs(ratios / ratios.sum(axis=1, keepdims=True), 1.0)
        return law.best.expected(inputs)

    return expected


def _apart(points: Array, number: int, first: int) -> list[int]:
    """Points that are far from those taken before, from a first one."""
    taken = [first]
    while len(taken) < number:
        distance = np.linalg.norm(points[:, None] - points[taken], axis=2).min(axis=1)
        taken.append(int(np.argmax(distance)))
    return taken
