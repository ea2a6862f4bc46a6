import numpy as np
import pytest
from scipy.optimize import least_squares

from flp_ray.fit.mixture_law import fit_mixture_laws
from flp_ray.fit.power_law import fit_power_law
from flp_ray.fit.predictor import floor_law
from flp_ray.fit.predictor.fitting import bayesian_bootstrap
from flp_ray.fit.predictor.floor_law import fit_floor_law
from flp_ray.fit.predictor.lines import fit_direct, fit_linear
from flp_ray.fit.predictor.marquardt import minimise
from flp_ray.fit.predictor.power_forms import fit_power_form, fit_weighted_power
from flp_ray.fit.predictor.runs import Queries
from flp_ray.fit.predictor.surface import fit_surface


def queries(params, tokens, ratios=None, flops=None):
    params, tokens = np.asarray(params, float), np.asarray(tokens, float)
    ratios = np.ones((len(params), 1)) if ratios is None else np.asarray(ratios, float)
    return Queries(params=params, tokens=tokens, flops=6 * params * tokens if flops is None else flops, ratios=ratios)


def grid():
    n, d = np.meshgrid([1e8, 3e8, 1e9, 3e9, 1e10], [1e10, 1e11, 1e12], indexing="ij")
    return queries(n.ravel(), d.ravel())


def truth(q):
    return 0.5 * (q.params / 1e9) ** -0.35 + 0.4 * (q.tokens / 1e11) ** -0.28 + 1.7


def test_the_floor_law_finds_a_planted_law_and_reaches_far_beyond_it():
    q = grid()
    law = fit_floor_law(q, truth(q)[:, None], np.ones((1, 15)), seed=0)
    ahead = queries([7e10, 1e8], [1.5e13, 1e13])
    # Noise-free, so only the priors pull, with the weight of runs that are 1 % off: below 1 % at 100 times the FLOPs.
    assert law.members(ahead)[0, :, 0] == pytest.approx(truth(ahead), rel=0.01)
    found = law.describe(0)
    assert found["E"] == pytest.approx(1.7, rel=0.03)
    assert found["A"] * 1e9 ** -found["a"] == pytest.approx(0.5, rel=0.05)


def test_the_floor_law_is_the_minimum_that_a_general_solver_finds_from_any_start():
    q = grid()
    values = truth(q) * np.exp(0.02 * np.random.default_rng(3).standard_normal(15))
    law = fit_floor_law(q, values[:, None], np.ones((1, 15)), seed=0)
    x = np.log(np.stack([q.params, q.tokens], axis=1)) - law.centre
    lowest, share = values.min(), min(floor_law.FLOOR_SHARE, floor_law.HIGHEST_FLOOR / values.min())

    def residuals(p):
        fitted = p[2] * np.exp(-p[0] * x[:, 0]) + p[3] * np.exp(-p[1] * x[:, 1]) + p[4]
        prior = (np.log(np.maximum(p[:2], 1e-9)) - floor_law.EXPONENTS) / floor_law.EXPONENT_SPREAD
        floor = (p[4] / lowest - share) / floor_law.FLOOR_SPREAD
        split = (p[2] - p[3]) / lowest / floor_law.SPLIT_SPREAD
        return np.r_[(fitted / values - 1) / floor_law.RESIDUAL, prior, floor, split]

    ours = np.r_[law.exponents[0, 0], law.amounts[0, 0]]
    best = min(
        least_squares(residuals, start, bounds=(1e-3, 10)).cost
        for start in np.random.default_rng(0).uniform([0.1, 0.1, 0.1, 0.1, 0.5], [0.8, 0.8, 1, 1, 2], (20, 5))
    )
    # The last grid is 0.004 wide in log exponents; a step that small moves the cost by far less than 0.1 %.
    assert 0.5 * (residuals(ours) ** 2).sum() <= best * 1.001


