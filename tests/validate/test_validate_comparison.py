import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Experiment
from flp_ray.validate import compare, not_compared
from tests.validate.validate_samples import GRID, PROPOSED, around, experiment, mix, proposal, records, run


def test_a_task_is_compared_with_the_best_of_the_grid_at_its_size():
    (found,) = compare([experiment()], records(*GRID, run("v", "validation", 0.2, {"a": 0.62, "b": 0.5})))
    assert found.run_id == "v"
    assert found.measured == 0.62
    assert found.best_known_measured == 0.55
    assert found.best_known == Mixture.of({"x": 0.5, "y": 0.5})
    assert found.regret == pytest.approx(-0.07)
    assert found.relative_error == pytest.approx(0.02 / 0.62)
    assert found.inside_interval
    assert found.verdict == "better"


def test_the_mixture_that_was_written_down_counts_and_not_the_luckiest_measurement():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.62}))
    (found,) = compare([experiment(0.0)], data)
    assert (found.best_known, found.best_known_measured) == (mix(0.0), 0.50)
    assert (found.best_known_source, found.runs, found.best_known_runs) == ("sampling", 1, 1)


def test_the_mean_weighs_the_tasks_as_told():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.6, "b": 0.5}))
    (even,) = compare([experiment(objective="mean")], data)
    assert even.measured == pytest.approx(0.55)
    assert even.best_known_measured == pytest.approx(0.70)
    assert even.measured_stderr == pytest.approx(0.01 / 2**0.5)
    assert even.verdict == "worse"
    (weighed,) = compare([experiment(objective="mean")], data, weights={"b": 0.0})
    assert weighed.measured == pytest.approx(0.6)
    assert weighed.verdict == "better"


def test_only_the_tasks_that_were_predicted_make_the_mean():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.6, "b": 0.5}))
    assert compare([experiment(objective="mean", tasks=("a",))], data)[0].measured == 0.6


def test_several_seeds_count_by_their_mean_and_the_larger_error():
    close = records(*GRID, *(run(f"v{i}", "validation", 0.2, {"a": 0.6}) for i in range(4)))
    (found,) = compare([experiment()], close)
    assert found.run_id == "v0,v1,v2,v3"
    assert found.measured_stderr == pytest.approx(0.01 / 2)
    far = records(*GRID, *(run(f"v{i}", "validation", 0.2, {"a": v}) for i, v in enumerate([0.5, 0.7])))
    (found,) = compare([experiment()], far)
    assert found.measured == pytest.approx(0.6)
    assert found.measured_stderr == pytest.approx(0.1)
    assert found.verdict == "not distinguishable"


def test_with_trainings_on_both_sides_the_grid_has_no_say():
    parts = [run(f"p{i}", "validation", 0.2, {"a": v}) for i, v in enumerate([0.60, 0.62, 0.64])]
    parts += [run(f"k{i}", "validation", 0.5, {"a": v}) for i, v in enumerate([0.45, 0.47, 0.49])]
    (found,) = compare([experiment(0.5)], records(*GRID, *parts), trainings=3)
    assert found.run_id == "p0,p1,p2,k0,k1,k2"
    assert (found.measured, found.best_known_measured) == pytest.approx((0.62, 0.47))
    assert (found.best_known_source, found.runs, found.best_known_runs, found.planned) == ("validation", 3, 3, 3)
    assert found.test is not None
    assert found.test.degrees_of_freedom == 4
    assert found.test.scatter == pytest.approx(0.02)
    assert found.verdict == "better"


def test_missing_trainings_are_counted_and_the_others_compared():
    parts = [run(f"p{i}", "validation", 0.2, {"a": 0.6 + 0.01 * i}) for i in range(2)]
    parts += [run("k0", "validation", 0.5, {"a": 0.5}), run("k1", "validation", 0.5, {"a": 0.5}, tokens=50)]
    (found,) = compare([experiment(0.5)], records(*GRID, *parts), trainings=3)
    assert (found.runs, found.best_known_runs, found.planned) == (2, 1, 3)
    assert found.test is not None and found.test.degrees_of_freedom == 1


