from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.errors import RecordsError
from flp_ray.store import read_records

RUNS = """run_id,purpose,params,train_tokens,ratio.code,ratio.general,note
a,sampling,1000,20000,0.25,0.75,first
b,target,2000,40000,0.5,0.5,second
"""
MEASUREMENTS = """run_id,tokens,flops,kind,name,value
a,10000,6e7,domain_loss,code,3.5
a,20000,1.2e8,domain_loss,code,3.25
b,40000,4.8e8,performance,order,0.75
"""
TASKS = "task,random_performance\norder,0.5\n"


def folder_of(folder: Path, runs: str = RUNS, measurements: str = MEASUREMENTS, tasks: str | None = TASKS) -> Path:
    texts = {"runs": runs, "measurements": measurements, "tasks": tasks}
    for name, text in texts.items():
        if text is not None:
            (folder / f"{name}.csv").write_text(text)
    return folder


def test_reads_the_import_form(tmp_path: Path) -> None:
    records = read_records(folder_of(tmp_path))
    first, second = records.runs
    assert (first.run_id, first.purpose, first.params, first.train_tokens) == ("a", "sampling", 1000, 20000)
    assert first.mixture == Mixture.of({"code": 0.25, "general": 0.75})
    assert second.non_embedding_params is None
    assert [m.value for m in records.measurements] == [3.5, 3.25, 0.75]
    assert records.measurements[0].stderr is None
    assert records.task("order").random_performance == 0.5
    assert records.task("order").emergence_margin == 0.05
    assert [c.tokens for c in records.final_checkpoints()] == [20000, 40000]


def test_one_fixed_distribution_and_no_tasks(tmp_path: Path) -> None:
    runs = "run_id,purpose,params,train_tokens\na,sampling,1,2\nb,target,1,2\n"
    records = read_records(folder_of(tmp_path, runs, tasks=None))
    assert [run.mixture for run in records.runs] == [None, None]
    assert records.tasks == ()


def test_reads_parquet_in_whatever_types_its_writer_chose(tmp_path: Path) -> None:
    folder_of(tmp_path)
    expected = read_records(tmp_path)
    (tmp_path / "measurements.csv").unlink()
    rows = {
        "value": pa.array([3.5, 3.25, 0.75], pa.float32()),  # exact in 32 bits
        "name": pa.array(["code", "code", "order"]).dictionary_encode(),
        "kind": pa.array(["domain_loss", "domain_loss", "performance"], pa.large_string()),
        "flops": pa.array([60_000_000, 120_000_000, 480_000_000], pa.int64()),
        "tokens": pa.array([10000.0, 20000.0, 40000.0]),
        "run_id": ["a", "a", "b"],
        "stderr": pa.nulls(3),
    }
    pq.write_table(pa.table(rows), tmp_path / "measurements.parquet")
    assert read_records(tmp_path) == expected


def test_a_spreadsheets_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "runs.csv").write_text("\ufeff" + RUNS)
    assert read_records(tmp_path).runs[0].run_id == "a"


FAULTS = {
    "no purpose column": ("runs", "purpose,", "goal,", r"runs\.csv has no column purpose"),
    "column twice": ("runs", "note", "params", r"runs\.csv, line 1: the column params comes twice"),
    "unknown purpose": (
        "runs",
        "b,target",
        "b,fit",
        r"line 3, column purpose: received 'fit'; allowed: sampling",
    ),
    "params is text": (
        "runs",
        "a,sampling,1000",
        "a,sampling,1k",
        r"line 2, column params: invalid value '1k'",
    ),
    "params below zero": ("runs", "a,sampling,1000", "a,sampling,-5", r"line 2, column params: received -5"),
    "no tokens": (
        "runs",
        "2000,40000",
        "2000,",
        r"line 3, column train_tokens: received None; every row needs",
    ),
    "ratios above 1": (
        "runs",
        "0.5,0.5",
        "0.5,0.6",
        r"line 3, column ratio\.\*: Mixing ratios must sum to 1.*1\.1",
    ),
    "ratio is nan": ("runs", "0.5,0.5", "nan,0.5", r"line 3, column ratio\.code: received nan"),
    "run twice": (
        "runs",
        "b,target",
        "a,target",
        r"line 3, column run_id: run_id=a comes twice, first in line 2",
    ),
    "value is nan": ("measurements", "3.25", "nan", r"line 3, column value: received nan; only finite"),
    "value is missing": ("measurements", ",3.25", ",", r"line 3, column value: received None"),
    "value is text": ("measurements", "3.25", "n/a", r"line 3, column value: invalid value 'n/a'"),
    "too few fields": (
        "measurements",
        ",3.25",
        "",
        r"measurements\.csv cannot be read: .*Expected 6 columns",
    ),
    "percent": ("measurements", "0.75", "75", r"line 4, column value: received 75\.0; performance is 0 to 1"),
    "negative loss": ("measurements", "3.25", "-3.25", r"line 3, column value: received -3\.25; losses"),
    "unknown kind": ("measurements", "performance", "accuracy", r"line 4, column kind: received 'accuracy'"),
    "unknown run": (
        "measurements",
        "b,40000",
        "c,40000",
        r"line 4, column run_id: received 'c'; no such run in runs",
    ),
    "no flops": ("measurements", "1.2e8", "0", r"line 3, column flops: received 0\.0; must be above 0"),
    "measured twice": (
        "measurements",
        "a,20000",
        "a,10000",
        r"line 3, column name: run_id=a, tokens=10000.*line 2",
    ),
    "chance above 1": ("tasks", "0.5", "50", r"tasks\.csv, line 2, column random_performance: received 50"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_line_and_column(tmp_path: Path, fault: str) -> None:
    name, old, new, words = FAULTS[fault]
    text = {"runs": RUNS, "measurements": MEASUREMENTS, "tasks": TASKS}[name]
    assert old in text
    with pytest.raises(RecordsError, match=words):
        read_records(folder_of(tmp_path, **{name: text.replace(old, new, 1)}))


def test_missing_ambiguous_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"has no runs\.csv and no runs\.parquet"):
        read_records(tmp_path)
    folder_of(tmp_path)
    (tmp_path / "tasks.parquet").write_bytes(b"PAR1")
    with pytest.raises(RecordsError, match=r"both tasks\.csv and tasks\.parquet"):
        read_records(tmp_path)
    (tmp_path / "tasks.csv").unlink()
    with pytest.raises(RecordsError, match=r"tasks\.parquet cannot be read"):
        read_records(tmp_path)
    (tmp_path / "tasks.parquet").unlink()
    (tmp_path / "runs.csv").write_text("")
    with pytest.raises(RecordsError, match=r"runs\.csv cannot be read: Empty CSV file"):
        read_records(tmp_path)


def test_rows_of_parquet_files_count_from_one(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "tasks.csv").unlink()
    tasks = pa.table({"task": ["x", "y"], "random_performance": [0.5, None]})
    pq.write_table(tasks, tmp_path / "tasks.parquet")
    with pytest.raises(RecordsError, match=r"tasks\.parquet, row 2, column random_performance: received None"):
        read_records(tmp_path)
    pq.write_table(tasks.set_column(1, "random_performance", pa.array(["a", "b"])), tmp_path / "tasks.parquet")
    with pytest.raises(RecordsError, match=r"column random_performance: needs double, received string"):
        read_records(tmp_path)
