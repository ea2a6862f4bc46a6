import itertools

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.propose.config import ObjectiveConfig, SearchConfig
from flp_ray.propose.goals import Goal, goals_of
from flp_ray.propose.lattice import Lattice
from flp_ray.propose.simplex import Bounds
from flp_ray.propose.space import search_space
from flp_ray.propose.sweep import Judge, Scored, best_mixture, corners

TARGET = synthetic.paper_size("7B").flops


@pytest.fixture(scope="module")
def three(modelled):
    world = synthetic.many_source_world(3)
    return world, modelled(world)[0]


@pytest.fixture(scope="module")
def five(modelled):
    world = synthetic.many_source_world(5)
    return world, modelled(world)[0]


def judged(world, model, present=None, goal=None, **config):
    settings = SearchConfig(**config)
    goal = goal or goals_of(settings, dict.fromkeys(world.tasks, 1.0))[0]
    return Judge(model=model, goal=goal, space=search_space(settings, world.sources), flops=TARGET, present=present)


def every(lattice):
    rows = itertools.product(*(range(low, high + 1) for low, high in zip(lattice.low, lattice.high, strict=True)))
    return np.array([r for r in rows if sum(r) == lattice.units]) / lattice.units


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"min_ratios": {"source0": 0.3}, "max_ratios": {"source1": 0.2}},
        {"pinned": {"source2": 0.45}},
        {"prior": {"source1": 1.0}, "prior_weight": 0.05},
    ],
)
def test_the_best_of_three_sources_is_that_of_all_lattice_mixtures(three, config):
    judge = judged(*three, ratio_step=0.05, **config)
    whole = judge.score(every(judge.space.lattice))
    found = best_mixture(judge, judge.space.lattice, points=256)
    assert found.values[0] == pytest.approx(whole.values.max(), abs=1e-7)
    assert found.best == pytest.approx(whole.best)


def test_the_best_of_five_sources_is_beaten_by_no_other(five):
    judge = judged(*five, max_ratios={"source0": 0.2})
    found = best_mixture(judge, judge.space.lattice, points=2**10)
    rows = np.random.default_rng(0).dirichlet(np.ones(5), 40_000)
    rows = rows[rows[:, 0] <= 0.2]
    assert found.values[0] >= judge.score(rows).values.max() - 1e-6
    units = np.round(found.best * 100).astype(int)
    assert found.best == pytest.approx(units / 100)
    near = np.array(judge.space.lattice.neighbours(tuple(units.tolist()))) / 100
    assert found.values[0] >= judge.score(near).values.max() - 1e-6


def test_all_ratios_of_two_sources_are_scored(modelled):
    world = synthetic.drawn_two_source_world(0)
    judge = judged(world, modelled(world)[0])
    found = best_mixture(judge, judge.space.lattice)
    assert len(found.values) == 101
    assert (np.diff(found.values) <= 0).all()
    assert found.values[0] == judge.score(judge.space.lattice.all() / 100).values.max()


def test_mixtures_that_are_known_are_begun_from(five):
    judge = judged(*five)
    best = best_mixture(judge, judge.space.lattice, points=2**12)
    mixture = judge.space.mixture(best.best)
    poorly = best_mixture(judge, judge.space.lattice, points=1, known=[mixture])
    assert poorly.values[0] == pytest.approx(best.values[0], abs=1e-7)


def test_a_prior_draws_the_best_mixture_towards_it(three):
    world, model = three
    prior = {"source0": 0.1, "source1": 0.1, "source2": 0.8}
    there = np.array([0.1, 0.1, 0.8])
    distances = []
    for weight in (0.0, 0.01, 1.0):
        judge = judged(world, model, prior=prior, prior_weight=weight)
        distances.append(np.abs(best_mixture(judge, judge.space.lattice, points=256).best - there).sum())
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.05  # a nat weighs more than all scores differ by


def test_a_kept_task_keeps_mixtures_out(three):
    world, model = three
    present = Mixture.of({"source0": 0.1, "source1": 0.1, "source2": 0.8})
    weights = {"task0": 1.0}
    free = judged(world, model, goal=Goal(name="g", weights=weights))
    held = judged(world, model, present, Goal(name="g", weights=weights, keep={"task1": 0.002}))
    rows = every(Lattice.of(held.space.bounds, 0.05))
    now = model.sweep(np.array([present.ratios]), TARGET)[0]
    falls = now[1] - model.sweep(rows, TARGET)[:, 1]
    values = held.score(rows).values
    assert np.isfinite(values).tolist() == (falls <= 0.002).tolist()
    assert 0 < np.isfinite(values).sum() < len(rows)
    assert values[np.isfinite(values)] == pytest.approx(free.score(rows).values[np.isfinite(values)])
    found = best_mixture(held, held.space.lattice, points=256)
    assert found.feasible
    assert model.sweep(found.best[None], TARGET)[0, 1] >= now[1] - 0.002


def test_where_nothing_keeps_what_must_be_kept_nothing_is_feasible(three):
    world, model = three
    top = {
        t: best_mixture(judged(world, model, goal=Goal(name=t, weights={t: 1.0})), _free(world), points=256)
        for t in ("task0", "task1")
    }
    present = judged(world, model).space.mixture(top["task1"].best)
    away = {"max_ratios": {s: max(0.0, r - 0.3) for s, r in present.as_dict().items() if r > 0.3}}
    goal = Goal(name="g", weights={"task0": 1.0}, keep={"task1": 0.0})
    judge = judged(world, model, present, goal, **away)
    assert away["max_ratios"]
    assert not best_mixture(judge, judge.space.lattice, points=256).feasible


def _free(world):
    return Lattice.of(Bounds.of(world.sources, {}, {}), 0.01)


def test_own_weights_are_shares_of_the_tasks_that_are_predicted(three):
    world, model = three
    objective = ObjectiveConfig(name="o", weights={"task2": 3.0, "task0": 1.0})
    judge = judged(world, model, objectives=[objective])
    rows = every(Lattice.of(judge.space.bounds, 0.1))
    scores = model.sweep(rows, TARGET)
    assert judge.score(rows).values == pytest.approx(0.25 * scores[:, 0] + 0.75 * scores[:, 2])


def test_corners_keep_the_bounds():
    lattice = Lattice.of(Bounds.of(("a", "b", "c"), {"a": 0.1}, {"c": 0.6}), 0.01)
    assert corners(lattice) == pytest.approx(np.array([[1.0, 0, 0], [0.1, 0.9, 0], [0.4, 0, 0.6]]))
    assert Scored(ratios=np.eye(2), values=np.array([-np.inf, -np.inf])).feasible is False
