"""Which trials the scheduler stops, without a cluster."""

from types import SimpleNamespace

from flp_ray.core.tuning import TrialReport
from flp_ray.distributed.tuning import _HalvingBySize, trials_over
from flp_ray.tune import TuningConfig

CONFIG = TuningConfig(sizes=["a", "b"], trials=4, rungs=3, learning_rate={"low": 1e-3, "high": 1e-1})


def play(told: list[tuple[str, str, int, float]]) -> list[str]:
    """What the scheduler says to (size, trial, rung, loss), one after the other."""
    scheduler, trials, said = _HalvingBySize(CONFIG), {}, []
    for size, name, rung, loss in told:
        if name not in trials:
            trials[name] = SimpleNamespace(trial_id=name, config={"spec": {"size": size}})
            scheduler.on_trial_add(None, trials[name])
        said.append(scheduler.on_trial_result(None, trials[name], {"rung": rung, "loss": loss}))
    return said


def test_the_worse_half_is_stopped_and_the_first_go_on():
    assert play(
        [("a", "1", 1, 5.0), ("a", "2", 1, 5.5), ("a", "3", 1, 4.8), ("a", "3", 2, 4.0), ("a", "1", 2, 4.4)]
    ) == [
        "CONTINUE",
        "STOP",
        "CONTINUE",
        "CONTINUE",
        "STOP",
    ]


def test_sizes_are_not_held_against_each_other():
    assert play([("a", "1", 1, 4.0), ("b", "2", 1, 6.0), ("b", "3", 1, 5.9), ("a", "4", 1, 4.1)]) == [
        "CONTINUE",
        "CONTINUE",
        "CONTINUE",
        "STOP",
    ]


def test_the_last_rung_ends_a_trial():
    assert play([("a", "1", 4, 4.0)]) == ["STOP"]


def test_trials_that_are_over():
    trials = [SimpleNamespace(run_id=name, train_tokens=400) for name in "wxyz"]
    measured = TrialReport(run_id="w", size="a", tokens=100, event="measured", loss=5.0)
    reports = [
        measured,
        TrialReport(run_id="x", size="a", tokens=400, event="measured", loss=4.0),
        TrialReport(run_id="y", size="a", tokens=100, event="stopped"),
        TrialReport(run_id="z", size="a", tokens=0, event="diverged", reason="nan"),
        TrialReport(run_id="other", size="a", tokens=400, event="stopped"),
    ]
    assert trials_over(trials, reports) == {"x", "y", "z"}
