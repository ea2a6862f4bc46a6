"""What is refused, and which trials a tuning asks for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flp_ray.core.tuning import hyperparameter
from flp_ray.errors import ConfigError
from flp_ray.tune import design_trials, rung_tokens
from tests.tune.tune_world import run_of, settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": {"low": 0.1, "high": 0.01}}, "low must be below high, received low 0.1 and high 0.01"),
        ({"learning_rate": {"low": 0, "high": 0.01}}, "greater than 0"),
        ({"trials": 2}, "2 trials a size cannot show an optimum of learning_rate.*at least 3 trials"),
        ({"trials": 4, "weight_decay": {"low": 0.01, "high": 1}}, "learning_rate, weight_decay.*at least 5 trials"),
        ({"sizes": ["small", "small"]}, "sizes names small more than once"),
        ({"batch_sequences": [8, 16]}, "at least 3 items"),
        ({"batch_sequences": [8, 8, 16]}, "different numbers"),
        ({"warmup_fraction": {"low": 0.01, "high": 2}}, "at most 1: high is 2"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_words(changes, words):
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


def test_a_training_too_short_for_its_rungs_is_refused():
    with pytest.raises(ConfigError, match=r"5 rungs with reduction_factor 8.*4096 parts, but.* 500 steps"):
        design_trials(run_of("small"), settings(rungs=5, reduction_factor=8), seed=0)


@given(st.integers(0, 1000), st.integers(3, 30))
def test_more_trials_keep_those_that_were_asked_for(seed, count):
    few = design_trials(run_of("small"), settings(trials=count), seed=seed)
    more = design_trials(run_of("small"), settings(trials=count + 5), seed=seed)
    assert len(few) == count
    assert more[:count] == few
    assert len({trial.run_id for trial in more}) == count + 5


@given(st.integers(0, 1000), st.integers(3, 30))
def test_trials_fill_the_logarithm_of_the_range_evenly(seed, count):
    trials = design_trials(run_of("small"), settings(trials=count), seed=seed)
    places = sorted(math.log(t.learning_rate / 1e-3) / math.log(100) for t in trials)
    assert places[0] >= 0 and places[-1] <= 1
    gaps = [b - a for a, b in zip([0.0, *places], [*places, 1.0], strict=True)]
    # The golden section leaves at most 1 + 1/golden = 1.6 mean gaps between neighbours, at the ends less than 2.
    assert max(gaps) < 2.1 / count


def test_trials_differ_in_what_is_tuned_and_in_nothing_else():
    tuned = settings(
        trials=12,
        batch_sequences=[8, 16, 32],
        weight_decay={"low": 0.01, "high": 1},
        warmup_fraction={"low": 0.01, "high": 0.2},
    )
    base = run_of("middle")
    trials = design_trials(base, tuned, seed=3)
    for name in tuned.parameters:
        values = [hyperparameter(trial, name) for trial in trials]
        low, high = tuned.bounds(name)
        assert len(set(values)) > 2 and all(low <= value <= high for value in values)
    same = {(t.seed, t.shape, t.mixture, t.train_tokens, t.text_id, t.recipe.beta2) for t in trials}
    assert same == {(base.seed, base.shape, base.mixture, base.train_tokens, base.text_id, base.recipe.beta2)}


def test_few_batches_that_repeat_end_the_search_for_trials():
    narrow = settings(trials=40, learning_rate={"low": 1e-3, "high": 1.001e-3}, batch_sequences=[8, 16, 32])
    trials = design_trials(run_of("small"), narrow, seed=0)
    assert 3 <= len(trials) < 40  # four digits leave only two learning rates


@pytest.mark.parametrize(
    ("rungs", "factor", "shares"), [(3, 2, [0.25, 0.5, 1]), (3, 3, [1 / 9, 1 / 3, 1]), (1, 2, [1])]
)
def test_rungs_are_powers_of_the_factor(rungs, factor, shares):
    config = settings(rungs=rungs, reduction_factor=factor)
    trial = design_trials(run_of("small"), config, seed=0)[0]
    tokens = rung_tokens(trial, config)
    assert list(tokens) == [factor**k for k in range(rungs)]
    assert [t / trial.train_tokens for t in tokens.values()] == pytest.approx(shares, abs=1 / trial.steps)