def test_members_of_the_floor_law_spread_with_distance():
    q = grid()
    values = truth(q)[:, None] * np.exp(0.01 * np.random.default_rng(1).standard_normal((15, 1)))
    law = fit_floor_law(q, values, bayesian_bootstrap(15, 40, 0), seed=0)
    spread = [law.members(queries([n], [20 * n]))[:, 0, 0].std() / 2 for n in (1e9, 1e11, 1e13)]
    assert spread[0] < spread[1] < spread[2]


def test_one_size_alone_leaves_another_size_to_the_priors():
    q = queries([1e6] * 8, [1e9] * 8)
    law = fit_floor_law(q, np.full((8, 1), 5.0), bayesian_bootstrap(8, 60, 0), seed=0)
    here, far = (law.members(queries([n], [1e9]))[:, 0, 0] for n in (1e6, 6e7))
    assert here[0] == pytest.approx(5.0, rel=1e-3)
    assert far[0] < 4.6
    assert far.std() > 20 * here.std(), "what another size changes is uncertain, not wrong"


def test_missing_values_take_no_part_in_the_floor_law():
    q, values = grid(), np.stack([truth(grid()), truth(grid()) + 1], axis=1)
    values[3, 1] = np.nan
    both = fit_floor_law(q, values, np.ones((1, 15)), seed=0)
    kept = np.arange(15) != 3
    alone = fit_floor_law(q.take(kept), values[kept, 1:], np.ones((1, 14)), seed=0)
    assert both.members(q)[0, :, 1] == pytest.approx(alone.members(q)[0, :, 0], rel=2e-4)  # another centre


def two_sources(seed=0, sizes=(1e19, 1e20, 1e21)):
    generator = np.random.default_rng(seed)
    r = np.tile([0.05, 0.2, 0.35, 0.5], len(sizes))
    flops = np.repeat(sizes, 4)
    ratios = np.stack([r, 1 - r], axis=1)
    q = queries(np.sqrt(flops / 120), 20 * np.sqrt(flops / 120), ratios, flops)
    return q, np.exp(1 + 0.01 * generator.standard_normal(len(r)))


def test_m4_is_the_mixture_law_and_m1_the_power_law():
    q, values = two_sources()
    ones = np.ones((1, len(values)))
    m4 = fit_power_form("m4", q, values[:, None], ones)
    laws, _ = fit_mixture_laws(
        sources=("a", "b"), domains=("d",), ratios=q.ratios, flops=q.flops, losses=values[:, None]
    )
    assert m4.members(q)[0, :, 0] == pytest.approx(laws[0].loss(q.ratios, q.flops), rel=1e-9)
    m1 = fit_power_form("m1", q, values[:, None], ones)
    assert m1.members(q)[0, :, 0] == pytest.approx(fit_power_law(q.flops, values).at(q.flops), rel=1e-9)


def test_m2_finds_its_own_law():
    q, _ = two_sources()
    c = q.ratios * q.flops[:, None]
    values = np.exp(4.0) * c[:, 0] ** -0.02 * c[:, 1] ** -0.04
    law = fit_power_form("m2", q, values[:, None], np.ones((1, 12)))
    assert law.members(q)[0, :, 0] == pytest.approx(values, rel=1e-3)


def test_m3_finds_its_weights():
    q, _ = two_sources()
    values = (1e-15 * (3.0 * q.ratios[:, 0] + 0.5 * q.ratios[:, 1]) * q.flops) ** -0.06
    law = fit_weighted_power(q, values[:, None], np.ones((2, 12)))
    assert law.members(q)[1, :, 0] == pytest.approx(values, rel=5e-4)  # the prior of the weights pulls a little
    weights = np.exp(law.parameters[0, 0, 2:])
    assert weights[0] / weights[1] == pytest.approx(6.0, rel=0.02)


