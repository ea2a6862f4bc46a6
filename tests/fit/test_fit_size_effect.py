import numpy as np
import pytest

from flp_ray.fit.size_effect import size_deviation, size_shifts

SIZES, EACH = 7, 6
FLOPS = np.repeat(np.geomspace(1e19, 1e21, SIZES), EACH)
GROUP = np.repeat(np.arange(SIZES), EACH)


def rows():
    ratio = np.tile(np.linspace(-1, 1, EACH), SIZES)
    size = np.log(FLOPS) - np.log(FLOPS).mean()
    return np.stack([np.ones(SIZES * EACH), size / size.std(), ratio], axis=1)


def logs(run_noise, size_noise, seed):
    generator = np.random.default_rng(seed)
    deviations = size_noise * generator.standard_normal(SIZES)
    return rows() @ np.array([1.0, -0.1, 0.05]) + deviations[GROUP] + run_noise * generator.standard_normal(len(GROUP))


def test_the_deviation_of_sizes_is_found_on_average():
    squares = [size_deviation(rows(), logs(0.003, 0.01, s), GROUP) ** 2 for s in range(300)]
    # Five free sizes: a variance is known to sqrt(2 / 5) of itself in a draw, to 3.7 percent in 300; 12 is three.
    assert np.mean(squares) == pytest.approx(0.01**2, rel=0.12)


def test_without_one_little_is_made_up():
    found = [size_deviation(rows(), logs(0.003, 0.0, s), GROUP) for s in range(300)]
    assert np.mean(np.array(found) == 0) > 0.4
    # By luck: the run noise of a mean of six, 0.0012.
    assert np.sqrt(np.mean(np.square(found))) < 0.0012


def test_shifts_spread_the_members_where_sizes_deviate_and_add_up_to_nothing():
    counts = np.ones((32, len(GROUP)), dtype=int)
    losses = np.exp(np.stack([logs(0.003, 0.02, 0), logs(0.003, 0.0, 5)], axis=1))
    shifts = size_shifts(rows(), FLOPS, losses, counts, seed=0)
    assert shifts.shape == (32, 2, 3)
    assert shifts.mean(axis=0) == pytest.approx(np.zeros((2, 3)), abs=1e-12)
    assert shifts[:, 0, :2].std(axis=0).min() > 0.002
    assert np.abs(shifts[:, 0, 2]).max() < 1e-12  # every size has every mixture: nothing leaks into the mixture's part
    assert (size_shifts(rows(), FLOPS, losses, counts, seed=0) == shifts).all()


def test_few_sizes_tell_nothing():
    few = GROUP < 3
    assert size_deviation(rows()[few], logs(0.0, 0.1, 0)[few], GROUP[few]) == 0.0


def test_missing_losses_are_left_out():
    losses = np.exp(logs(0.003, 0.02, 0))[:, None]
    losses[4] = np.nan
    assert np.isfinite(size_shifts(rows(), FLOPS, losses, np.ones((4, len(GROUP)), dtype=int), seed=0)).all()
