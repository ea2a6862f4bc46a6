from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.core.prediction import Comparison
from flp_ray.core.records import Measurement, Records, Run, Task
from flp_ray.errors import StorageError
from flp_ray.store import (
    TABLES,
    TableWriter,
    attempt_row,
    comparison_rows,
    experiment_rows,
    finished_runs,
    first_starts,
    fit_row,
    load_comparisons,
    load_experiments,
    load_fits,
    load_proposals,
    load_records,
    load_specs,
    load_stages,
    measurement_rows,
    proposal_rows,
    read_table,
    recorded_checkpoints,
    run_rows,
    run_states,
    stage_row,
    table_version,
    task_rows,
)
from flp_ray.store.rows import comparison_from_dict
from tests.store.store_samples import SPEC, comparisons, experiments, key, measurements, proposals, specs, tasks

LOSS = Measurement(run_id=SPEC.run_id, tokens=80, flops=SPEC.flops_at(80), kind="domain_loss", name="code", value=2.0)


def test_an_empty_study_has_empty_tables(tmp_path: Path) -> None:
    for name, form in TABLES.items():
        rows = read_table(tmp_path / "missing", name)
        assert rows.num_rows == 0
        assert rows.schema == form.schema
        assert table_version(tmp_path / "missing", name) == 0
    assert load_records(tmp_path) == Records(runs=(), measurements=())
    assert load_specs(tmp_path) == ()
    assert finished_runs(tmp_path) == set()
    assert run_states(tmp_path) == ()
    assert not (tmp_path / "missing").exists()  # reading makes nothing


@settings(max_examples=10, deadline=None)
@given(
    data=st.data(),
    planned=st.lists(specs, min_size=1, max_size=4, unique_by=lambda s: s.run_id),
    described=st.lists(tasks, max_size=3, unique_by=lambda t: t.task),
)
def test_values_come_back_from_the_tables_as_they_were(data: st.DataObject, planned: list, described: list) -> None:
    ids = st.sampled_from([s.run_id for s in planned])
    measured = data.draw(st.lists(measurements(ids), max_size=6, unique_by=key))
    with tempfile.TemporaryDirectory() as folder:
        with TableWriter(folder) as writer:
            writer.append("runs", run_rows(planned))
            writer.append("tasks", task_rows(described, recorded=0))
            writer.append("measurements", measurement_rows(measured))
        records, read_specs = load_records(folder), load_specs(folder)
        sampling = load_records(folder, ["sampling"])
    assert read_specs == tuple(sorted(planned, key=lambda s: s.run_id))
    expected = Records(
        runs=tuple(
            Run(
                run_id=s.run_id,
                purpose=s.purpose,
                params=s.params,
                train_tokens=s.train_tokens,
                mixture=s.mixture,
                non_embedding_params=s.shape.non_embedding_params,
                size=s.size,
            )
            for s in planned
            if s.run_id in {m.run_id for m in measured}
        ),
        measurements=tuple(measured),
        tasks=tuple(described),
    )
    assert records == expected
    assert sampling == expected.of_purpose("sampling")


