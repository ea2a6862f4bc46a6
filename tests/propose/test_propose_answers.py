from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.errors import NotEnoughDataError
from flp_ray.propose.answers import answer, expected_at, pareto_front, proposal, surface, undominated
from flp_ray.propose.config import ObjectiveConfig, SearchConfig
from flp_ray.propose.goals import Goal
from flp_ray.propose.space import search_space

TARGET = synthetic.paper_size("7B").flops
PRESENT = {"code": 0.9, "general": 0.1}


@pytest.fixture(scope="module")
def found(two_sources, searched):
    """A function: the answer of the finished search over code and general text, under other settings."""
    world, driven = two_sources

    def made(**config):
        search = searched(world, SearchConfig(**config))
        return search, answer(search, driven.model, search.goals[0], driven.trained)

    return made


def test_the_answer_is_the_best_mixture_and_says_how_sure_it_is(two_sources, found):
    world, driven = two_sources
    search, given_ = found()
    assert given_.objective == "mean"
    assert given_.confident
    assert 0 <= given_.expected_regret <= search.tolerance
    best, here = world.objective("mean", [world.optimum("mean", TARGET), given_.mixture], TARGET)
    assert best - here <= 0.005
    assert given_.expected.low < given_.expected.mean < given_.expected.high
    assert given_.expected.extrapolated
    assert given_.expected == expected_at(search, driven.model, search.goals[0], given_.mixture)
    assert given_.free_mixture is given_.free_expected is None
    assert given_.present is given_.present_expected is given_.surely_better is None


def test_the_search_and_the_answer_agree(two_sources, found):
    _, driven = two_sources
    _, given_ = found()
    # The search chooses by the mean over floors, the answer by the likeliest floor: within what neither can tell.
    one, other = (
        expected_at(driven.search, driven.model, driven.search.goals[0], m).mean
        for m in (driven.last.best, given_.mixture)
    )
    assert abs(one - other) <= driven.search.tolerance


def test_a_tolerance_that_is_not_reached_is_not_confident(two_sources):
    _, driven = two_sources
    search = replace(driven.search, tolerance=1e-9)
    assert not answer(search, driven.model, search.goals[0], driven.trained).confident


def test_the_unconstrained_optimum_stands_beside_the_feasible_one(found):
    _, free = found()
    best = free.mixture.ratio("code")
    _, bound = found(max_ratios={"code": best - 0.1})
    assert bound.mixture.ratio("code") == pytest.approx(best - 0.1)
    assert bound.free_mixture == free.mixture
    assert bound.free_expected == free.expected
    assert bound.free_expected.mean > bound.expected.mean


@pytest.mark.parametrize("weight", [0.0, 0.05])
def test_a_prior_has_its_free_optimum_too(found, weight):
    _, free = found()
    _, drawn = found(prior={"code": 0.9, "general": 0.1}, prior_weight=weight)
    assert drawn.free_mixture == free.mixture
    assert (drawn.mixture == free.mixture) == (weight == 0)


def test_a_kept_task_does_not_fall_at_the_answer(two_sources, found):
    _, driven = two_sources
    code = driven.model.tasks.index("programs")
    present = {"code": 0.5, "general": 0.5}

    def fall(mixture):
        rows = np.array([[m.ratio(s) for s in ("code", "general")] for m in (Mixture.of(present), mixture)])
        before, after = driven.model.sweep(rows, TARGET)[:, code]
        return before - after

    weights = {"recall": 1.0}
    _, free = found(objectives=[ObjectiveConfig(name="o", weights=weights)], present=present)
    held = ObjectiveConfig(name="o", weights=weights, keep={"programs": 0.005})
    _, kept = found(objectives=[held], present=present)
    assert fall(free.mixture) > 0.008
    assert fall(kept.mixture) <= 0.005
    assert fall(kept.mixture) == pytest.approx(0.005, abs=0.002)  # a step of the lattice
    assert kept.free_mixture == free.mixture


def test_nothing_that_keeps_a_task_is_refused_with_words(found):
    held = ObjectiveConfig(name="o", weights={"recall": 1.0}, keep={"programs": 0.0})
    with pytest.raises(NotEnoughDataError, match=r"No mixture is expected to keep programs as objective o asks"):
        found(objectives=[held], present={"code": 0.5, "general": 0.5}, max_ratios={"code": 0.01})


def test_the_present_mixture_is_compared(two_sources, found):
    world, driven = two_sources
    search, given_ = found(present=PRESENT)
    present = Mixture.of(PRESENT)
    assert given_.present == present
    assert given_.present_expected == expected_at(search, driven.model, search.goals[0], present)
    assert given_.surely_better > 0.9
    truly = world.objective("mean", [given_.mixture, present], TARGET)
    assert truly[0] > truly[1]
    _, same = found(present=given_.mixture.as_dict())
    assert same.surely_better == pytest.approx(0.5, abs=0.1)


