from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray import synthetic
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit.mixture_law import (
    LawDesign,
    design_rank,
    fit_mixture_laws,
    member_coefficients,
)
from flp_ray.fit.overlap import leak
from flp_ray.fit.resample import resample_runs
from flp_ray.fit.sensitivity import overlap_sensitivity


def noise_free(world, ratios, flops):
    return fit_mixture_laws(
        sources=world.sources,
        domains=tuple(world.domains),
        ratios=ratios,
        flops=flops,
        losses=world.losses(ratios, flops),
    )


def two_source_grid(ratios=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), flops=(1e19, 1e20, 1e21)):
    pairs = [(r, f) for f in flops for r in ratios]
    return np.array([[r, 1 - r] for r, _ in pairs]), np.array([f for _, f in pairs])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda v: sum(v) > 1e-3), st.floats(0, 0.5))
def test_effective_ratios_stay_on_the_simplex(values, overlap):
    ratios = np.array([values]) / sum(values)
    effective = leak(ratios, overlap)
    assert effective.sum() == pytest.approx(1)
    assert (effective >= 0).all()
    if len(values) == 2:
        assert effective[0, 0] == pytest.approx((1 - overlap) * ratios[0, 0] + overlap * (1 - ratios[0, 0]))


def test_two_source_exponents_are_recovered():
    world = synthetic.two_source_world()
    laws, _ = noise_free(world, *two_source_grid())
    for law in laws:
        true = world.domains[law.domain]
        assert law.overlap == pytest.approx(world.overlap, abs=1e-6)
        assert law.parameters["log_scale"] == pytest.approx(true.log_scale, abs=1e-5)
        assert law.parameters["exponent_total"] == pytest.approx(true.exponent_total, abs=1e-6)
        for source, exponent in true.exponents.items():
            assert law.parameters[f"exponent_{source}"] == pytest.approx(exponent, abs=1e-6)
        assert law.residual < 1e-8
        assert law.rank == 4


def test_five_source_exponents_are_recovered():
    world = synthetic.many_source_world(5)
    drawn = np.random.default_rng(0).dirichlet(np.ones(5), 12)
    mixtures = np.concatenate([np.eye(5), drawn])
    ratios = np.tile(mixtures, (2, 1))
    flops = np.repeat([1e19, 1e21], len(mixtures))
    laws, _ = noise_free(world, ratios, flops)
    for law in laws:
        for source, exponent in world.domains[law.domain].exponents.items():
            assert law.parameters[f"exponent_{source}"] == pytest.approx(exponent, abs=1e-6)


def test_the_law_by_name_gives_the_fitted_losses():
    world = synthetic.two_source_world()
    ratios, flops = two_source_grid()
    laws, _ = noise_free(world, ratios, flops)
    assert np.stack([law.loss(ratios, flops) for law in laws], axis=1) == pytest.approx(world.losses(ratios, flops))


def test_held_out_error_is_that_of_fits_without_the_run():
    world = synthetic.two_source_world()
    ratios, flops = two_source_grid(flops=(1e19, 1e21))
    losses = world.losses(ratios, flops) * np.exp(0.01 * np.random.default_rng(0).standard_normal((12, 5)))
    given = {"sources": world.sources, "domains": tuple(world.domains), "overlap": 0.01}
    laws, _ = fit_mixture_laws(ratios=ratios, flops=flops, losses=losses, **given)
    errors = []
    for i in range(12):
        keep = np.arange(12) != i
        without, _ = fit_mixture_laws(ratios=ratios[keep], flops=flops[keep], losses=losses[keep], **given)
        errors.append(abs(without[0].loss(ratios[i : i + 1], flops[i])[0] / losses[i, 0] - 1))
    assert laws[0].held_out_error == pytest.approx(np.mean(errors), rel=1e-6)


