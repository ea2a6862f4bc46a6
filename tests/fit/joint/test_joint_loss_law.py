from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.fit.config import FitSettings
from flp_ray.fit.joint import fit_joint
from flp_ray.fit.joint.kernel import Frame, covariance
from flp_ray.fit.joint.loss_law import Posterior, fit_loss_law

SIZES = ("0.12B", "0.2B", "0.32B", "0.5B", "0.72B", "1B")


def grid(world, mixtures, sizes):
    return world.records(
        synthetic.Design(sizes=tuple(synthetic.paper_size(s) for s in sizes), mixtures=tuple(mixtures), checkpoints=2),
        0,
    )


def fit_grid(world, mixtures, sizes):
    return fit_joint(grid(world, mixtures, sizes), FitSettings(overlap=world.overlap))


def test_the_exponents_of_eq_5_are_found():
    world = synthetic.many_source_world(4)
    rows = np.random.default_rng(0).dirichlet(np.ones(4), 14)
    mixtures = [Mixture.of(dict(zip(world.sources, row, strict=True))) for row in rows]
    fitted = fit_grid(world, mixtures, ("0.12B", "0.2B", "0.5B", "1B"))
    for law, line in zip(fitted.laws, fitted.lines(), strict=False):
        true = world.domains[law.domain]
        # Runs scatter by 0.003; log r' spreads by about 1 over 56 runs: 0.0005 a slope. The surface, which takes its
        # part of a curve in log r', leaves some 10 % of the largest exponent (0.04) open.
        found = {s: line.parameters[f"exponent_{s}"] for s in world.sources}
        assert found == pytest.approx(true.exponents, abs=0.004)
        assert line.parameters["power"] == pytest.approx(true.exponent_total + sum(true.exponents.values()), abs=0.003)
        assert law.best.floor == 0
        assert line.fit_error < 0.003  # that of the planted runs
        assert line.held_out_error < 0.01


@pytest.mark.parametrize("floored", [False, True])
def test_a_floor_is_seen_where_there_is_one(floored):
    world = synthetic.two_source_world()
    if floored:
        world = synthetic.losses_with_a_floor(world)
    mixtures = synthetic.two_source_mixtures("code", "general", [0, 0.25, 0.5, 1])
    fitted = fit_grid(world, mixtures, SIZES)
    for law in fitted.laws:
        chance_of_none = sum(p.weight for p in law.floors if p.floor == 0)
        assert sum(p.weight for p in law.floors) == pytest.approx(1)
        assert (chance_of_none < 0.1) if floored else (chance_of_none > 0.4 and law.best.floor == 0)
        if floored:  # six sizes tell it to one step of the grid of shares, 0.2 of the lowest loss
            mean = sum(p.weight * p.floor for p in law.floors)
            lowest = world.losses(np.array([[0.5, 0.5]]), synthetic.paper_size("1B").flops)[0].min()
            assert mean == pytest.approx(world.domains[law.domain].floor, abs=0.2 * max(lowest, mean))


def test_two_sizes_leave_the_floor_alone():
    world = synthetic.losses_with_a_floor(synthetic.two_source_world())
    mixtures = synthetic.two_source_mixtures("code", "general", [0, 0.25, 0.5, 1])
    for law in fit_grid(world, mixtures, SIZES[:2]).laws:
        assert [p.floor for p in law.floors] == [0.0]


def covered(world, seed, records_of, random_mixtures_of):
    """Which domain losses of new runs, within the ladder and three times beyond, lie in their intervals."""
    fitted = fit_joint(records_of(world, seed, sizes=("0.2B", "0.5B", "1B")), FitSettings())
    mixtures, inside = random_mixtures_of(world, 4, 1000 + seed), []
    for size in ("0.5B", "3B"):
        target = synthetic.paper_size(size)
        made = world.records(synthetic.Design(sizes=(target,), mixtures=mixtures, checkpoints=2), 999)
        last = {c.run.mixture: c for c in made.checkpoints()}
        for mixture, predicted in zip(mixtures, fitted.predict(mixtures, target.flops), strict=True):
            for domain, interval in predicted.domain_loss.items():
                inside.append(interval.low <= last[mixture].domain_loss[domain] <= interval.high)
            assert last[mixture].domain_loss.keys() == predicted.domain_loss.keys()
    return inside


