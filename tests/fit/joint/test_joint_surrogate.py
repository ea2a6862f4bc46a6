import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Records
from flp_ray.core.surrogate import SearchModel
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit.config import FitSettings
from flp_ray.fit.joint import fit_joint
from flp_ray.fit.joint.fitting import FEWEST_RUNS
from flp_ray.fit.joint.link import RUN_WEIGHT
from flp_ray.fit.joint.surrogate import SHARED

TARGET = synthetic.paper_size("7B").flops


def ratios(sources, number, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(sources), number)


def members(protocol):
    return {n for c in protocol.__mro__ for n in vars(c) if not n.startswith("_")}


def test_it_is_a_search_model(fitted):
    model: SearchModel = fitted
    for name in members(SearchModel):
        assert hasattr(model, name), name
    assert model.sources == ("source0", "source1", "source2", "source3")
    assert model.domains == ("domain0", "domain1", "domain2", "domain3")
    assert model.tasks == ("task0", "task1", "task2")
    assert model.weights == pytest.approx([1 / 3] * 3)
    assert model.not_emerged == {}


def test_every_part_has_its_shape(fitted):
    rows = ratios(4, 9)
    mean, spread = fitted.outlook(rows, TARGET, fitted.weights)
    assert mean.shape == spread.shape == (9,)
    assert (spread > 0).all()
    assert fitted.sweep(rows, TARGET).shape == (9, 3)
    assert fitted.sweep(rows[:0], TARGET).shape == (0, 3)
    assert fitted.draws(rows, TARGET, fitted.weights, 11, 0).shape == (11, 9)
    lessons = fitted.lessons(rows[:5], np.full(5, 1e19), 2, aims=rows, target_flops=TARGET, shares=fitted.weights)
    assert lessons.shape == (5, 9, 2 + 4 + 3)
    predicted = fitted.predict([Mixture.of(dict(zip(fitted.sources, row, strict=True))) for row in rows], TARGET)
    assert [p.objective.mean for p in predicted] == pytest.approx(mean.tolist())
    assert set(predicted[0].domain_loss) == set(fitted.domains)
    assert set(predicted[0].performance) == set(fitted.tasks)