def test_the_surface_finds_size_and_mixture_together():
    generator = np.random.default_rng(0)
    r = generator.dirichlet([1.0, 1.0, 1.0], 60)
    n = np.repeat([1e8, 4e8, 1.6e9], 20)
    q = queries(n, 40 * n, r)
    effect = 0.3 * (r[:, 0] - 0.4) ** 2 - 0.1 * np.sqrt(r[:, 1])
    values = truth(q) * np.exp(effect + 0.002 * generator.standard_normal(60))
    law = fit_surface(q, values[:, None], bayesian_bootstrap(60, 9, 0), seed=0)
    new = generator.dirichlet([1.0, 1.0, 1.0], 40)
    ahead = queries(np.full(40, 6e9), np.full(40, 2.4e11), new)
    expected = truth(ahead) * np.exp(0.3 * (new[:, 0] - 0.4) ** 2 - 0.1 * np.sqrt(new[:, 1]))
    members = law.members(ahead)[:, :, 0]
    assert np.abs(members[0] / expected - 1).mean() < 0.01
    assert members[1:].std(axis=0).min() > 0


def test_a_large_surface_keeps_the_length_scales_that_it_is_given():
    generator = np.random.default_rng(0)
    r = generator.dirichlet([1.0, 1.0], 40)
    q = queries([1e8] * 40, [2e9] * 40, r)
    values = (4 + np.sin(3 * r[:, :1])) * np.exp(0.01 * generator.standard_normal((40, 1)))
    full = fit_surface(q, values, np.ones((1, 40)), seed=0)
    part = np.arange(40) < 30
    less = fit_surface(q.take(part), values[part], np.ones((1, 30)), seed=0, like=full)
    assert (less.processes[0].length_scales == full.processes[0].length_scales).all()
    moved = less.members(q)[0, :, 0] / full.members(q)[0, :, 0] - 1
    assert np.abs(moved[part]).max() < 0.01, "where both have runs, they agree to the noise"


def test_linear_links_are_least_squares():
    generator = np.random.default_rng(0)
    x = generator.uniform(1, 3, (30, 1, 2))
    y = np.stack([0.9 - 0.2 * x[:, 0, 0] + 0.05 * x[:, 0, 1], 0.5 - 0.1 * x[:, 0, 0]], axis=1)
    y[:5, 1] = np.nan
    link = fit_linear(x, y, np.ones((1, 30)))
    assert link.members(x[None])[0, :, 0] == pytest.approx(y[:, 0])
    assert link.members(x[None])[0, :, 1] == pytest.approx(0.5 - 0.1 * x[:, 0, 0])


@pytest.mark.parametrize(("kind", "values"), [("score", lambda c: (c / 1e26) ** 0.1), ("log", None)])
def test_direct_laws_find_their_own_form(kind, values):
    q = grid()
    scores = values(q.flops) if values else np.exp(-((q.flops / 1e18) ** -0.1))
    with_zero = np.where(np.arange(15) == 0, 0.0, scores)[:, None]
    law = fit_direct(kind, "m1", q, with_zero, np.ones((1, 15)))
    assert law.members(q)[0, :, 0] == pytest.approx(scores, rel=1e-9), "a score of 0 takes no part"


def test_many_small_problems_end_where_scipy_ends():
    x = np.linspace(0, 4, 25)
    true = np.array([[2.0, 0.7], [0.5, 1.5], [3.0, 0.1]])
    y = true[:, :1] * np.exp(-true[:, 1:] * x) + 0.01 * np.random.default_rng(0).standard_normal((3, 25))

    def evaluate(p):
        decay = np.exp(-p[:, 1:] * x)
        residual = p[:, :1] * decay - y
        jacobian = np.stack([decay, -p[:, :1] * x * decay], axis=-1)
        gradient = (jacobian * residual[..., None]).sum(axis=1)
        return 0.5 * (residual**2).sum(axis=1), gradient, np.matmul(jacobian.swapaxes(1, 2), jacobian)

    found, cost = minimise(evaluate, np.ones((3, 2)))
    for row, value, target in zip(found, cost, y, strict=True):
        single = least_squares(lambda p, target=target: p[0] * np.exp(-p[1] * x) - target, [1.0, 1.0])
        assert row == pytest.approx(single.x, rel=1e-4)
        assert value == pytest.approx(single.cost, rel=1e-6)