def test_a_proposal_says_what_is_expected_of_all(two_sources, searched):
    world, driven = two_sources
    objective = ObjectiveConfig(name="o", weights={"recall": 3.0, "programs": 1.0})
    search = searched(world, SearchConfig(objectives=["mean", "recall", objective]))
    mixture = Mixture.of({"code": 0.3, "general": 0.7})
    made = [proposal(search, driven.model, g, mixture, size="7B", train_tokens=10) for g in search.goals]
    assert [p.objective for p in made] == ["mean", "recall", "o"]
    assert [p.shares for p in made] == [None, None, {"programs": 0.25, "recall": 0.75}]
    mean, recall, own = made
    assert mean.expected.mean == pytest.approx(np.mean([p.mean for p in mean.performance.values()]))
    assert recall.expected.mean == pytest.approx(recall.performance["recall"].mean)
    assert own.expected.mean == pytest.approx(
        0.25 * own.performance["programs"].mean + 0.75 * own.performance["recall"].mean
    )
    assert {p.fit_id for p in made} == {driven.model.fit_id}
    assert set(own.domain_loss) == set(world.domains)
    assert own.flops == TARGET


@pytest.mark.parametrize(("sources", "points"), [(2, 101), (3, 861), (5, 5 + 2**11 + 2**11)])
def test_a_surface_lies_over_the_whole_simplex(modelled, sources, points):
    world = synthetic.many_source_world(sources)
    model, search, _ = modelled(world, SearchConfig(max_ratios={"source0": 0.3}))
    made = surface(search, model, search.goals[0])
    assert made.ratios.shape == (points, sources)
    assert made.mean.shape == made.low.shape == made.high.shape == made.feasible.shape == (points,)
    assert made.ratios.sum(axis=1) == pytest.approx(np.ones(points))
    assert made.sources == world.sources
    assert (made.low < made.mean).all()
    assert (made.mean < made.high).all()
    assert (made.feasible == (made.ratios[:, 0] <= 0.3 + 1e-9)).all()
    assert 0 < made.feasible.sum() < points
    assert (made.ratios.max(axis=0) == 1).all()
    assert made.mean == pytest.approx(model.outlook(made.ratios, TARGET, model.weights)[0])


def test_a_surface_shows_where_tasks_are_kept(modelled):
    world = synthetic.many_source_world(3)
    objective = ObjectiveConfig(name="o", weights={"task0": 1.0}, keep={"task1": 0.005})
    config = SearchConfig(objectives=[objective], present=dict.fromkeys(world.sources, 1 / 3))
    model, search, _ = modelled(world, config)
    made = surface(search, model, search.goals[0])
    scores = model.sweep(np.concatenate([made.ratios, np.full((1, 3), 1 / 3)]), TARGET)[:, 1]
    assert (made.feasible == (scores[:-1] >= scores[-1] - 0.005)).all()
    assert 0 < made.feasible.sum() < len(made.feasible)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_undominated_rows_are_those_of_a_search_through_all_pairs(rows):
    values = np.array(rows, float)
    expected = [not any((other >= row).all() and (other > row).any() for other in values) for row in values]
    assert undominated(values).tolist() == expected


@pytest.mark.parametrize("sources", [2, 4])
def test_no_point_of_a_front_beats_another_and_all_are_feasible(modelled, sources):
    world = synthetic.many_source_world(sources)
    model, search, rows = modelled(world, SearchConfig(max_ratios={"source0": 0.6}, min_ratios={"source1": 0.1}))
    goals = [Goal(name=t, weights={t: 1.0}) for t in model.tasks[:2]]
    points = pareto_front(search, model, goals, rows)
    assert 1 < len(points) <= 24
    assert all(search.space.bounds.contains(p.mixture) for p in points)
    assert len({p.mixture for p in points}) == len(points)
    swept = model.sweep(np.array([p.mixture.ratios for p in points]), TARGET)[:, :2]
    assert undominated(swept).all()
    assert (np.diff(swept[:, 0]) >= 0).all()
    for place, goal in enumerate(goals):
        alone = answer(search, model, goal, rows)
        best = model.sweep(np.array([alone.mixture.ratios]), TARGET)[0, place]
        assert swept[:, place].max() == pytest.approx(best, abs=1e-5)
    beside = np.random.default_rng(3).dirichlet(np.ones(sources), 5000)
    beside = beside[(beside[:, 0] <= 0.6) & (beside[:, 1] >= 0.1)]
    others = model.sweep(beside, TARGET)[:, :2]
    # 2^15 mixtures were looked through, so 5,000 others find no gain of a tenth of a point in both.
    for row in swept:
        assert not (others > row + 0.001).all(axis=1).any()


def test_the_answer_of_three_sources_keeps_pins(modelled):
    world = synthetic.many_source_world(3)
    model, search, rows = modelled(world, SearchConfig(pinned={"source2": 0.4}))
    given_ = answer(search, model, search.goals[0], rows)
    assert given_.mixture.ratio("source2") == pytest.approx(0.4)
    assert search_space(SearchConfig(pinned={"source2": 0.4}), world.sources).bounds.contains(given_.mixture)
    assert given_.free_expected.mean >= given_.expected.mean
