from dataclasses import replace

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.fit.config import FitSettings
from flp_ray.fit.joint import fit_joint
from flp_ray.fit.joint.link import RUN_WEIGHT, fit_link

SLOPES, CONSTANT = np.array([-0.3, -0.1, -0.05]), 1.9
CHANCE, SOFTNESS = 0.25, 0.02


def planted_score(losses, lower=0.0):
    """The line, lower by so much, with a soft start from chance: at `lower` 0 nearly all is far above chance."""
    height = CONSTANT - lower + losses @ SLOPES - CHANCE
    return CHANCE + SOFTNESS * np.logaddexp(0.0, height / SOFTNESS)


def planted_points(runs, *, checkpoints=4, noise=0.004, seed=0, apart=0.1, lower=0.0):
    """Losses, scores and runs; losses fall together by 1 nat and differ by `apart` beside; scores with a run's noise.

    The noise is one number for each half of a run's checkpoints, so that RUN_WEIGHT, 2, is what a run is worth.
    """
    generator = np.random.default_rng(seed)
    run = np.repeat(np.arange(runs), checkpoints)
    losses = 3 + np.linspace(0.5, -0.5, runs)[run][:, None] + apart * generator.standard_normal((runs, 3))[run]
    losses -= 0.02 * np.tile(np.arange(checkpoints), runs)[:, None]
    half = np.tile(2 * np.arange(checkpoints) // checkpoints, runs)
    return losses, planted_score(losses, lower) + noise * generator.standard_normal((runs, 2))[run, half], run


def fit_points(losses, scores, run, *, errors=np.nan):
    return fit_link(
        task="t",
        random_performance=CHANCE,
        threshold=0.3,
        losses=losses,
        scores=scores,
        runs=run,
        errors=np.full(len(run), errors),
    )


def fit_planted(runs, *, errors=np.nan, **planted):
    return fit_points(*planted_points(runs, **planted), errors=errors)


@pytest.mark.parametrize(("lower", "at_chance"), [(0.0, 0), (0.15, 20), (0.3, 48)])
def test_the_planted_curve_is_found(lower, at_chance):
    """Above chance alone, from the bend on, and with half of all checkpoints at chance."""
    losses, scores, run = planted_points(24, apart=0.3, lower=lower)
    assert (CONSTANT - lower + losses @ SLOPES < CHANCE).sum() == pytest.approx(at_chance, abs=5)
    link = fit_points(losses, scores, run)
    # Noise 0.004 over losses that spread by 0.3 in 24 runs: 0.003 a slope; four of these.
    assert link.full_slopes == pytest.approx(SLOPES, abs=0.012)
    new = 3 + np.random.default_rng(9).uniform(-0.5, 0.5, (20, 3))
    assert link.score(new) == pytest.approx(planted_score(new, lower), abs=0.01)
    assert link.noise == pytest.approx(0.004, rel=0.5)
    assert link.observations == 96
    assert link.fit_error < 0.02
    assert link.numbers[-1] == pytest.approx(CHANCE, abs=0.01)


def test_checkpoints_at_chance_do_not_flatten_the_curve():
    """Half of the points are at chance; a straight line through all of them has about half of the slope."""
    curves, lines = [], []
    for seed in range(10):
        losses, scores, run = planted_points(24, apart=0.3, lower=0.3, seed=seed)
        curves.append(fit_points(losses, scores, run).full_slopes.sum())
        straight = np.linalg.lstsq(np.column_stack([losses, np.ones(len(losses))]), scores, rcond=None)[0]
        lines.append(straight[:3].sum())
    assert np.mean(curves) == pytest.approx(SLOPES.sum(), rel=0.02)
    assert np.mean(lines) > 0.7 * SLOPES.sum()  # slopes are negative: flatter


def test_the_rows_and_slopes_are_the_derivatives_of_the_score():
    link = fit_planted(24, apart=0.3, lower=0.3)
    losses = np.random.default_rng(1).uniform(2.3, 3.7, (30, 3))
    scores = link.score(losses)
    assert scores.min() < 0.27  # on both sides of the bend
    assert scores.max() > 0.35
    assert link.rows(losses).shape == (30, 6)
    step = 1e-5
    for place, row in enumerate(np.eye(6)):
        up, down = (replace(link, numbers=link.numbers + sign * step * row).score(losses) for sign in (1, -1))
        assert link.rows(losses)[:, place] == pytest.approx((up - down) / (2 * step), abs=1e-6)
    for place, row in enumerate(np.eye(3)):
        across = (link.score(losses + step * row) - link.score(losses - step * row)) / (2 * step)
        assert link.slopes(losses)[:, place] == pytest.approx(across, abs=1e-6)
    assert link.slopes(np.full((1, 3), 1.5))[0] == pytest.approx(link.full_slopes, rel=1e-6)


@pytest.mark.parametrize("lower", [0.0, 0.15, 0.3])
def test_the_truth_lies_within_what_the_curve_leaves_open(lower):
    distances = []
    for seed in range(30):
        link = fit_planted(8, seed=seed, noise=0.01, lower=lower)
        new = 2.5 + 0.2 * np.random.default_rng(seed).standard_normal((5, 3))
        rows = link.rows(new)
        spread = np.sqrt(((rows @ link.covariance) * rows).sum(axis=1))
        distances.append((link.score(new) - planted_score(new, lower)) / spread)
    # A fair posterior gives 1. The slopes lie further from their prior (all alike) than its usual spread.
    assert 0.5 < np.sqrt(np.mean(np.square(distances))) < 1.5


def test_more_runs_make_surer_and_more_checkpoints_of_the_same_runs_do_not():
    def openness(runs, checkpoints=4):
        links = [fit_planted(runs, checkpoints=checkpoints, seed=s) for s in range(10)]
        rows = [link.rows(np.array([[2.4, 2.5, 2.6]])) for link in links]
        return np.mean([((r @ link.covariance) * r).sum() for r, link in zip(rows, links, strict=True)])

    assert openness(24) < 0.5 * openness(6)
    # Were checkpoints runs, ten times as many would leave a tenth open; their losses differ a little, which does count.
    assert 0.5 * openness(6, checkpoints=3) < openness(6, checkpoints=30) < 1.1 * openness(6, checkpoints=3)
    assert RUN_WEIGHT == 2


def test_domains_that_fall_together_share_the_slope():
    link = fit_planted(6, apart=1e-6, noise=0.002)
    assert link.full_slopes.sum() == pytest.approx(SLOPES.sum(), rel=0.05)
    even = np.full(3, SLOPES.sum() / 3)  # the prior: all domains count alike
    assert link.full_slopes == pytest.approx(even, abs=0.02)
    # What no run has told apart stays open: a loss that falls alone is much less sure to help than one with the others.
    alone, together = (link.rows(np.array([row])) - link.rows(np.full((1, 3), 3.0)) for row in ([2.7, 3, 3], [2.9] * 3))
    assert (alone @ link.covariance @ alone.T).item() > 10 * (together @ link.covariance @ together.T).item()


def test_a_score_of_few_questions_scatters_by_them():
    link = fit_planted(12, errors=0.03)
    assert link.noise >= 0.03 - 1e-12
    scores = np.array([0.25, 0.5, 0.9])
    sure = fit_planted(12).run_variance(scores)
    assert (link.run_variance(scores) > sure).all()
    assert link.run_variance(scores)[1] > link.run_variance(scores)[2]
    assert (link.run_variance(np.array([-0.2, 1.3])) >= link.rest**2 - 1e-15).all()


def test_a_task_at_chance_has_not_emerged_and_is_told_so(records_of, world):
    fitted = fit_joint(records_of(synthetic.nothing_emerges(world)), FitSettings())
    assert fitted.tasks == ()
    assert set(fitted.not_emerged) == set(world.tasks)
    for reason in fitted.not_emerged.values():
        assert reason.startswith("0 of ")
        assert "above chance (0.25) by the margin (0.05) and twice their error" in reason
        assert "the best score seen is 0.2" in reason
        assert "Train larger sampling runs, or longer." in reason


def test_one_run_above_chance_is_not_enough(records_of, world):
    records = records_of(world, sizes=("0.2B",), number=5)
    asked = records.runs[0].run_id
    kept = tuple(m for m in records.measurements if m.kind != "performance" or m.run_id == asked)
    fitted = fit_joint(replace(records, measurements=kept), FitSettings())
    assert fitted.tasks == ()
    assert all("of 1 runs" in reason for reason in fitted.not_emerged.values())


def test_lucky_checkpoints_near_the_threshold_do_not_flatten_the_curve(records_of):
    world = synthetic.drawn_two_source_world(0)
    slopes, distances = [], []
    for seed in range(4):
        fitted = fit_joint(records_of(world, seed, sizes=("0.12B", "0.32B", "0.72B")), FitSettings())
        for link in fitted.links:
            true = -world.tasks[link.task].slope
            slopes.append(link.full_slopes.sum() / true)
            row = np.append(1 / link.input_spread, np.zeros(3))
            distances.append((link.full_slopes.sum() - true) / np.sqrt(row @ link.covariance @ row))
    assert len(slopes) >= 8
    assert np.mean(slopes) == pytest.approx(1, abs=0.15)
    assert np.abs(distances).max() < 3  # a task that is just rising has a slope off by half, and says so
