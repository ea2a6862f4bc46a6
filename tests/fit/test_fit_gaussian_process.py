import json
from dataclasses import fields

import numpy as np
import pytest

from flp_ray.errors import NotEnoughDataError
from flp_ray.fit.gaussian_process import (
    GaussianProcess,
    fit_gaussian_process,
    fit_gaussian_processes,
    objective,
)
from flp_ray.fit.matern import matern, squared_distances
from flp_ray.fit.snapshot import gaussian_process_from_dict, gaussian_process_to_dict


def smooth(inputs):
    return 1.5 + 0.3 * np.sin(3 * inputs[:, 0]) - 0.2 * inputs[:, 1] ** 2


def points(count, dimensions=3, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, dimensions))


def noisy(count, dimensions=3, seed=0, noise=0.02):
    inputs = points(count, dimensions, seed)
    return inputs, smooth(inputs) + noise * np.random.default_rng(seed + 1).standard_normal(count)


@pytest.fixture(scope="module")
def process():
    return fit_gaussian_process(*noisy(60))


def test_the_gradient_is_that_of_the_value():
    inputs, targets = noisy(25)
    factors = np.linspace(0.8, 3, 25)
    logs = np.array([-0.5, 0.2, 1.0, 0.3, -1.5])
    _, gradient = objective(logs, inputs, targets - targets.mean(), factors)
    step = 1e-5
    differences = [
        objective(logs + step * e, inputs, targets - targets.mean(), factors)[0]
        - objective(logs - step * e, inputs, targets - targets.mean(), factors)[0]
        for e in np.eye(5)
    ]
    # Central differences: rounding 1e-16 * 100 / 1e-5 and third derivatives times 1e-10.
    assert gradient == pytest.approx(np.array(differences) / (2 * step), rel=1e-6, abs=1e-6)


def test_a_smooth_function_is_found_between_its_points():
    inputs = points(120, 2)
    process = fit_gaussian_process(inputs, smooth(inputs))
    new = points(200, 2, seed=5)
    mean, spread = process.predict(new)
    # The function spans 0.5; 1 percent of it.
    assert np.abs(mean - smooth(new)).max() < 5e-3
    assert spread.max() < 2e-2


def test_noise_and_an_idle_dimension_are_recognised():
    process = fit_gaussian_process(*noisy(200))
    # 200 points: the estimate's own spread is 5 percent, 3 of these.
    assert process.noise == pytest.approx(0.02, rel=0.15)
    assert process.length_scales[2] > 2 * process.length_scales[:2].max()


def test_far_away_the_prediction_is_the_mean_and_the_spread_holds_the_signal(process):
    mean, spread = process.predict(np.full((1, 3), 1e6))
    assert mean[0] == pytest.approx(process.mean)
    assert spread[0] > np.hypot(process.signal, process.noise)


def test_the_spread_of_the_surface_leaves_the_noise_out(process):
    new = points(9, seed=3)
    observation, surface = process.predict(new)[1], process.predict(new, noisy=False)[1]
    assert observation**2 - surface**2 == pytest.approx(np.full(9, process.noise**2))


def test_leaving_one_out_is_a_refit_without_it(process):
    mean, spread = process.leave_one_out()
    for left in (0, 17, 59):
        kept = np.arange(60) != left
        rest = GaussianProcess.of(
            process.inputs[kept],
            process.targets[kept],
            length_scales=process.length_scales,
            signal=process.signal,
            noise=process.noise,
            noise_factors=process.noise_factors[kept],
        )
        expected = rest.predict(process.inputs[~kept])
        assert (mean[left], spread[left]) == (pytest.approx(expected[0][0]), pytest.approx(expected[1][0]))


def test_the_fast_mean_is_the_mean(process):
    new = points(3000, seed=4)
    # Single precision: 1e-7 a term, and weights that cancel.
    assert np.abs(process.mean_at(new) - process.predict(new)[0]).max() < 1e-3 * process.noise + 1e-5


def test_intervals_hold_their_share_on_draws_from_a_process():
    inside, calibrated = [], []
    for seed in range(24):
        generator = np.random.default_rng(seed)
        inputs = generator.uniform(0, 1, (300, 2))
        covariance = matern(squared_distances(inputs / [0.4, 1.0], inputs / [0.4, 1.0]))[0] + 1e-10 * np.eye(300)
        targets = np.linalg.cholesky(covariance) @ generator.standard_normal(300)
        targets += 0.1 * generator.standard_normal(300)
        process = fit_gaussian_process(inputs[:100], targets[:100])
        mean, spread = process.predict(inputs[100:])
        distance = np.abs(targets[100:] - mean) / spread
        inside.append((distance < 1.2816).mean())
        calibrated.append((distance < 1.2816 * process.calibration()).mean())
    # A fit is some 0.05 off by its own noise estimate and its 200 new points: 0.01 for 24, three of these.
    assert np.mean(inside) == pytest.approx(0.8, abs=0.03)
    assert np.mean(calibrated) == pytest.approx(0.8, abs=0.03)


