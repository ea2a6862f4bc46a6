import numpy as np
import pytest

from flp_ray.errors import NotEnoughDataError
from flp_ray.fit.power_law import fit_line, fit_power_law


def test_a_power_law_is_recovered():
    flops = np.geomspace(1e17, 1e21, 9)
    law = fit_power_law(flops, (flops / 1e14) ** -0.07)
    assert law.exponent == pytest.approx(-0.07)
    assert law.log_scale == pytest.approx(0.07 * np.log(1e14))
    assert law.at(1e23) == pytest.approx((1e23 / 1e14) ** -0.07)
    assert law.residual < 1e-10
    assert law.flops_range == (pytest.approx(1e17), pytest.approx(1e21))


def test_a_line_is_least_squares():
    generator = np.random.default_rng(0)
    x = generator.uniform(2, 4, 50)
    y = 1.5 - 0.3 * x + 0.01 * generator.standard_normal(50)
    slope, intercept = np.polyfit(x, y, 1)
    line = fit_line(x, y)
    assert (line.slope, line.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    assert line.residual == pytest.approx(0.01, rel=0.4)


@pytest.mark.parametrize("x", [np.array([]), np.array([1.0]), np.array([2.0, 2.0, 2.0])])
def test_points_at_one_place_are_refused(x):
    with pytest.raises(NotEnoughDataError, match="two points"):
        fit_line(x, x)