def test_a_member_that_drew_every_run_has_the_law_of_all():
    world = synthetic.two_source_world()
    ratios, flops = two_source_grid()
    losses = world.losses(ratios, flops)
    losses[3, 1] = np.nan
    laws, design = fit_mixture_laws(
        sources=world.sources, domains=tuple(world.domains), ratios=ratios, flops=flops, losses=losses, overlap=0.01
    )
    coefficients = member_coefficients(design, ratios, flops, losses, np.ones((2, len(flops)), int))
    assert laws[1].observations == 17
    for d, law in enumerate(laws):
        named = design.parameters(coefficients[1, d], world.sources)
        assert named == pytest.approx(law.parameters, abs=1e-9)


def test_one_mixture_falls_back_to_flp():
    world = synthetic.two_source_world()
    flops = np.array([1e19, 1e20, 1e21])
    ratios = np.tile([0.3, 0.7], (3, 1))
    laws, _ = noise_free(world, ratios, flops)
    true = world.domains[laws[0].domain]
    assert laws[0].rank == 2
    assert "FLP's Eq. 1" in laws[0].note
    assert laws[0].parameters["exponent_code"] == 0
    assert laws[0].parameters["exponent_total"] == pytest.approx(
        true.exponent_total + sum(true.exponents.values()), abs=1e-9
    )


def test_one_size_is_named_and_leaves_the_power_of_flops_at_zero():
    world = synthetic.two_source_world()
    ratios, flops = two_source_grid(flops=(1e20,))
    laws, _ = noise_free(world, ratios, flops)
    assert "one size only" in laws[0].note
    assert laws[0].loss(ratios, 1e22) == pytest.approx(laws[0].loss(ratios, 1e20))
    assert laws[0].loss(ratios, 1e20) == pytest.approx(world.losses(ratios, 1e20)[:, 0])


def test_two_mixtures_are_fitted_and_named():
    world = synthetic.two_source_world()
    ratios, flops = two_source_grid(ratios=(0.1, 0.4))
    laws, _ = noise_free(world, ratios, flops)
    assert "do not identify every source's exponent" in laws[0].note
    assert laws[0].loss(ratios, flops) == pytest.approx(world.losses(ratios, flops)[:, 0])


def test_too_few_runs_are_refused_with_the_numbers():
    world = synthetic.two_source_world()
    ratios, flops = two_source_grid(ratios=(0.0, 0.3), flops=(1e19, 1e20))
    ratios[3] = [0.5, 0.5]
    with pytest.raises(NotEnoughDataError, match="4 sampling runs with a loss are too few for 4 numbers"):
        noise_free(world, ratios, flops)


@pytest.mark.parametrize("overlap", [-0.1, 0.6, 0.0])
def test_an_impossible_overlap_is_refused(overlap):
    world = synthetic.two_source_world()
    ratios, flops = two_source_grid()
    with pytest.raises(ConfigError, match=r"fit\.overlap"):
        fit_mixture_laws(
            sources=world.sources,
            domains=tuple(world.domains),
            ratios=ratios,
            flops=flops,
            losses=world.losses(ratios, flops),
            overlap=overlap,
        )


def test_sensitivity_has_the_fitted_overlap_in_the_middle():
    world = replace(synthetic.two_source_world(), overlap=0.02)
    ratios, flops = two_source_grid()
    laws, _ = noise_free(world, ratios, flops)
    table = overlap_sensitivity(laws, ratios, flops, world.losses(ratios, flops))
    assert [row["overlap"] for row in table] == pytest.approx([0.02 / 3, 0.02, 0.06], rel=1e-4)
    assert table[1]["move"] == pytest.approx(0, abs=1e-12)
    assert min(table[0]["move"], table[2]["move"]) > 1e-5
    assert table[1]["held_out_error"] < min(table[0]["held_out_error"], table[2]["held_out_error"])


def test_resamples_identify_the_law_and_depend_on_their_own_seed():
    ratios, flops = two_source_grid(ratios=(0.0, 0.3, 0.5), flops=(1e19, 1e21))
    rows = LawDesign.of(ratios, flops, 0.01).rows(ratios, flops)
    counts = resample_runs(rows, members=40, seed=3)
    assert (counts.sum(axis=1) == 6).all()
    assert all(design_rank(rows[c > 0]) == 4 for c in counts)
    assert (counts == 0).any()
    assert (resample_runs(rows, members=5, seed=3) == counts[:5]).all()
