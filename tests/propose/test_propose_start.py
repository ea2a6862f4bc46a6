import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.space import search_space
from flp_ray.propose.start import SearchSize, start_design


def sizes_of(sources, number=3, highest=None):
    whole = (1.0,) * sources
    return tuple(SearchSize(name=f"size{i}", flops=10.0**i, highest=highest or whole) for i in range(number))


def design(sources, *, mixtures=None, present=None, seed=0, sizes=None, **config):
    names = tuple(f"s{i}" for i in range(sources))
    space = search_space(SearchConfig(**config), names)
    mixture = None if present is None else Mixture.of(dict(zip(names, present, strict=True)))
    made = start_design(space, sizes or sizes_of(sources), mixtures=mixtures, present=mixture, seed=seed)
    first = [m for size, m in made if size == "size0"]
    second = [m for size, m in made if size == "size1"]
    assert len(first) + len(second) == len(made)
    assert set(second) <= set(first)
    assert len(set(made)) == len(made)
    return [m.ratios for m in first], [m.ratios for m in second]


def test_two_sources_are_trained_from_end_to_end_and_their_ends_at_a_second_size():
    first, second = design(2)
    assert sorted(first) == [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (1.0, 0.0)]
    assert sorted(second) == [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]


def test_bounds_move_the_ends():
    first, _ = design(2, min_ratios={"s0": 0.1}, max_ratios={"s0": 0.5})
    assert (min(first)[0], max(first)[0]) == (0.1, 0.5)
    assert len(first) == 5


@pytest.mark.parametrize("share", [0.02, 0.3, 0.4999, 0.8, 0.97])
def test_the_present_mixture_of_two_sources_is_trained_first_and_takes_no_end_away(share):
    first, second = design(2, present=(share, 1 - share))
    assert first[0] == second[0] == (share, 1 - share)
    assert {(0.0, 1.0), (1.0, 0.0)} <= set(first)
    assert len(first) == 5
    gaps = np.diff(sorted(r[0] for r in first))
    assert gaps.max() <= 0.5 + 1e-9


def test_a_present_mixture_of_the_spread_is_not_trained_twice():
    first, _ = design(2, present=(0.25, 0.75))
    assert first[0] == (0.25, 0.75)
    assert len(first) == len(set(first)) == 5


def test_a_present_mixture_out_of_bounds_is_left_out():
    first, _ = design(2, present=(0.9, 0.1), max_ratios={"s0": 0.5})
    assert max(first)[0] == 0.5


def test_five_sources_have_their_corners_the_middle_and_a_spread():
    first, second = design(5)
    assert len(first) == 10
    assert first[0] == (0.2,) * 5
    assert first[1:6] == [tuple(row) for row in np.eye(5).tolist()]
    assert all(0 < max(row) < 1 for row in first[6:])
    assert second[0] == (0.2,) * 5
    assert len(second) == 3


def test_another_seed_is_another_spread():
    (one, _), (again, _), (other, _) = (design(5, seed=s) for s in (0, 0, 1))
    assert one == again
    assert one[:6] == other[:6]
    assert one[6:] != other[6:]


def test_one_source_and_one_size():
    assert design(1, sizes=sizes_of(1)) == ([(1.0,)], [(1.0,)])
    first, second = design(3, sizes=sizes_of(3, 1))
    assert len(first) == 6
    assert second == []


def test_what_the_text_does_not_allow_is_left_out():
    first, second = design(3, sizes=sizes_of(3, highest=(0.5, 1.0, 1.0)))
    assert first
    assert all(row[0] <= 0.5 for row in first + second)
    cheap, dear = sizes_of(3, 2)
    none = SearchSize(name=cheap.name, flops=cheap.flops, highest=None)
    usual = {"mixtures": None, "present": None, "seed": 0}
    assert {size for size, _ in start_design(search_space(SearchConfig(), ("a", "b", "c")), (none, dear), **usual)} == {
        dear.name
    }
    assert start_design(search_space(SearchConfig(), ("a", "b", "c")), (none,), **usual) == ()


@given(st.integers(2, 6), st.integers(3, 15), st.integers(0, 50))
def test_the_number_of_mixtures_is_kept_and_all_are_on_the_lattice(sources, number, seed):
    names = tuple(f"s{i}" for i in range(sources))
    space = search_space(SearchConfig(ratio_step=0.05, max_ratios={"s0": 0.6}), names)
    made = start_design(space, sizes_of(sources), mixtures=number, present=None, seed=seed)
    first = [m for size, m in made if size == "size0"]
    assert len(first) == len(set(first)) <= number
    assert len(first) >= min(number, sources)
    for mixture in first:
        assert space.bounds.contains(mixture)
        assert np.array(mixture.ratios) * 20 == pytest.approx(np.round(np.array(mixture.ratios) * 20), abs=1e-9)
