"""Records: one canonical order, views by checkpoint."""

from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, Records, Run, Task

RUNS = [
    Run(run_id=i, purpose=p, params=10, train_tokens=100, mixture=Mixture.of({"a": 1}))
    for i, p in (("r1", "sampling"), ("r2", "validation"))
]
ROWS = [
    Measurement(run_id=run, tokens=tokens, flops=tokens * 6.0, kind=kind, name=name, value=tokens / 7, stderr=0.1)
    for run in ("r1", "r2")
    for tokens in (50, 100)
    for kind, name in (("train_loss", "train"), ("domain_loss", "d"), ("performance", "t"), ("bpb", "t"))
]


@given(st.permutations(ROWS), st.permutations(RUNS))
def test_order_of_arrival_changes_nothing(rows, runs):
    assert Records(runs=tuple(runs), measurements=tuple(rows)) == Records(runs=tuple(RUNS), measurements=tuple(ROWS))


def test_views():
    records = Records(runs=tuple(RUNS), measurements=tuple(ROWS), tasks=(Task(task="t", random_performance=0.5),))
    assert [(c.run.run_id, c.tokens) for c in records.final_checkpoints()] == [("r1", 100), ("r2", 100)]
    final = records.final_checkpoints()[0]
    assert (final.train_loss, final.domain_loss, final.performance) == (100 / 7, {"d": 100 / 7}, {"t": 100 / 7})
    assert final.stderr["performance", "t"] == 0.1
    assert {m.run_id for m in records.of_purpose("sampling").measurements} == {"r1"}
    assert records.task("t").random_performance == 0.5
