import numpy as np
import pytest

from flp_ray.fit.line import STRENGTHS, fit_lines


def sample(noise, seed=0, runs=12, points=10):
    """Scores along a line of three losses that move together, in runs."""
    generator = np.random.default_rng(seed)
    common = generator.standard_normal((runs * points, 1))
    inputs = common + 0.1 * generator.standard_normal((runs * points, 3))
    scores = inputs @ np.array([-0.5, -0.3, 0.0]) + 0.2 + noise * generator.standard_normal(runs * points)
    return inputs, scores[None], np.ones((1, runs * points), bool), np.repeat(np.arange(runs), points)


def test_a_line_is_found_again():
    inputs, scores, emerged, runs = sample(0.0)
    line = fit_lines(inputs, scores, emerged, runs, np.ones((1, 1, 12)))[0, 0]
    # The weakest ridge still shrinks the small differences between the losses: strength / spread^2 = 1e-5 / 0.01.
    assert line == pytest.approx([-0.5, -0.3, 0.0, 0.2], abs=2e-3)


def test_it_is_the_ridge_of_numpy_s_own_least_squares():
    inputs, scores, emerged, runs = sample(0.3)
    drawn = np.random.default_rng(1).integers(0, 3, (4, 1, 12))
    lines = fit_lines(inputs, scores, emerged, runs, drawn)[:, 0]

    def plain(counts, strength):
        weights = counts[runs] / counts[runs].sum()
        rows = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
        penalty = np.sqrt(strength) * np.eye(4)[:3]
        rows = np.concatenate([rows * np.sqrt(weights)[:, None], penalty])
        return np.linalg.lstsq(rows, np.concatenate([scores[0] * np.sqrt(weights), np.zeros(3)]), rcond=None)[0]

    fits = [np.array([plain(c[0], s) for c in drawn]) for s in STRENGTHS]
    assert any(lines == pytest.approx(f, abs=1e-8) for f in fits)


def test_under_noise_slopes_of_collinear_losses_stay_together():
    def apart(strengths):
        spreads = []
        for seed in range(20):
            inputs, scores, emerged, runs = sample(3.0, seed)
            rows = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
            plain = np.linalg.lstsq(rows, scores[0], rcond=None)[0]
            line = fit_lines(inputs, scores, emerged, runs, np.ones((1, 1, 12)))[0, 0]
            spreads.append(np.ptp((line if strengths else plain)[:3]))
        return np.mean(spreads)

    # The true slopes lie 0.5 apart; noise of 3 over differences of 0.1 puts those of a plain regression 4 to 5 apart.
    assert apart(True) < apart(False) / 3


def test_points_that_have_not_emerged_change_nothing():
    inputs, scores, emerged, runs = sample(0.1)
    emerged[0, ::3] = False
    other = scores.copy()
    other[0, ::3] = 99.0
    drawn = np.ones((2, 1, 12))
    assert (fit_lines(inputs, scores, emerged, runs, drawn) == fit_lines(inputs, other, emerged, runs, drawn)).all()
