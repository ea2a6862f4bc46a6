from dataclasses import replace

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.fit.config import FitSettings
from flp_ray.fit.joint import fit_joint
from flp_ray.fit.joint.link import RUN_WEIGHT, fit_link

SLOPES, CONSTANT = np.array([-0.3, -0.1, -0.05]), 1.9


def fit_planted(runs, *, checkpoints=4, noise=0.004, seed=0, errors=np.nan, apart=0.1):
    """Runs whose losses fall together by 1 nat and differ by `apart` beside; scores by the line and a run's noise.

    The noise is one number for each half of a run's checkpoints, so that RUN_WEIGHT, 2, is what a run is worth.
    """
    generator = np.random.default_rng(seed)
    run = np.repeat(np.arange(runs), checkpoints)
    losses = 3 + np.linspace(0.5, -0.5, runs)[run][:, None] + apart * generator.standard_normal((runs, 3))[run]
    losses -= 0.02 * np.tile(np.arange(checkpoints), runs)[:, None]
    half = np.tile(2 * np.arange(checkpoints) // checkpoints, runs)
    scores = CONSTANT + losses @ SLOPES + noise * generator.standard_normal((runs, 2))[run, half]
    return fit_link(
        task="t",
        random_performance=0.25,
        threshold=0.3,
        losses=losses,
        scores=scores,
        runs=run,
        errors=np.full(len(run), errors),
    )


def test_the_planted_line_is_found():
    link = fit_planted(24, apart=0.3)
    # Noise 0.004 over losses that spread by 0.3 in 24 runs: 0.003 a slope; four of these.
    assert link.slopes == pytest.approx(SLOPES, abs=0.012)
    new = 3 + np.random.default_rng(9).uniform(-0.5, 0.5, (20, 3))
    assert link.score(new) == pytest.approx(CONSTANT + new @ SLOPES, abs=0.01)
    assert link.noise == pytest.approx(0.004, rel=0.5)
    assert link.observations == 96
    assert link.fit_error < 0.02


def test_the_truth_lies_within_what_the_line_leaves_open():
    distances = []
    for seed in range(30):
        link = fit_planted(8, seed=seed, noise=0.01)
        new = 2.5 + 0.2 * np.random.default_rng(seed).standard_normal((5, 3))
        rows = link.rows(new)
        spread = np.sqrt(((rows @ link.covariance) * rows).sum(axis=1))
        distances.append((link.score(new) - (CONSTANT + new @ SLOPES)) / spread)
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
    assert link.slopes.sum() == pytest.approx(SLOPES.sum(), rel=0.05)
    assert link.slopes == pytest.approx(np.full(3, SLOPES.sum() / 3), abs=0.02)  # the prior: all domains count alike
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
        assert "chance (0.25) plus margin (0.05)" in reason
        assert "the best score seen is 0.2" in reason
        assert "Train larger sampling runs, or longer." in reason


def test_one_run_above_chance_is_not_enough(records_of, world):
    records = records_of(world, sizes=("0.2B",), number=5)
    asked = records.runs[0].run_id
    kept = tuple(m for m in records.measurements if m.kind != "performance" or m.run_id == asked)
    fitted = fit_joint(replace(records, measurements=kept), FitSettings())
    assert fitted.tasks == ()
    assert all("of 1 runs" in reason for reason in fitted.not_emerged.values())


def test_lucky_checkpoints_near_the_threshold_do_not_flatten_the_line(records_of):
    world = synthetic.drawn_two_source_world(0)
    slopes = []
    for seed in range(4):
        fitted = fit_joint(records_of(world, seed, sizes=("0.12B", "0.32B", "0.72B")), FitSettings())
        for link in fitted.links:
            true = -world.tasks[link.task].slope
            slopes.append(link.slopes.sum() / true)
    assert len(slopes) >= 8
    assert np.mean(slopes) == pytest.approx(1, abs=0.15)
