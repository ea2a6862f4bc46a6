import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.errors import ConfigError
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.simplex import Bounds
from flp_ray.propose.space import present_mixture, search_lattice, search_space, spread_out, text_bounds

SOURCES = ("web", "code", "math")  # sorted: code, math, web


def space(*, target_tokens=None, available=None, default_epochs=None, sources=SOURCES, **config):
    return search_space(
        SearchConfig(**config), sources, target_tokens=target_tokens, available=available, max_epochs=default_epochs
    )


def test_without_constraints_all_mixtures_may_be_proposed():
    made = space()
    assert made.sources == ("code", "math", "web")
    assert (made.bounds.low, made.bounds.high) == ((0.0,) * 3, (1.0,) * 3)
    assert not made.constrained
    assert made.lattice == made.free


def test_pins_are_both_bounds():
    made = space(pinned={"web": 0.5}, max_ratios={"code": 0.3})
    assert (made.bounds.low, made.bounds.high) == ((0.0, 0.0, 0.5), (0.3, 1.0, 0.5))
    assert made.constrained
    rows = spread_out(made.bounds, 200, 0)
    assert rows[:, 2] == pytest.approx(np.full(200, 0.5))
    assert rows[:, 0].max() <= 0.3 + 1e-9


@pytest.mark.parametrize(
    ("config", "given_", "expected"),
    [
        ({}, {"available": {"code": 20}}, 0.2),
        ({}, {"available": {"code": 20}, "default_epochs": 4.0}, 0.8),
        ({"max_epochs": 2.0}, {"available": {"code": 20}, "default_epochs": 4.0}, 0.4),
        ({"max_epochs": {"code": 3.0}}, {"available": {"code": 20, "math": 100}, "default_epochs": 4.0}, 0.6),
        ({"available_tokens": {"code": 30}}, {"available": {"code": 20}}, 0.3),
        ({}, {"available": {"code": 500}}, 1.0),
        ({}, {"available": {"code": None}}, 1.0),
        ({"max_ratios": {"code": 0.1}}, {"available": {"code": 20}}, 0.1),
    ],
)
def test_text_caps_a_source(config, given_, expected):
    made = space(target_tokens=100, **config, **given_)
    assert made.bounds.high[0] == pytest.approx(expected)
    assert made.free.bounds.high == (1.0, 1.0, 1.0)


def test_text_is_left_out_of_account_without_target_tokens():
    assert not space(available={"code": 1}).constrained
    assert search_lattice(SearchConfig(available_tokens={"code": 1}), SOURCES) == space().lattice


@pytest.mark.parametrize(
    ("config", "given_", "message"),
    [
        ({"pinned": {"web": 0.7, "code": 0.5}}, {}, r"search.pinned: .*web 0.7, code 0.5.* sum to 1.2.* Lower one"),
        (
            {"pinned": {"code": 0.5}, "max_ratios": {"code": 0.3}},
            {},
            r"code is pinned at 0.5, .* 0 to 0.3. Move the pin",
        ),
        (
            {"pinned": {"code": 0.1}, "min_ratios": {"code": 0.3}},
            {},
            r"code is pinned at 0.1, .* 0.3 to 1. Move the pin",
        ),
        (
            {"pinned": {"code": 0.3, "math": 0.2, "web": 0.1}},
            {},
            r"search.pinned: with the pins .* 0.6 at least and 0.6 at most, never to 1. Move a pin",
        ),
        (
            {"pinned": {"code": 0.8}, "min_ratios": {"web": 0.4}},
            {},
            r"search.pinned: with the pins .* 1.2 at least .* widen min_ratios",
        ),
        ({"pinned": {"cod": 0.1}}, {}, r"search.pinned names 'cod', which is no source \(code, math, web\)"),
        ({"pinned": {"code": 0.123}}, {}, r"no mixture in steps of 0.01 keeps the bounds .* Take a smaller ratio_step"),
        ({"min_ratios": {"cod": 0.1}}, {}, r"search.min_ratios names 'cod'.* Did you mean 'code'\?"),
        ({"ratio_step": 0.03}, {}, r"search.ratio_step must divide 1, received 0.03; the nearest that does: 0.030303"),
        (
            {"min_ratios": {"code": 0.5}},
            {"available": {"code": 20}},
            r"code must make up at least 0.5 of the target's 100 tokens, which is 2.5 passes over its 20 tokens; at "
            r"most 1 may be. Lower its ratio to 0.2 or less, raise search.max_epochs, or bring more text",
        ),
        (
            {"pinned": {"code": 0.5}},
            {"available": {"code": 0}},
            r"code must make up at least 0.5 .* infinitely many passes over its 0 tokens",
        ),
        (
            {},
            {"available": {"code": 20, "math": 20, "web": 30}},
            r"too little text for the target's 100 tokens: .* code 0.2, math 0.2, web 0.3, 0.7 together. Raise "
            r"search.max_epochs \(now code 1, math 1, web 1\), bring more text, or lower search.target_tokens",
        ),
        ({"available_tokens": {"cod": 5}}, {}, r"search.available_tokens names 'cod', which is no source"),
        ({"max_epochs": {"cod": 5}}, {}, r"search.max_epochs names 'cod', which is no source"),
        ({"prior": {"cod": 1.0}}, {}, r"search.prior names 'cod', which is no source"),
        ({"prior": {"code": 0.4, "web": 0.4}}, {}, r"search.prior: .*sum to 1.*0.8"),
    ],
)
def test_wrong_input_is_refused_with_what_to_change(config, given_, message):
    with pytest.raises(ConfigError, match=message):
        space(target_tokens=100, **config, **given_)


