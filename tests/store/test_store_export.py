from __future__ import annotations

import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, Task
from flp_ray.errors import StorageError
from flp_ray.store import (
    TableWriter,
    export_records,
    load_records,
    measurement_rows,
    read_records,
    run_rows,
    task_rows,
)
from tests.store.store_samples import SPEC, key, measurements, specs, tasks

FORMS = ["csv", "parquet"]


def fill(folder: Path, planned: list, described: list, batches: list) -> None:
    with TableWriter(folder) as writer:
        writer.append("runs", run_rows(planned))
        writer.append("tasks", task_rows(described, recorded=0))
        for batch in batches:
            writer.append("measurements", measurement_rows(batch))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8, deadline=None)
@given(
    data=st.data(),
    planned=st.lists(specs, min_size=1, max_size=3, unique_by=lambda s: s.run_id),
    described=st.lists(tasks, max_size=3, unique_by=lambda t: t.task),
)
def test_what_is_exported_reads_back_whatever_the_order_of_arrival(
    form: str, data: st.DataObject, planned: list, described: list
) -> None:
    ids = st.sampled_from([s.run_id for s in planned])
    measured = data.draw(st.lists(measurements(ids), max_size=6, unique_by=key))
    reordered = data.draw(st.permutations(measured))
    with tempfile.TemporaryDirectory() as temporary:
        one, other = Path(temporary, "one"), Path(temporary, "other")
        fill(one, planned, described, [measured])
        fill(other, planned[::-1], described[::-1], [[m] for m in reordered])
        for study in (one, other):
            export_records(study, study / "out", form=form)
        assert contents(one / "out") == contents(other / "out")
        assert read_records(one / "out") == load_records(one)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    only_code = replace(SPEC, seed=1, mixture=Mixture.of({"code": 0.1, "general": 0.9}), purpose="validation")
    unmeasured = replace(SPEC, seed=2)
    loss = Measurement(run_id=SPEC.run_id, tokens=160, flops=1e16, kind="domain_loss", name="code", value=0.1 + 0.2)
    measured = [
        loss,
        replace(loss, tokens=80, stderr=0.01, items=128),
        replace(loss, run_id=only_code.run_id, kind="performance", name="order", value=1 / 3),
    ]
    described = [Task(task="order", random_performance=0.5)]
    fill(tmp_path / "study", [SPEC, only_code, unmeasured], described, [measured])
    return tmp_path / "study"


def test_csv_has_the_columns_of_the_import_form_and_exact_floats(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert export_records(study, out, form="csv") == {"runs": 2, "tasks": 1, "measurements": 3}
    assert sorted(contents(out)) == ["measurements.csv", "runs.csv", "tasks.csv"]
    runs = list(csv.DictReader((out / "runs.csv").read_text().splitlines()))
    assert list(runs[0]) == [
        *(
            "run_id",
            "purpose",
            "params",
            "non_embedding_params",
            "train_tokens",
            "ratio.code",
            "ratio.general",
        ),
        *("size", "flops", "learning_rate", "batch_sequences", "sequence_length", "seed"),
    ]
    by_id = {run["run_id"]: run for run in runs}
    assert by_id[SPEC.run_id]["ratio.code"] == "0.25"
    assert by_id[SPEC.run_id]["learning_rate"] == "0.001"
    assert [run["run_id"] for run in runs] == sorted(by_id)  # and the run without a measurement is left out
    lines = (out / "measurements.csv").read_text().splitlines()
    assert lines[0] == "run_id,tokens,flops,kind,name,value,stderr,items"
    earlier = lines.index(f"{SPEC.run_id},80,1e+16,domain_loss,code,0.30000000000000004,0.01,128")
    later = lines.index(f"{SPEC.run_id},160,1e+16,domain_loss,code,0.30000000000000004,,")
    assert earlier + 1 == later  # by tokens, though the later one arrived first
    assert (out / "tasks.csv").read_text() == "task,random_performance,emergence_margin\norder,0.5,0.05\n"


@pytest.mark.parametrize("form", FORMS)
def test_a_new_export_replaces_an_older_one(study: Path, tmp_path: Path, form: str) -> None:
    export_records(study, tmp_path / "out", form=form)
    first = contents(tmp_path / "out")
    (tmp_path / "out" / f"runs.{form}").write_text("old")
    (tmp_path / "out" / f"runs.{form}.partial").write_text("left by a killed export")
    export_records(study, tmp_path / "out", form=form)
    assert contents(tmp_path / "out") == first


def test_a_folder_with_other_files_is_left_alone(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_records(study, out, form="csv")
    before = contents(out)
    with pytest.raises(StorageError, match=r"holds files that are not part of this export: measurements\.csv"):
        export_records(study, out, form="parquet")
    assert contents(out) == before
    (out / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"notes\.txt.*Give an empty or a new folder"):
        export_records(study, out, form="csv")


def test_a_place_that_cannot_be_written(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        export_records(study, tmp_path / "file", form="csv")


def test_an_empty_study_exports_empty_tables(tmp_path: Path) -> None:
    assert export_records(tmp_path / "study", tmp_path / "out", form="csv") == {
        "runs": 0,
        "tasks": 0,
        "measurements": 0,
    }
    assert read_records(tmp_path / "out").runs == ()