def test_long_tails_are_calibrated():
    inputs = points(300)
    tails = 0.02 * np.random.default_rng(2).standard_t(2, 600)
    process = fit_gaussian_process(inputs, smooth(inputs) + tails[:300])
    new = points(300, seed=9)
    mean, spread = process.predict(new)
    distance = np.abs(smooth(new) + tails[300:] - mean) / spread
    # Binomial: 0.023 for 300 points, as much again from the calibration's 300.
    assert (distance < 1.2816 * process.calibration()).mean() == pytest.approx(0.8, abs=0.07)


def test_one_run_astray_bends_nothing():
    inputs, targets = noisy(80)
    astray = targets.copy()
    astray[5] += 0.6
    new = points(200, seed=6)
    truth = smooth(new)
    clean, hit = fit_gaussian_process(inputs, targets), fit_gaussian_process(inputs, astray)
    error = [np.sqrt(((p.predict(new)[0] - truth) ** 2).mean()) for p in (clean, hit)]
    assert hit.noise_factors[5] == hit.noise_factors.max() > 5
    assert error[1] < 1.5 * error[0]


@pytest.mark.parametrize("seed", range(8))
def test_few_points_keep_their_noise(seed):
    generator = np.random.default_rng(seed)
    code = generator.uniform(0, 1, 8)
    inputs = np.sqrt(np.column_stack([code, 1 - code]))
    process = fit_gaussian_process(inputs, 1 - 0.1 * code + 0.01 * generator.standard_normal(8))
    # Eight residuals determine a spread to a third of itself; a collapse would be a hundredth.
    assert 0.002 < process.noise < 0.03
    assert process.calibration() >= 1


def test_repeated_points_share_their_mean():
    inputs = np.repeat(points(10), 6, axis=0)
    targets = smooth(inputs) + 0.05 * np.random.default_rng(0).standard_normal(60)
    process = fit_gaussian_process(inputs, targets)
    assert process.noise == pytest.approx(0.05, rel=0.35)
    assert np.isfinite(process.leave_one_out()).all()
    assert fit_gaussian_process(np.ones((5, 2)), np.arange(5.0)).predict(np.ones((1, 2)))[0] == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-8])
def test_a_constant_is_predicted_as_a_constant(value):
    process = fit_gaussian_process(points(12), np.full(12, value))
    mean, spread = process.predict(points(5, seed=2))
    assert mean == pytest.approx(np.full(5, value))
    assert (spread > 0).all()
    assert np.isfinite(process.calibration())


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_points_are_refused(count):
    with pytest.raises(NotEnoughDataError, match=f"at least 3 runs, received {count}"):
        fit_gaussian_process(points(count), np.zeros(count))


def test_the_order_of_the_points_changes_nothing(process):
    shuffled = np.random.default_rng(3).permutation(60)
    other = fit_gaussian_process(process.inputs[shuffled], process.targets[shuffled])
    assert (other.length_scales == process.length_scales).all()
    assert (other.signal, other.noise) == (process.signal, process.noise)
    new = points(5, seed=7)
    # The factorisation alone sees the order: rounding.
    assert other.predict(new) == pytest.approx(np.array(process.predict(new)), rel=1e-9)


def test_units_change_nothing_but_the_unit(process):
    other = fit_gaussian_process(100 * process.inputs, 10 * process.targets + 7)
    new = points(5, seed=7)
    assert other.predict(100 * new)[0] == pytest.approx(10 * process.predict(new)[0] + 7, rel=1e-4)


def test_domains_are_fitted_alone_where_they_are_known():
    inputs, targets = noisy(30)
    columns = np.column_stack([targets, -targets])
    columns[[2, 9], 1] = np.nan
    whole, part = fit_gaussian_processes(inputs, columns)
    alone = fit_gaussian_process(np.delete(inputs, [2, 9], axis=0), -np.delete(targets, [2, 9]))
    assert len(part.targets) == 28
    assert (part.weights == alone.weights).all()
    assert (whole.weights == fit_gaussian_process(inputs, targets).weights).all()


def test_a_snapshot_reads_back_to_the_last_bit(process):
    copy = gaussian_process_from_dict(json.loads(json.dumps(gaussian_process_to_dict(process))))
    for field in fields(GaussianProcess):
        assert np.array_equal(getattr(copy, field.name), getattr(process, field.name)), field.name
    new = points(5, seed=7)
    assert np.array_equal(copy.predict(new), process.predict(new))