def test_the_present_mixture_is_over_all_sources():
    found = present_mixture(SearchConfig(present={"web": 0.75, "code": 0.25}), SOURCES)
    assert found.as_dict() == {"code": 0.25, "math": 0.0, "web": 0.75}
    assert present_mixture(SearchConfig(), SOURCES) is None
    with pytest.raises(ConfigError, match=r"search.present names 'cod'"):
        present_mixture(SearchConfig(present={"cod": 1.0}), SOURCES)


def test_the_penalty_is_0_at_the_prior_and_grows_with_distance_and_weight():
    prior = {"web": 0.6, "code": 0.4}
    made = space(prior=prior, prior_weight=0.1)
    near, far = [0.41, 0.0, 0.59], [0.9, 0.0, 0.1]
    at, close, distant = made.penalty(np.array([[0.4, 0.0, 0.6], near, far]))
    assert at == pytest.approx(0, abs=1e-6)
    assert at < close < distant
    # KL divergence in nats: 0.9 log(0.9 / 0.4) + 0.1 log(0.1 / 0.6).
    assert distant == pytest.approx(0.1 * (0.9 * np.log(2.25) + 0.1 * np.log(1 / 6)), rel=1e-4)
    assert space(prior=prior, prior_weight=0.2).penalty(np.array([far])) == pytest.approx(2 * distant)
    assert space(prior=prior).penalty(np.array([far])).tolist() == [0.0]
    assert space().penalty(np.array([far, near])).tolist() == [0.0, 0.0]


@given(st.integers(2, 8), st.integers(0, 10_000))
def test_a_penalty_is_never_a_gain(sources, seed):
    generator = np.random.default_rng(seed)
    names = tuple(f"s{i}" for i in range(sources))
    prior = generator.dirichlet(np.full(sources, 0.5))
    made = space(sources=names, prior=dict(zip(names, (prior / prior.sum()).tolist(), strict=True)), prior_weight=1.0)
    assert (made.penalty(generator.dirichlet(np.full(sources, 0.3), 50)) >= -1e-9).all()


def test_text_of_a_size_bounds_what_it_can_be_trained_on():
    bounds = Bounds.of(SOURCES, {}, {})
    assert text_bounds(bounds, 100, {"code": 10, "web": None}, 2.0).high == (0.2, 1.0, 1.0)
    assert text_bounds(bounds, 100, dict.fromkeys(SOURCES, 10), 2.0) is None
    assert text_bounds(Bounds.of(SOURCES, {"code": 0.5}, {}), 100, {"code": 10}, 2.0) is None


@st.composite
def feasible_bounds(draw):
    sources = draw(st.integers(1, 7))
    low = [draw(st.floats(0, 1)) for _ in range(sources)]
    scale = draw(st.floats(0, 0.95)) / max(sum(low), 1e-9)
    low = [v * min(scale, 1.0) for v in low]
    high = [draw(st.floats(v, 1)) for v in low]
    assume(sum(high) >= 1)
    return Bounds(sources=tuple(f"s{i}" for i in range(sources)), low=tuple(low), high=tuple(high))


@given(feasible_bounds(), st.integers(1, 40), st.integers(0, 100))
def test_a_spread_keeps_the_bounds_and_its_number(bounds, number, seed):
    rows = spread_out(bounds, number, seed)
    assert rows.shape == (number, len(bounds.sources))
    assert rows.sum(axis=1) == pytest.approx(np.ones(number), abs=1e-9)
    assert (rows >= np.array(bounds.low) - 1e-9).all()
    assert (rows <= np.array(bounds.high) + 1e-9).all()
    assert (spread_out(bounds, number, seed) == rows).all()
    for row in rows:
        Mixture.of(dict(zip(bounds.sources, row.tolist(), strict=True)))