def test_a_best_known_mixture_whose_trainings_all_failed_leaves_hit_or_miss():
    data = records(*GRID, *(run(f"p{i}", "validation", 0.2, {"a": 0.6}) for i in range(2)))
    (found,) = compare([experiment(0.5)], data, trainings=2)
    assert found.verdict == "not compared"
    assert "no finished validation run of big over 100 tokens at x=0.5 y=0.5" in found.note
    assert (found.best_known_measured, found.regret, found.test) == (None, None, None)
    assert found.inside_interval and found.outcomes[0].hit
    # The row's key changes once the other side is there, so that it does not hide behind this one.
    later = records(
        *GRID, *(run(f"{n}{i}", "validation", x, {"a": 0.6}) for n, x in (("p", 0.2), ("k", 0.5)) for i in (0, 1))
    )
    assert compare([experiment(0.5)], later, trainings=2)[0].run_id != found.run_id


def test_a_size_that_was_never_sampled_leaves_hit_or_miss():
    data = records(GRID[2], run("v", "validation", 0.2, {"a": 0.6}))
    for held_against in (experiment(), experiment(0.3)):
        (found,) = compare([held_against], data)
        assert found.verdict == "not compared"
        assert "no finished sampling run of big over 100 tokens" in found.note
        assert found.inside_interval


@pytest.mark.parametrize("trainings", [1, 3])
def test_a_proposal_that_is_the_best_known_mixture_is_not_compared_with_itself(trainings):
    data = records(*GRID, *(run(f"v{i}", "validation", 0.2, {"a": 0.6}) for i in range(trainings)))
    (found,) = compare([experiment(0.2 + 1e-9)], data, trainings=trainings)
    assert (found.verdict, found.test, found.regret) == ("same mixture", None, 0)
    assert found.run_id.count("v") == trainings
    assert found.note == ""


def test_several_objectives_are_compared_each_with_its_own():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.62, "b": 0.5}))
    found = compare([experiment(0.5, objective="a"), experiment(0.0, objective="b")], data)
    assert [(c.proposal.objective, c.best_known_measured, c.verdict) for c in found] == [
        ("a", 0.55, "better"),
        ("b", 0.9, "worse"),
    ]


def test_the_predicted_difference_stands_beside_the_measured_one():
    said = Experiment(proposal=proposal(), best_known=mix(0.5), best_known_expected=around(0.57), written=5.0)
    (found,) = compare([said], records(*GRID, run("v", "validation", 0.2, {"a": 0.62})))
    assert found.expected_difference == pytest.approx(0.03)
    assert found.written == 5.0


def test_unknown_errors_allow_no_verdict_of_one_training_a_side():
    data = records(*GRID, run("v", "validation", 0.2, {"a": 0.9}, stderr=None))
    (found,) = compare([experiment()], data)
    assert found.measured_stderr is None
    assert found.test is None
    assert found.verdict == "not distinguishable"


def test_a_measured_zero_has_no_relative_error():
    (found,) = compare([experiment()], records(*GRID, run("v", "validation", 0.2, {"a": 0.0})))
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
    ],
)
def test_what_cannot_be_compared_is_said(parts, reason):
    data = records(*parts)
    assert compare([experiment()], data) == ()
    assert reason in not_compared([experiment()], data)[proposal().proposal_id]


def test_what_is_compared_has_no_reason():
    assert not_compared([experiment()], records(*GRID, run("v", "validation", 0.2, {"a": 0.6}))) == {}


def test_every_prediction_is_a_hit_or_a_miss():
    data = records(
        *GRID,
        run("v0", "validation", 0.2, {"a": 0.61, "b": 0.7}, losses={"d": 3.04}),
        run("v1", "validation", 0.2, {"a": 0.67, "b": 0.6}, losses={"d": 2.90, "other": 9.0}),
    )
    (found,) = compare([experiment(0.5, domains=("d", "unmeasured"))], data)
    said = [(o.kind, o.name, round(o.measured, 6), o.hit, o.inside, o.runs) for o in found.outcomes]
    assert said == [
        ("objective", "a", 0.64, True, 1, 2),
        ("performance", "b", 0.65, True, 1, 2),  # a mean at the very end of the interval still lies in it
        ("domain_loss", "d", 2.97, True, 1, 2),
    ]
    assert found.proposal.mixture == PROPOSED
