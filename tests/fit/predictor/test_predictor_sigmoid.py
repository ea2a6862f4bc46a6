import numpy as np
import pytest

from flp_ray.fit.predictor.sigmoid import _quadratic, fit_sigmoid


def curve(loss, low=0.25, high=0.9, steepness=6.0, middle=2.4):
    return low + (high - low) / (1 + (loss / middle) ** steepness)


def points(seed=0, count=60, noise=0.005, lowest=1.9, **shape):
    loss = np.linspace(lowest, 3.6, count)
    scores = curve(loss, **shape) + noise * np.random.default_rng(seed).standard_normal(count)
    return loss[:, None, None], scores[:, None], np.ones((1, count))


def test_gradient_and_cost_agree():
    generator = np.random.default_rng(0)
    p = generator.normal([1.5, 1.0, 1.0, 0.02, 0.3, -0.2], 0.2, (3, 6))
    x, y, weights = np.log(generator.uniform(1.5, 3, (20, 2))), generator.uniform(0.2, 0.8, 20), np.ones((3, 20))
    told = 0.25, np.zeros(6), np.ones(6)
    _, gradient, _ = _quadratic(p, x, y, weights, *told)
    step = 1e-6
    for j in range(6):
        moved = [p + sign * step * np.eye(6)[j] for sign in (1, -1)]
        costs = [_quadratic(m, x, y, weights, *told)[0] for m in moved]
        # Central differences of costs around 1e3: rounding 1e-7, truncation below.
        assert gradient[:, j] == pytest.approx((costs[0] - costs[1]) / (2 * step), rel=1e-4, abs=1e-3)


def test_a_planted_curve_is_found_and_continued():
    inputs, scores, weights = points()
    link = fit_sigmoid(inputs, scores, weights, np.array([0.25]), np.array([True]), seed=0)
    ahead = np.array([1.7, 1.5])
    assert link.members(ahead[None, :, None, None])[0, :, 0] == pytest.approx(curve(ahead), abs=0.02)
    found = link.describe(0)
    assert found["lower"] == pytest.approx(0.25, abs=0.02)
    assert found["middle"] == pytest.approx(2.4, rel=0.05)


def test_scores_below_and_above_chance_bend_the_lower_end():
    inputs, scores, weights = points(low=0.33)
    link = fit_sigmoid(inputs, scores, weights, np.array([0.25]), np.array([True]), seed=0)
    assert link.describe(0)["lower"] > 0.3


def test_an_unknown_chance_level_is_found_from_the_scores():
    inputs, scores, weights = points(low=0.5, high=0.95)
    told, untold = (
        fit_sigmoid(inputs, scores, weights, np.array([chance]), np.array([known]), seed=0)
        for chance, known in ((0.5, True), (0.0, False))
    )
    ahead = np.array([1.6])[None, :, None, None]
    assert untold.members(ahead)[0] == pytest.approx(told.members(ahead)[0], abs=0.03)


def test_the_index_finds_the_loss_that_counts():
    generator = np.random.default_rng(0)
    inputs = generator.uniform(1.8, 3.2, (200, 1, 3))
    scores = curve(inputs[:, :, 1])
    link = fit_sigmoid(inputs, scores, np.ones((1, 200)), np.array([0.25]), np.array([True]), seed=0)
    assert link.weights(0)[1] > 0.95


def test_members_disagree_where_nothing_was_seen():
    inputs, scores, _ = points(lowest=2.6)
    weights = np.ones((30, 60))
    link = fit_sigmoid(inputs, scores, weights, np.array([0.25]), np.array([True]), seed=0)
    inside, ahead = (link.members(np.full((1, 1, 1, 1), loss))[1:, 0, 0].std() for loss in (2.8, 1.6))
    assert ahead > 4 * inside


def test_one_stray_score_moves_little():
    inputs, scores, weights = points()
    bent = scores.copy()
    bent[30] += 0.3
    at = np.array([1.8, 2.4, 3.0])[None, :, None, None]
    clean, stray = (
        fit_sigmoid(inputs, s, weights, np.array([0.25]), np.array([True]), seed=0).members(at)[0]
        for s in (scores, bent)
    )
    assert stray == pytest.approx(clean, abs=0.006)
