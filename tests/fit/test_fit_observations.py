from dataclasses import replace

import numpy as np
import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, Records, Run, Task
from flp_ray.errors import ConfigError, NotEnoughDataError, RecordsError
from flp_ray.fit.observations import SINGLE_SOURCE, improving, observe, ratio_rows, sparse_domains


def run(name, mixture=None, purpose="sampling"):
    return Run(run_id=name, purpose=purpose, params=10, train_tokens=100, mixture=mixture)


def row(run_id, tokens, kind, value, name="d", stderr=None):
    return Measurement(
        run_id=run_id, tokens=tokens, flops=tokens * 10.0, kind=kind, name=name, value=value, stderr=stderr
    )


def curve(run_id, train_losses, domain_losses, scores):
    rows = []
    for i, (train, domain, score) in enumerate(zip(train_losses, domain_losses, scores, strict=True)):
        tokens = (i + 1) * 10
        rows += [row(run_id, tokens, "domain_loss", domain), row(run_id, tokens, "performance", score, "t")]
        if train is not None:
            rows.append(row(run_id, tokens, "train_loss", train, "train"))
    return rows


def test_only_checkpoints_with_a_better_rounded_training_loss_are_kept():
    records = Records(
        runs=(run("a"),), measurements=tuple(curve("a", [3.0, 2.996, 2.99, 3.4, 2.5], [3.0] * 5, [0.5] * 5))
    )
    assert [c.tokens for c in improving(records.checkpoints())] == [10, 30, 50]


def test_checkpoints_without_a_training_loss_are_kept():
    records = Records(runs=(run("a"),), measurements=tuple(curve("a", [None, None], [3.0, 3.0], [0.5, 0.5])))
    assert len(improving(records.checkpoints())) == 2


def test_a_final_checkpoint_counts_for_stage_1_though_it_did_not_improve():
    records = Records(
        runs=(run("a"),), measurements=tuple(curve("a", [3.0, 2.0, 2.5], [3.1, 2.1, 2.2], [0.1, 0.2, 0.3]))
    )
    observations = observe(records)
    assert observations.losses.tolist() == [[2.2]]
    assert observations.point_losses[:, 0].tolist() == [3.1, 2.1]


def test_rows_after_the_last_measured_checkpoint_do_not_make_it_final():
    rows = [*curve("a", [3.0], [3.1], [0.2]), row("a", 20, "train_loss", 2.9, "train")]
    assert observe(Records(runs=(run("a"),), measurements=tuple(rows))).flops.tolist() == [100.0]


@pytest.mark.parametrize(("score", "counts"), [(0.3, True), (0.2999, False), (0.31, True)])
def test_emerged_is_chance_plus_margin_or_more(score, counts):
    records = Records(
        runs=(run("a"),),
        measurements=tuple(curve("a", [3.0], [3.0], [score])),
        tasks=(Task(task="t", random_performance=0.25),),
    )
    assert observe(records).emerged_points(0).tolist() == [counts]


def test_a_checkpoint_that_lacks_a_domain_does_not_count():
    rows = [*curve("a", [3.0, 2.0], [3.0, 2.0], [0.9, 0.9]), row("a", 20, "domain_loss", 2.0, "e")]
    assert observe(Records(runs=(run("a"),), measurements=tuple(rows))).emerged_points(0).tolist() == [False, True]


@pytest.mark.parametrize(("having", "domains"), [(7, ("d",)), (8, ("d", "e"))])
def test_a_domain_that_a_study_gained_late_costs_no_earlier_run(having, domains):
    names = [f"r{i}" for i in range(10)]
    rows = [r for name in names for r in curve(name, [3.0, 2.0], [3.0, 2.0], [0.9, 0.9])]
    rows += [row(name, tokens, "domain_loss", 2.0, "e") for name in names[:having] for tokens in (10, 20)]
    records = Records(runs=tuple(run(name) for name in names), measurements=tuple(rows))
    observations = observe(records)
    assert observations.domains == domains
    assert observations.emerged_points(0).sum() == 2 * (10 if domains == ("d",) else having)
    reasons = sparse_domains(records)
    assert set(reasons) == {"d", "e"} - set(domains)
    assert all("7 of 10 sampling runs have its loss, 8 would be needed" in reason for reason in reasons.values())


def test_where_every_domain_is_rare_the_least_rare_stays():
    rows = [row("a", 10, "domain_loss", 2.0, "d"), row("b", 10, "domain_loss", 2.0, "e")]
    records = Records(runs=(run("a"), run("b")), measurements=tuple(rows))
    assert observe(records).domains == ("d", "e")


def test_runs_without_a_mixture_share_one_source():
    records = Records(runs=(run("a"),), measurements=tuple(curve("a", [3.0], [3.0], [0.5])))
    assert observe(records).sources == (SINGLE_SOURCE,)


def test_a_run_without_a_mixture_among_others_is_refused():
    records = Records(
        runs=(run("a", Mixture.of({"x": 1.0})), run("b")),
        measurements=tuple(curve("a", [3.0], [3.0], [0.5]) + curve("b", [3.0], [3.0], [0.5])),
    )
    with pytest.raises(RecordsError, match="the first: b"):
        observe(records)


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        ("domain_loss", -1.0, "nats per token"),
        ("domain_loss", float("nan"), "finite"),
        ("performance", 43.0, "fraction, 0 to 1"),
        ("train_loss", 0.0, "nats per token"),
    ],
)
def test_impossible_values_are_refused_by_run_and_tokens(kind, value, allowed):
    records = Records(runs=(run("a"),), measurements=(row("a", 10, kind, value, "d"), row("a", 20, "domain_loss", 1.0)))
    with pytest.raises(RecordsError, match=f"Run a at 10 tokens.*{allowed}"):
        observe(records)


def test_no_domain_loss_at_all_is_refused():
    records = Records(runs=(run("a"),), measurements=(row("a", 10, "performance", 0.5, "t"),))
    with pytest.raises(NotEnoughDataError, match="of 1 sampling runs none has a domain loss"):
        observe(records)


def test_runs_of_other_purposes_do_not_pass(records):
    other = tuple(replace(r, purpose="validation") for r in records.runs[:3])
    mixed = replace(records, runs=other + records.runs[3:])
    assert observe(mixed).run_ids == tuple(r.run_id for r in records.runs[3:])


def test_a_mixture_of_an_unknown_source_is_refused():
    with pytest.raises(ConfigError, match="no source 'c'"):
        ratio_rows([Mixture.of({"a": 0.5, "c": 0.5})], ("a", "b"))
    assert np.array_equal(ratio_rows([Mixture.of({"a": 1.0})], ("a", "b")), [[1.0, 0.0]])