@given(st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_the_order_of_the_records_changes_no_bit(records, fitted, shuffled):
    runs, measured, tasks = list(records.runs), list(records.measurements), list(records.tasks)
    for part in (runs, measured, tasks):
        shuffled.shuffle(part)
    again = fit_joint(Records(runs=tuple(runs), measurements=tuple(measured), tasks=tuple(tasks)), FitSettings())
    rows = ratios(4, 20)
    assert again.fit_id == fitted.fit_id
    assert (again.sweep(rows, TARGET) == fitted.sweep(rows, TARGET)).all()
    assert (again.outlook(rows, TARGET, fitted.weights)[1] == fitted.outlook(rows, TARGET, fitted.weights)[1]).all()


def test_runs_of_other_purposes_change_no_bit(records, fitted, world):
    design = synthetic.Design(sizes=(synthetic.paper_size("1B"),), mixtures=(records.runs[0].mixture,), checkpoints=3)
    beside = world.records(design, 77, purpose="validation")
    both = replace(records, runs=records.runs + beside.runs, measurements=records.measurements + beside.measurements)
    again, rows = fit_joint(both, FitSettings()), ratios(4, 20)
    assert again.fit_id == fitted.fit_id
    assert (again.sweep(rows, TARGET) == fitted.sweep(rows, TARGET)).all()


def test_it_is_pickled_whole(fitted):
    again, rows = pickle.loads(pickle.dumps(fitted)), ratios(4, 20)
    assert (again.sweep(rows, TARGET) == fitted.sweep(rows, TARGET)).all()
    assert (again.draws(rows, TARGET, fitted.weights, 3, 1) == fitted.draws(rows, TARGET, fitted.weights, 3, 1)).all()
    assert again.to_dict() == fitted.to_dict()


def test_draws_have_the_moments_of_the_outlook(fitted):
    rows, number = ratios(4, 30), 20_000
    drawn = fitted.draws(rows, TARGET, fitted.weights, number, 0)
    mean, spread = fitted.outlook(rows, TARGET, fitted.weights)
    assert np.abs((drawn.mean(axis=0) - mean) / spread).max() < 4 / np.sqrt(number)
    # Draws take the logarithm's spread as the loss's, which is 1 - variance / 4 of a log-normal's: 1 % here.
    assert drawn.std(axis=0) == pytest.approx(spread, rel=0.03)


def test_draws_of_a_difference_are_surer_than_of_either(fitted):
    pair = np.array([[0.25, 0.25, 0.25, 0.25], [0.27, 0.24, 0.25, 0.24]])
    drawn = fitted.draws(pair, TARGET, fitted.weights, 4000, 0)
    assert (drawn[:, 0] - drawn[:, 1]).std() < 0.2 * drawn.std(axis=0).min()


def test_draws_are_those_of_the_seed(fitted):
    one, again, other = (fitted.draws(ratios(4, 3), TARGET, fitted.weights, 5, s) for s in (1, 1, 2))
    assert (one == again).all()
    assert not (one == other).any()


@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("size", ["0.12B", "1B"])  # at chance, where it tells of the start, and far above it
def test_a_lesson_is_what_runs_take_off_the_spread_of_a_tasks_curve(fitted, size, repeats):
    aims, run, flops = ratios(4, 5), ratios(4, 1, seed=8), np.array([synthetic.paper_size(size).flops])
    domains = len(fitted.laws)
    for place, (share, link) in enumerate(zip(np.eye(3), fitted.links, strict=True)):
        lessons = fitted.lessons(run, flops, repeats, aims=aims, target_flops=TARGET, shares=share)
        common, own = lessons[0, :, 1], lessons[0, :, 2 + domains :]
        assert not np.delete(own, place, axis=1).any()
        assert common**2 == pytest.approx(SHARED * (common**2 + own[:, place] ** 2))
        assert common == pytest.approx(np.sqrt(SHARED / (1 - SHARED)) * own[:, place])  # of the same sign
        taught = np.hypot(common, own[:, place])
        here, rows = link.rows(fitted.losses(run, flops)), link.rows(fitted.losses(aims, TARGET))
        weight = RUN_WEIGHT * repeats / link.noise**2
        after = np.linalg.inv(np.linalg.inv(link.covariance) + weight * here.T @ here)
        assert taught**2 == pytest.approx(((rows @ (link.covariance - after)) * rows).sum(axis=1), rel=1e-4)


def test_pending_runs_leave_the_expectation_and_narrow_the_spread(fitted, fitted_floors):
    for model in (fitted, fitted_floors):
        rows = ratios(4, 30)
        known = np.array([model.laws[0].best.runs.z[0] ** 3])
        more = model.also(np.concatenate([known, rows[:2]]), np.array([synthetic.paper_size("0.2B").flops, 1e20, 1e21]))
        mean, spread = model.outlook(rows, TARGET, model.weights)
        new_mean, new_spread = more.outlook(rows, TARGET, model.weights)
        assert np.abs(new_mean - mean).max() < 0.1 * spread.min()  # half a log-normal's lost variance
        assert (new_spread < spread).all()
        assert model.also(rows[:0], np.zeros(0)) is model


def test_intervals_of_80_percent_hold_the_scores_of_new_runs(records_of, random_mixtures_of):
    inside = []
    for seed in range(20):
        world = synthetic.many_source_world(4, seed=seed)
        if seed % 2:
            world = synthetic.optimum_moves(world)
        model = fit_joint(records_of(world, seed, sizes=("0.2B", "0.5B", "1B")), FitSettings())
        mixtures, size = random_mixtures_of(world, 4, 1000 + seed), synthetic.paper_size("3B")
        made = world.records(synthetic.Design(sizes=(size,), mixtures=mixtures, checkpoints=1), 999)
        measured = {c.run.mixture: c.performance for c in made.checkpoints()}
        for mixture, predicted in zip(mixtures, model.predict(mixtures, size.flops), strict=True):
            assert predicted.objective.extrapolated
            inside += [p.low <= measured[mixture][t] <= p.high for t, p in predicted.performance.items()]
    assert 0.70 <= np.mean(inside) <= 0.95


def test_predictions_say_where_they_extrapolate(fitted):
    low, high = fitted.flops_range
    even = Mixture.of(dict.fromkeys(fitted.sources, 0.25))
    corner = Mixture.of({"source0": 1.0})
    flags = [fitted.predict([even], f)[0].objective.extrapolated for f in (low / 1.2, low, high, high * 1.2)]
    assert flags == [True, False, False, True]
    assert [p.objective.extrapolated for p in fitted.predict([even, corner], high)] == [False, True]


def test_an_unknown_source_is_refused(fitted):
    with pytest.raises(ConfigError, match=r"no source 'poetry'.*Train sampling runs with this source"):
        fitted.predict([Mixture.of({"poetry": 0.5, "source0": 0.5})], TARGET)


def test_stage_two_alone(fitted):
    row = fitted.losses(ratios(4, 1), TARGET)[0]
    scores = fitted.predict_performance(dict(zip(fitted.domains, row.tolist(), strict=True)))
    assert list(scores) == list(fitted.tasks)
    shares = [fitted.outlook(ratios(4, 1), TARGET, s)[0][0] for s in np.eye(3)]
    assert list(scores.values()) == pytest.approx(shares)
    with pytest.raises(ConfigError, match="The loss of domain domain1 is missing"):
        fitted.predict_performance({"domain0": 3.0})


def test_every_law_is_a_line_of_the_table(fitted, fitted_floors):
    for model in (fitted, fitted_floors):
        lines = model.lines()
        assert [line.stage for line in lines] == ["loss"] * 4 + ["performance"] * 3
        assert [line.name for line in lines] == [*model.domains, *model.tasks]
        assert all(0 <= line.fit_error < 0.05 for line in lines)
        assert model.to_dict()["fit_id"] == model.fit_id


def test_too_few_runs_are_refused_with_the_number(records_of, world):
    records = records_of(world, sizes=("0.2B",), number=FEWEST_RUNS - 1)
    with pytest.raises(NotEnoughDataError, match=r"on 4 sampling runs \(3 runs are finished\)"):
        fit_joint(records, FitSettings())


def test_nothing_emerged_gives_losses_and_no_score(records_of, world):
    model = fit_joint(records_of(synthetic.nothing_emerges(world)), FitSettings())
    assert not model.weights.any()
    assert model.losses(ratios(4, 3), TARGET).shape == (3, 4)
    with pytest.raises(NotEnoughDataError, match="no task has emerged"):
        model.predict([Mixture.of(dict.fromkeys(model.sources, 0.25))], TARGET)


def test_an_earlier_fit_is_a_beginning_and_no_answer(records_of, world):
    before = fit_joint(records_of(world, number=6), FitSettings())
    records, rows = records_of(world, number=12), ratios(4, 20)
    alone, after = fit_joint(records, FitSettings()), fit_joint(records, FitSettings(), like=before)
    mean, spread = alone.outlook(rows, TARGET, alone.weights)
    # Both searches end at the same numbers but for where they are content to stop.
    assert np.abs(after.outlook(rows, TARGET, after.weights)[0] - mean).max() < 0.2 * spread.min()


def test_tasks_weigh_what_they_are_given(records, fitted):
    weighed = fit_joint(records, FitSettings(weights={"task0": 3.0, "task1": 0.0}))
    assert weighed.weights == pytest.approx([0.75, 0.0, 0.25])
    with pytest.raises(ConfigError, match="task9"):
        fit_joint(records, FitSettings(weights={"task9": 1.0}))


def test_one_source_is_fitted_too(records_of):
    world = synthetic.two_source_world()
    records = records_of(world, sizes=("0.2B", "0.5B"), number=6)
    alone = replace(records, runs=tuple(replace(r, mixture=None) for r in records.runs))
    model = fit_joint(alone, FitSettings())
    (predicted,) = model.predict([Mixture.of({"all": 1.0})], TARGET)
    assert 0 < predicted.objective.low < predicted.objective.high <= 1


def test_it_loads_neither_ray_nor_torch_nor_optuna():
    code = "import flp_ray.fit.joint, sys; assert not {'ray', 'torch', 'optuna', 'scipy.stats'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
