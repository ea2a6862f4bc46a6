import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction, Proposal
from flp_ray.core.records import Measurement, Records, Run
from flp_ray.validate import compare, not_compared
from flp_ray.validate.comparison import verdict

PROPOSED = Mixture.of({"x": 0.2, "y": 0.8})


def proposal(objective="a", tasks=("a", "b"), mean=0.6):
    expected = Prediction(mean=mean, low=mean - 0.05, high=mean + 0.05, extrapolated=False)
    return Proposal(
        objective=objective,
        mixture=PROPOSED,
        size="big",
        train_tokens=100,
        flops=1e18,
        expected=expected,
        performance=dict.fromkeys(tasks, expected),
        domain_loss={},
        fit_id="fit",
    )


def run(name, purpose, x, scores, *, stderr=0.01, size="big", tokens=100):
    """A run and its final scores by task."""
    made = Run(
        run_id=name,
        purpose=purpose,
        params=1,
        train_tokens=100,
        mixture=Mixture.of({"x": x, "y": 1 - x}),
        size=size,
    )
    rows = [
        Measurement(run_id=name, tokens=tokens, flops=1.0, kind="performance", name=t, value=v, stderr=stderr)
        for t, v in scores.items()
    ]
    return made, rows


def records(*parts):
    return Records(runs=tuple(r for r, _ in parts), measurements=tuple(m for _, rows in parts for m in rows))


GRID = (
    run("g0", "sampling", 0.0, {"a": 0.50, "b": 0.9}),
    run("g1", "sampling", 0.5, {"a": 0.55, "b": 0.1}),
    run("small", "sampling", 0.3, {"a": 0.99, "b": 0.99}, size="little"),
)


def test_a_task_is_compared_with_the_best_of_the_grid_at_its_size():
    (found,) = compare([proposal()], records(*GRID, run("v", "validation", 0.2, {"a": 0.62, "b": 0.5})))
    assert found.run_id == "v"
    assert found.measured == 0.62
    assert found.grid_measured == 0.55
    assert found.grid_mixture == Mixture.of({"x": 0.5, "y": 0.5})
    assert found.regret == pytest.approx(-0.07)
    assert found.relative_error == pytest.approx(0.02 / 0.62)
    assert found.inside_interval
    assert found.verdict == "better"


def test_the_mean_weighs_the_tasks_as_told():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.6, "b": 0.5}))
    (even,) = compare([proposal("mean")], data)
    assert even.measured == pytest.approx(0.55)
    assert even.grid_measured == pytest.approx(0.70)
    assert even.measured_stderr == pytest.approx(0.01 / 2**0.5)
    assert even.verdict == "worse"
    (weighed,) = compare([proposal("mean")], data, weights={"b": 0.0})
    assert weighed.measured == pytest.approx(0.6)
    assert weighed.verdict == "better"


def test_only_the_tasks_that_were_predicted_make_the_mean():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.6, "b": 0.5}))
    assert compare([proposal("mean", tasks=("a",))], data)[0].measured == 0.6


def test_several_seeds_count_by_their_mean_and_the_larger_error():
    close = records(*GRID, *(run(f"v{i}", "validation", 0.2, {"a": 0.6}) for i in range(4)))
    (found,) = compare([proposal()], close)
    assert found.run_id == "v0,v1,v2,v3"
    assert found.measured_stderr == pytest.approx(0.01 / 2)
    far = records(*GRID, *(run(f"v{i}", "validation", 0.2, {"a": v}) for i, v in enumerate([0.5, 0.7])))
    (found,) = compare([proposal()], far)
    assert found.measured == pytest.approx(0.6)
    assert found.measured_stderr == pytest.approx(0.1)
    assert found.verdict == "not distinguishable"


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(0.0, "not distinguishable"), (0.0181, "not distinguishable"), (0.0182, "better"), (-0.0182, "worse")],
)
def test_the_verdict_is_by_an_80_percent_interval(difference, expected):
    # 1.2816 standard normal deviations of hypot(0.01, 0.01).
    assert verdict(0.5 + difference, 0.01, 0.5, 0.01) == expected


def test_unknown_errors_allow_no_verdict():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.9}, stderr=None))
    (found,) = compare([proposal()], data)
    assert found.measured_stderr is None
    assert found.verdict == "not distinguishable"


def test_a_measured_zero_has_no_relative_error():
    (found,) = compare([proposal()], records(*GRID, run("v", "validation", 0.2, {"a": 0.0})))
    assert found.relative_error is None
    assert not found.inside_interval


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (GRID, "no finished validation run of big at x=0.2 y=0.8"),
        ((*GRID, run("v", "validation", 0.3, {"a": 0.6})), "no finished validation run"),
        ((*GRID, run("v", "validation", 0.2, {"b": 0.6})), "no finished validation run"),
        ((*GRID, run("v", "validation", 0.2, {"a": 0.6}, tokens=50)), "no finished validation run"),
        ((*GRID, run("v", "sampling", 0.2, {"a": 0.6})), "no finished validation run"),
        ((GRID[2], run("v", "validation", 0.2, {"a": 0.6})), "no sampling run of big over 100 tokens"),
    ],
)
def test_what_cannot_be_compared_is_said(parts, reason):
    data = records(*parts)
    assert compare([proposal()], data) == ()
    assert reason in not_compared([proposal()], data)[proposal().proposal_id]


def test_what_is_compared_has_no_reason():
    assert not_compared([proposal()], records(*GRID, run("v", "validation", 0.2, {"a": 0.6}))) == {}
