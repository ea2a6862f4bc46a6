"""From the study file's grid to mixtures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.errors import ConfigError
from flp_ray.plan import grid_mixtures
from flp_ray.plan.config import GridConfig

RATIOS = st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=1, max_size=5, unique=True)


@given(RATIOS, RATIOS)
def test_three_sources_are_all_combinations_that_fit(code, maths):
    if min(code) + min(maths) > 1:
        return
    mixtures = grid_mixtures(GridConfig(ratios={"code": code, "math": maths}), ["general", "code", "math"])
    pairs = {(m.ratio("code"), m.ratio("math")) for m in mixtures}
    assert pairs == {(c, m) for c in code for m in maths if round(c * 20) + round(m * 20) <= 20}
    assert len(mixtures) == len(pairs)


def test_the_source_left_out_takes_the_rest_exactly():
    mixtures = grid_mixtures(GridConfig(ratios={"code": [0, 0.1, 0.3]}), ["general", "code"])
    assert [m.ratio("general") for m in mixtures] == [1.0, 0.9, 0.7]


def test_whole_mixtures_and_ratios_together_without_repeats():
    config = GridConfig(ratios={"code": [0.5]}, mixtures=[{"code": 0.5, "general": 0.5}, {"general": 1}])
    assert [m.ratio("code") for m in grid_mixtures(config, ["general", "code"])] == [0.5, 0.0]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"ratios": {"coed": [0.1]}}, "Did you mean code"),
        ({"ratios": {"code": [1.1]}}, "between 0 and 1"),
        ({"ratios": {"code": []}}, "between 0 and 1"),
        ({"ratios": {"code": [0.1], "general": [0.9]}}, "all sources but one"),
        ({"mixtures": [{"code": 0.6, "general": 0.6}]}, "sum to 1"),
        ({"mixtures": [{"code": 0.6, "general": 0.3}]}, "sum to 1"),
    ],
)
def test_impossible_grids_say_what_is_wrong(config, words):
    with pytest.raises(ConfigError, match=words):
        grid_mixtures(GridConfig(**config), ["general", "code"])
