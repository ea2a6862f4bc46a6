import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.errors import ConfigError
from flp_ray.propose.config import ObjectiveConfig, SearchConfig
from flp_ray.propose.goals import goals_of, named_goal

TASKS = {"maths": 1.0, "recall": 3.0, "code": 0.0}


def own(name="both", weights=None, keep=None):
    return ObjectiveConfig(name=name, weights=weights or {"maths": 1.0, "code": 3.0}, keep=keep or {})


def made(*objectives):
    return goals_of(SearchConfig(objectives=list(objectives), present={"web": 1.0}), TASKS)


def test_the_mean_weighs_tasks_as_the_study_does():
    (mean,) = made("mean")
    assert mean.shares(["code", "maths", "recall"]).tolist() == [0.0, 0.25, 0.75]
    assert mean.shares(["maths"]).tolist() == [1.0]
    assert mean.shares(["code"]) is None
    assert mean.shares([]) is None


def test_a_task_and_own_weights_are_objectives():
    task, weighed = made("recall", own(keep={"recall": 0.01}))
    assert (task.name, task.weights, task.keep) == ("recall", {"recall": 1.0}, {})
    assert weighed.shares(["code", "maths", "recall"]).tolist() == [0.75, 0.25, 0.0]
    assert weighed.keep == {"recall": 0.01}


def test_an_objective_named_twice_is_sought_once():
    assert [g.name for g in made("recall", "mean", "recall", own(), own())] == ["recall", "mean", "both"]


def test_what_an_objective_misses_is_named_once_and_tasks_without_weight_are_not_missed():
    (mean,) = made("mean")
    assert mean.missing(["maths"]) == ("recall",)
    (weighed,) = made(own(weights={"maths": 1.0, "recall": 1.0}, keep={"recall": 0.1, "code": 0.0}))
    assert weighed.missing(["maths"]) == ("recall", "code")
    assert weighed.missing(["maths", "recall", "code"]) == ()


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=8))
def test_shares_sum_to_1_and_keep_the_weights_proportions(weights):
    tasks = {f"t{i}": w for i, w in enumerate(weights)}
    shares = named_goal("mean", tasks, "here").shares(list(tasks))
    assert shares.sum() == pytest.approx(1)
    assert shares * sum(weights) == pytest.approx(np.array(weights))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            "recal",
            r"search.objectives names 'recal', which is no objective; known: mean, maths.* Did you mean recall\?",
        ),
        (own(weights={"math": 1.0}), r"search.objectives.both names 'math', which is no task.* Did you mean maths\?"),
        (own(keep={"cod": 0.1}), r"search.objectives.both names 'cod', which is no task"),
        (
            own(name="mean"),
            r"'mean' names an objective with its own weights, but it is the mean .* Choose another name",
        ),
        (own(name="maths"), r"'maths' names .* a task already. Choose another name"),
    ],
)
def test_what_is_unknown_or_named_twice_is_refused(objective, message):
    with pytest.raises(ConfigError, match=message):
        made(objective)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"objectives": [own(keep={"maths": 0.0})]}, "give it as search.present"),
        ({"pareto": ["mean"]}, "at least two objectives"),
        ({"prior_weight": 0.1}, "prior_weight needs a prior"),
        ({"objectives": [{"name": "x", "weights": {}}]}, "at least 1 item"),
        ({"objectives": [{"name": "x", "weights": {"maths": 0.0}}]}, "greater than 0"),
        ({"objectives": [{"name": "x", "weights": {"maths": 1.0}, "keep": {"maths": 1.5}}]}, "less than or equal to 1"),
    ],
)
def test_the_settings_refuse_what_says_nothing(given_, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**given_)
