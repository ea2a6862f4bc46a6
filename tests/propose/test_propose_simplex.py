import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from flp_ray.core.mixture import Mixture
from flp_ray.errors import ConfigError
from flp_ray.propose.lattice import Lattice
from flp_ray.propose.simplex import Bounds, to_cube, to_mixture, to_ratios


def names(count):
    return tuple(f"s{i}" for i in range(count))


@st.composite
def bounds_and_cube(draw):
    count = draw(st.integers(2, 8))
    low = [draw(st.floats(0, 1)) for _ in range(count)]
    scale = draw(st.floats(0, 0.95)) / max(sum(low), 1e-9)
    low = [min(1.0, v * min(scale, 1.0)) for v in low]
    high = [draw(st.floats(v, 1)) for v in low]
    assume(sum(low) <= 1 and sum(high) >= 1)
    cube = [draw(st.floats(0, 1)) for _ in range(count - 1)]
    return Bounds(sources=names(count), low=tuple(low), high=tuple(high)), cube


@given(bounds_and_cube())
def test_every_point_of_the_cube_is_a_mixture_within_the_bounds_and_comes_back(drawn):
    bounds, cube = drawn
    mixture = to_mixture(bounds, cube)
    assert bounds.contains(mixture)
    back = to_cube(bounds, mixture)
    assert all(-1e-9 <= u <= 1 + 1e-9 for u in back)
    again = to_mixture(bounds, [min(max(u, 0.0), 1.0) for u in back])
    # Where a stick's share nears 1, the root of the Beta quantile magnifies rounding to about its square root.
    assert again.ratios == pytest.approx(mixture.ratios, abs=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=17))
def test_free_mixtures_come_back(values):
    ratios = [v / sum(values) for v in values]
    bounds = Bounds.of(names(len(values)), {}, {})
    mixture = Mixture(sources=tuple(sorted(names(len(values)))), ratios=tuple(ratios))
    assert to_mixture(bounds, to_cube(bounds, mixture)).ratios == pytest.approx(mixture.ratios, abs=1e-9)


def test_the_map_is_uniform_on_the_simplex():
    bounds = Bounds.of(names(4), {}, {})
    cube = np.random.default_rng(0).uniform(size=(4000, 3))
    ratios = np.array([to_mixture(bounds, row).ratios for row in cube])
    # Dirichlet(1, 1, 1, 1): mean 1/4, variance 3/80, P(r < 0.1) = 1 - 0.9^3. Four standard errors of 4,000 draws.
    assert ratios.mean(axis=0) == pytest.approx([0.25] * 4, abs=0.0125)
    assert ratios.var(axis=0) == pytest.approx([3 / 80] * 4, abs=0.004)
    assert (ratios < 0.1).mean(axis=0) == pytest.approx([1 - 0.9**3] * 4, abs=0.03)


@pytest.mark.parametrize("source", names(3))
def test_corners_come_back(source):
    bounds = Bounds.of(names(3), {"s0": 0.1}, {"s2": 0.6})
    corner = bounds.corner(source)
    assert bounds.contains(corner)
    assert to_mixture(bounds, to_cube(bounds, corner)).ratios == pytest.approx(corner.ratios, abs=1e-6)
    assert corner.ratio(source) == pytest.approx({"s0": 1.0, "s1": 0.9, "s2": 0.6}[source])


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ({"s0": 0.7, "s1": 0.6}, {}, "lower bounds sum to 1.3"),
        ({}, {"s0": 0.2, "s1": 0.3}, "upper bounds to 0.5"),
        ({"s0": 0.5}, {"s0": 0.4}, "min 0.5 and max 0.4"),
        ({"s0": -0.1}, {}, "0 <= min"),
        ({"s9": 0.1}, {}, "no source .s0, s1."),
    ],
)
def test_impossible_bounds_are_refused(low, high, message):
    with pytest.raises(ConfigError, match=message):
        Bounds.of(names(2), low, high)


@given(bounds_and_cube(), st.sampled_from([0.01, 0.05, 0.02, 0.1, 0.001]))
def test_lattice_mixtures_sum_to_1_keep_the_bounds_and_stay_near(drawn, step):
    bounds, cube = drawn
    try:
        lattice = Lattice.of(bounds, step)
    except ConfigError:
        return
    mixture = to_mixture(bounds, cube)
    units = lattice.nearest(mixture)
    assert sum(units) == lattice.units
    assert bounds.contains(lattice.mixture(units))
    assert max(abs(a - b) for a, b in zip(lattice.mixture(units).ratios, mixture.ratios, strict=True)) <= step * len(
        units
    )
    for near in lattice.neighbours(units):
        assert sum(near) == lattice.units
        assert bounds.contains(lattice.mixture(near))


def test_thirds_are_rounded_by_largest_remainder():
    lattice = Lattice.of(Bounds.of(names(3), {}, {}), 0.01)
    assert lattice.mixture(lattice.nearest(Mixture.of(dict.fromkeys(names(3), 1 / 3)))).ratios == (0.34, 0.33, 0.33)


def test_a_step_that_does_not_divide_1_is_refused():
    with pytest.raises(ConfigError, match=r"received 0.3; the nearest that does: 0.333333"):
        Lattice.of(Bounds.of(names(2), {}, {}), 0.3)


def test_a_step_too_coarse_for_the_bounds_is_refused():
    with pytest.raises(ConfigError, match="smaller ratio_step"):
        Lattice.of(Bounds.of(names(2), {"s0": 0.25}, {"s0": 0.25}), 0.1)


@given(bounds_and_cube(), st.integers(0, 2**32 - 1))
def test_many_points_at_once_are_each_the_mixture_of_its_own(drawn, seed):
    bounds, cube = drawn
    points = np.concatenate([[cube], np.random.default_rng(seed).uniform(size=(20, len(cube)))])
    rows = to_ratios(bounds, points)
    assert (rows >= np.array(bounds.low)).all()
    assert (rows <= np.array(bounds.high)).all()
    assert rows.sum(axis=1) == pytest.approx(np.ones(21), abs=1e-9)
    assert rows.tolist() == [list(to_mixture(bounds, point).ratios) for point in points]


@pytest.mark.parametrize("source", range(5))
def test_every_marginal_of_many_points_is_that_of_the_uniform_law(source):
    rows = to_ratios(Bounds.of(names(5), {}, {}), np.random.default_rng(1).uniform(size=(20_000, 4)))
    # Each of five ratios is Beta(1, 4) distributed, whichever stick it is broken from.
    assert kstest(rows[:, source], beta(1, 4).cdf).pvalue > 0.01


def test_lower_bounds_leave_the_map_uniform_on_what_is_left():
    bounds = Bounds.of(names(3), {"s0": 0.2, "s2": 0.3}, {})
    rows = to_ratios(bounds, np.random.default_rng(2).uniform(size=(20_000, 2)))
    for k, low in enumerate(bounds.low):
        assert kstest((rows[:, k] - low) / 0.5, beta(1, 2).cdf).pvalue > 0.01