def test_intervals_of_80_percent_cover_new_runs_of_24_worlds(records_of, random_mixtures_of):
    inside = []
    for seed in range(24):
        world = synthetic.many_source_world(4, seed=seed) if seed % 2 else synthetic.drawn_two_source_world(seed)
        if seed % 3 == 1:  # the best mixture moves with size
            world = synthetic.optimum_moves(world)
        elif seed % 3 == 2:  # each size lies off the law by its own learning rate
            world = replace(world, size_noise=0.005, size_seed=seed)
        inside += covered(world, seed, records_of, random_mixtures_of)
    # Nominal 80 %. The worlds that obey Eq. 5 are easier than the law takes for granted, so it is rather too wide.
    assert 0.70 <= np.mean(inside) <= 0.95


@pytest.fixture(scope="session")
def posterior_of(runs_of, numbers_of):
    def made(seed, **named):
        inputs, frame = runs_of(seed)
        logs = 1 + 0.05 * np.random.default_rng(seed).standard_normal(len(inputs))
        return Posterior.of(inputs, logs, numbers_of(**named), floor=0.3, weight=1.0), frame, logs

    return made


def elsewhere(frame, seed, number=7):
    ratios = np.random.default_rng(1000 + seed).dirichlet(np.ones(3), number)
    return frame.inputs(ratios, 3e21)


@given(seed=st.integers(0, 500), repeats=st.integers(1, 4), noise=st.sampled_from([0.001, 0.01, 0.1]))
@settings(max_examples=40)
def test_what_a_run_is_told_to_teach_is_what_adding_it_teaches(posterior_of, seed, repeats, noise):
    before, frame, logs = posterior_of(seed, noise=noise)
    there, generator = elsewhere(frame, seed), np.random.default_rng(seed)
    known = bool(seed % 2)  # a run at a mixture and size that were trained before, or a new one
    run = before.runs.take(np.array([3])) if known else frame.inputs(generator.dirichlet(np.ones(3), 1), 1e19)
    across, spread = before.told(run, there, repeats)
    measured = before.expected(run)[0] + 0.1 * generator.standard_normal()
    runs = before.runs
    for _ in range(repeats):
        runs = runs.and_(run)
    after = Posterior.of(
        runs, np.append(logs, np.full(repeats, measured)), before.numbers, floor=before.floor, weight=1.0
    )
    (mean, var), (new_mean, new_var) = before.moments(there), after.moments(there)
    assert new_var == pytest.approx(var - across[0] ** 2 / spread[0], rel=1e-6, abs=1e-9 * var.max())
    # The run is expected where the law is, and where what its size and its mixture share has been seen, by that too.
    surprise = measured - expected_of_run(before, run)
    assert new_mean == pytest.approx(mean + across[0] / spread[0] * surprise, rel=1e-6, abs=1e-8)


def expected_of_run(posterior, run):
    from flp_ray.fit.joint.kernel import run_covariance

    return float((posterior.mean + run_covariance(run, posterior.runs, posterior.numbers) @ posterior.weights)[0])


@given(seed=st.integers(0, 500))
@settings(max_examples=25)
def test_runs_that_come_out_as_expected_leave_the_mean_and_narrow_the_spread(posterior_of, seed):
    before, frame, _ = posterior_of(seed, size=0.03, fault=0.02)
    there = elsewhere(frame, seed)
    new = frame.inputs(np.random.default_rng(seed).dirichlet(np.ones(3), 3), np.array([1e19, 3e20, 3e20]))
    pending = new.and_(before.runs.take(np.array([3])))  # of sizes seen and unseen, and one trained before
    after = before.also(pending)
    (mean, var), (new_mean, new_var) = before.moments(there), after.moments(there)
    assert new_mean == pytest.approx(mean, abs=1e-8)
    assert (new_var < var).all()
    assert before.also(pending.take(np.array([], int))) is before


