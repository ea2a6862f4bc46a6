"""The law that carries an optimum to other sizes."""

import math

import numpy as np
import pytest

from flp_ray.core.tuning import Optimum
from flp_ray.tune import fit_tuning
from flp_ray.tune.law import EXPONENTS, ParameterLaw, fit_law
from tests.tune.tune_world import SIZES, World, settings, trials_of


def optimum(params: float, tokens: float, value: float, log_stderr: float = 0.05) -> Optimum:
    return Optimum(
        parameter="learning_rate",
        size=f"{params}",
        params=int(params),
        train_tokens=int(tokens),
        value=value,
        log_stderr=log_stderr,
        edge=None,
        trials=8,
        diverged=0,
    )


def width(law: ParameterLaw, params: float, tokens: float) -> float:
    _, low, high = law.at(params, tokens)
    return math.log(high / low)


def test_many_sizes_recover_planted_exponents():
    random = np.random.default_rng(0)
    points = []
    for _ in range(40):
        n, d = math.exp(random.uniform(9, 14)), math.exp(random.uniform(12, 18))
        value = 0.5 * n**-0.35 * d**0.1 * math.exp(random.normal(0, 0.05))
        points.append(optimum(n, d, value))
    _, a, b = fit_law(points).mean
    assert a == pytest.approx(-0.35, abs=0.03)
    assert b == pytest.approx(0.1, abs=0.03)


def test_two_sizes_at_one_ratio_decide_along_it_and_the_prior_across():
    law = fit_law([optimum(1e6, 2e7, 4e-3), optimum(4e6, 8e7, 2e-3)])
    _, a, b = law.mean
    assert a + b == pytest.approx(-0.5, abs=0.05)  # halved over a factor of four, both in N and D
    prior_a, prior_b = (EXPONENTS["learning_rate"][i][0] for i in (0, 1))
    assert a - b == pytest.approx(prior_a - prior_b, abs=0.05)
    # Along the ratio the interval grows with the distance; across it, more.
    assert width(law, 2e6, 4e7) < width(law, 16e6, 32e7) < width(law, 64e6, 128e7)
    assert width(law, 4e6, 8e7 * 16) > width(law, 16e6, 32e7)


def test_one_size_takes_the_published_exponents():
    law = fit_law([optimum(1e6, 2e7, 4e-3)])
    assert law.mean[1:] == pytest.approx([EXPONENTS["learning_rate"][i][0] for i in (0, 1)])
    assert law.at(1e6, 2e7)[0] == pytest.approx(4e-3)


def test_an_uncertain_optimum_counts_less():
    sure = fit_law([optimum(1e6, 2e7, 4e-3), optimum(4e6, 8e7, 2e-3)])
    torn = fit_law([optimum(1e6, 2e7, 4e-3), optimum(4e6, 8e7, 8e-3, log_stderr=2.0)])
    assert abs(torn.mean[1] + torn.mean[2] + 0.406) < abs(sure.mean[1] + sure.mean[2] + 0.406) + 0.05
    assert width(torn, 4e6, 8e7) > width(sure, 4e6, 8e7)


def test_carried_intervals_hold_the_optimum_of_a_size_never_tuned():
    config, hits, errors = settings(), 0, []
    shape, tokens = SIZES["large"]
    for seed in range(60):
        # Worlds whose exponents differ from the published ones by up to 0.4.
        random = np.random.default_rng(seed)
        world = World(
            seed=seed,
            params_exponent=-0.713 + random.uniform(-0.4, 0.4),
            tokens_exponent=0.307 + random.uniform(-0.4, 0.4),
        )
        trials = trials_of(config, seed)
        [law] = fit_tuning(trials, world.reports(config, trials), config).laws
        value, low, high = law.at(shape.non_embedding_params, tokens)
        hits += low < math.exp(world.optimum("large")) < high
        errors.append(abs(math.log(value) - world.optimum("large")))
    assert hits >= 42  # 48 expected, sd 3.1
    assert np.median(errors) < 0.45  # nine times the parameters away; a factor of 1.6
