"""The simplex is checked once, where a mixture is made."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.errors import ConfigError


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.integers(0, 1000), min_size=1, max_size=9))
def test_any_normalised_shares_are_a_mixture(shares):
    total = sum(shares.values())
    if total == 0:
        return
    mixture = Mixture.of({s: v / total for s, v in shares.items()})
    assert list(mixture.sources) == sorted(shares)
    assert mixture.as_dict() == {s: v / total for s, v in shares.items()}
    assert pickle.loads(pickle.dumps(mixture)) == mixture


@pytest.mark.parametrize("bad", [{"a": 0.5, "b": 0.4}, {"a": -0.1, "b": 1.1}, {"a": float("nan")}, {}])
def test_off_the_simplex_is_refused_with_what_was_received(bad):
    with pytest.raises(ConfigError, match="received"):
        Mixture.of(bad)


def test_a_source_that_is_not_named_has_ratio_0():
    assert Mixture.of({"general": 1}).ratio("code") == 0.0