def test_pending_runs_keep_what_is_known_of_the_floor(fitted_floors):
    pending = fitted_floors.frame.inputs(np.full((2, 4), 0.25), np.array([1e20, 1e21]))
    there = fitted_floors.frame.inputs(np.random.default_rng(0).dirichlet(np.ones(4), 20), 5e22)
    for law in fitted_floors.laws:
        assert len(law.floors) > 1
        after = law.also(pending)
        (mean, spread), (new_mean, new_spread) = law.loss(there), after.loss(there)
        assert [(p.floor, p.weight) for p in after.floors] == [(p.floor, p.weight) for p in law.floors]
        # The mean of a log-normal number falls by half of what its variance loses, and nothing else moves.
        assert np.abs(new_mean - mean).max() < 0.1 * spread.min()
        assert (new_spread < spread).all()


def test_between_holds_the_variances_on_its_diagonal(posterior_of):
    posterior, frame, _ = posterior_of(0)
    there = elsewhere(frame, 0)
    between = posterior.between(there, there)
    assert np.diag(between) == pytest.approx(posterior.moments(there)[1])
    assert np.linalg.eigvalsh(between)[0] > -1e-10
    assert (np.diag(between) < np.diag(covariance(there, there, posterior.numbers)) + 1).all()


def test_each_run_is_left_out_as_if_it_had_not_been_trained(posterior_of):
    whole, _, logs = posterior_of(3)
    left_out = whole.leave_one_out()
    for i in range(len(logs)):
        others = np.flatnonzero(np.arange(len(logs)) != i)
        without = Posterior.of(whole.runs.take(others), logs[others], whole.numbers, floor=0.3, weight=1.0)
        assert left_out[i] == pytest.approx(expected_of_run(without, whole.runs.take(np.array([i]))), abs=1e-8)


@pytest.mark.parametrize("named", ["fitted", "fitted_floors"])
def test_a_sweep_is_the_likeliest_floors_expectation_in_single_precision(request, named):
    fitted = request.getfixturevalue(named)
    inputs = fitted.frame.inputs(np.random.default_rng(0).dirichlet(np.ones(4), 3000), 5e22)
    for law in fitted.laws:
        expected = law.best.floor + np.exp(law.best.expected(inputs))
        assert law.best.sweep(inputs) == pytest.approx(expected, rel=2e-6)


def test_a_sweep_is_the_expected_loss_where_the_law_is_well_known():
    world = synthetic.two_source_world()
    mixtures = synthetic.two_source_mixtures("code", "general", np.linspace(0, 1, 9).tolist())
    fitted = fit_grid(world, mixtures, ("0.2B", "1B"))
    inputs = fitted.frame.inputs(np.stack([np.linspace(0, 1, 101), np.linspace(1, 0, 101)], axis=1), 3e20)
    for law in fitted.laws:
        assert law.best.sweep(inputs) == pytest.approx(law.loss(inputs)[0], rel=1e-3)


def test_more_runs_make_surer(world, records_of):
    there = np.random.default_rng(0).dirichlet(np.ones(4), 30)
    spreads = []
    for number in (6, 12, 40):
        fitted = fit_joint(records_of(world, number=number), FitSettings())
        inputs = fitted.frame.inputs(there, 1e21)
        spreads.append(np.mean([law.loss(inputs)[1].mean() for law in fitted.laws]))
    assert spreads[0] > spreads[1] > spreads[2]


def test_numbers_that_are_not_sought_are_taken_as_they_are(numbers_of, runs_of):
    inputs, frame = runs_of(0)
    losses = np.exp(1 + 0.02 * np.random.default_rng(0).standard_normal(len(inputs)))
    law = fit_loss_law("d", inputs, losses, frame, start=numbers_of(), search=False)
    assert law.start.noise == numbers_of().noise
    assert law.observations == len(inputs)
    assert isinstance(frame, Frame)