@settings(max_examples=8, deadline=None)
@given(
    proposed=st.lists(proposals, max_size=3, unique_by=lambda p: p.proposal_id),
    compared=st.lists(comparisons, max_size=3, unique_by=lambda c: (c.proposal.proposal_id, c.run_id)),
)
def test_proposals_and_comparisons_come_back_as_they_were(proposed: list, compared: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with TableWriter(folder) as writer:
            writer.append("proposals", proposal_rows(proposed))
            writer.append("comparisons", comparison_rows(compared))
        assert load_proposals(folder) == tuple(sorted(proposed, key=lambda p: (p.objective, p.proposal_id)))
        assert {p.proposal_id for p in load_proposals(folder, "f1")} == {
            p.proposal_id for p in proposed if p.fit_id == "f1"
        }
        by_key = sorted(compared, key=lambda c: (c.proposal.proposal_id, c.run_id))
        assert load_comparisons(folder) == tuple(by_key)


@settings(max_examples=8, deadline=None)
@given(settled=st.lists(experiments, max_size=3, unique_by=lambda e: e.proposal.proposal_id))
def test_experiments_come_back_with_the_time_when_they_were_written_first(settled: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with TableWriter(folder) as writer:
            assert writer.append("experiments", experiment_rows(settled, written=5.25)) == len(settled)
            assert writer.append("experiments", experiment_rows(settled, written=99.0)) == 0
        expected = sorted((replace(e, written=5.25) for e in settled), key=lambda e: e.proposal.proposal_id)
        assert load_experiments(folder) == tuple(expected)


@settings(max_examples=4, deadline=None)
@given(compared=comparisons)
def test_comparisons_of_the_first_version_are_read(compared: Comparison) -> None:
    (row,) = comparison_rows([compared]).to_pylist()
    value = json.loads(row["payload"])
    earlier = {"best_known": "grid_mixture", "best_known_measured": "grid_measured", "best_known_stderr": "grid_stderr"}
    kept = [
        "proposal",
        "run_id",
        "measured",
        "measured_stderr",
        "relative_error",
        "inside_interval",
        "regret",
        "verdict",
    ]
    old = {name: value[name] for name in kept} | {there: value[here] for here, there in earlier.items()}
    read = comparison_from_dict(old)
    assert (read.best_known, read.best_known_measured) == (compared.best_known, compared.best_known_measured)
    assert (read.verdict, read.test, read.outcomes, read.written) == (compared.verdict, None, (), None)


def test_the_first_start_of_each_run_counts(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        for attempt, at in ((1, 20.5), (2, 10.0)):  # clocks of two machines
            writer.append("attempts", attempt_row(run_id="a", attempt=attempt, event="started", at=at))
        writer.append("attempts", attempt_row(run_id="b", attempt=1, event="failed", at=1.0, reason="x"))
    assert first_starts(tmp_path) == {"a": 10.0}


def test_fits_come_back_oldest_first(tmp_path: Path) -> None:
    payload = {"parameters": {"a": 0.1 + 0.2, "b": -1e-300}, "members": [[1, 2.5], []]}
    with TableWriter(tmp_path) as writer:
        writer.append("fits", fit_row(fit_id="b", method="flp", observations=3, payload={}, created=2.0))
        writer.append("fits", fit_row(fit_id="c", method="flp-m", observations=5, payload=payload, created=1.0))
    newest = load_fits(tmp_path)[-1]
    assert [fit.fit_id for fit in load_fits(tmp_path)] == ["c", "b"]
    assert newest.created.timestamp() == 2.0
    assert load_fits(tmp_path)[0].payload == payload


def test_stages_come_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        writer.append("stages", stage_row(session="s", stage="train", seconds=2.5, started=9.0))
        writer.append("stages", stage_row(session="s", stage="plan", seconds=0.5, started=8.0))
    assert load_stages(tmp_path) == (("plan", 0.5), ("train", 2.5))


def test_reads_chosen_columns_and_rows(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        writer.append("measurements", measurement_rows([LOSS, replace(LOSS, tokens=160, value=1.5)]))
        writer.append("measurements", measurement_rows([replace(LOSS, run_id="other", tokens=240)]))
    rows = read_table(tmp_path, "measurements", ["value"], pc.field("tokens") > 80)
    assert sorted(rows.to_pydict()["value"]) == [1.5, 2.0]
    assert rows.schema.names == ["value"]
    assert recorded_checkpoints(tmp_path, SPEC.run_id) == {80, 160}
    assert recorded_checkpoints(tmp_path, "nobody") == set()
    assert table_version(tmp_path, "measurements") == 2
    with pytest.raises(StorageError, match=r"no column 'speed'.*stderr"):
        read_table(tmp_path, "measurements", ["speed"])


def test_measurements_of_a_run_that_is_not_planned_are_left_out(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        writer.append("measurements", measurement_rows([LOSS]))
        assert load_records(tmp_path).measurements == ()
        writer.append("runs", run_rows([SPEC]))
        writer.append("tasks", task_rows([Task(task="order", random_performance=0.5)], recorded=0))
    assert load_records(tmp_path).measurements == (LOSS,)


def test_a_run_planned_for_another_purpose_later_is_the_same_run(tmp_path: Path) -> None:
    # A target of yesterday may join the grid today; what a run serves now is the plan's to say.
    with TableWriter(tmp_path) as writer:
        assert writer.append("runs", run_rows([SPEC])) == 1
        assert writer.append("runs", run_rows([replace(SPEC, purpose="validation")])) == 0
    assert [spec.purpose for spec in load_specs(tmp_path)] == ["sampling"]


def test_run_states_follow_the_attempts(tmp_path: Path) -> None:
    planned, retried, killed, broken = (replace(SPEC, seed=seed) for seed in range(4))

    def event(spec, attempt, event, at, **other):
        return attempt_row(run_id=spec.run_id, attempt=attempt, event=event, at=at, **other)

    with TableWriter(tmp_path) as writer:
        writer.append("runs", run_rows([planned, retried, killed, broken]))
        # The order of arrival does not count, only the attempt's number and the event.
        writer.append("attempts", event(retried, 2, "finished", 40.0, train_seconds=7.0, peak_bytes=5, node="b"))
        writer.append("attempts", event(retried, 1, "started", 10.0, node="a"))
        writer.append("attempts", event(retried, 1, "failed", 20.0, reason="out of memory", train_seconds=3.0))
        writer.append("attempts", event(retried, 2, "started", 30.0, tokens_per_second=9.0, mfu=0.25))
        writer.append("attempts", event(killed, 1, "started", 10.0))
        writer.append("attempts", event(broken, 1, "started", 10.0))
        writer.append("attempts", event(broken, 1, "failed", 11.0, reason="loss is nan", peak_bytes=9))
    states = {state.run_id: state for state in run_states(tmp_path)}
    assert {
        name: states[spec.run_id].state for name, spec in zip("prkb", (planned, retried, killed, broken), strict=True)
    } == {
        "p": "planned",
        "r": "finished",
        "k": "started",
        "b": "failed",
    }
    done = states[retried.run_id]
    assert (done.attempts, done.reason, done.train_seconds, done.measure_seconds) == (2, None, 10.0, None)
    assert (done.tokens_per_second, done.peak_bytes, done.node, done.at.timestamp()) == (9.0, 5, "b", 40.0)
    assert done.mfu == 0.25
    assert done.mixture == {"code": 0.25, "general": 0.75}
    assert states[broken.run_id].reason == "loss is nan"
    assert states[planned.run_id].attempts == 0
    assert states[planned.run_id].at is None
    assert finished_runs(tmp_path) == {retried.run_id}
    assert list(states) == sorted(states)


def test_what_is_remembered_of_a_study_follows_its_tables(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        for seed, event in enumerate(("started", "finished")):
            writer.append("runs", run_rows([replace(SPEC, seed=seed)]))
            assert len(load_specs(tmp_path)) == len(run_states(tmp_path)) == seed + 1
            writer.append("attempts", attempt_row(run_id=SPEC.run_id, attempt=1, event=event, at=1.0))
            assert {s.run_id: s.state for s in run_states(tmp_path)}[SPEC.run_id] == event


def test_runs_of_another_version_are_refused_with_words(tmp_path: Path) -> None:
    rows = run_rows([SPEC])
    spec = json.loads(rows["spec"][0].as_py()) | {"momentum": 1}
    position = rows.schema.get_field_index("spec")
    rows = rows.set_column(position, rows.schema.field("spec"), [[json.dumps(spec)]])
    with TableWriter(tmp_path) as writer:
        writer.append("runs", rows)
    with pytest.raises(StorageError, match=f"Run {SPEC.run_id} .*another version of flp_ray.*momentum"):
        load_specs(tmp_path)


def test_reading_leaves_nothing_that_aborts_the_interpreter_at_its_end(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        for seed in range(8):  # a file each
            writer.append("runs", run_rows([replace(SPEC, seed=seed)]))
    code = f"from flp_ray.store import read_table; assert read_table({str(tmp_path)!r}, 'runs').num_rows == 8"
    # With deltalake's own file system one in five died at exit (SIGABRT).
    readers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(16)]
    assert [reader.wait() for reader in readers] == [0] * 16
