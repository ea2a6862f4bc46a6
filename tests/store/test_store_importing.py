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
        r"line 2, column params: invalid value '1k'; needs a whole number\.",
    ),
    "params is no whole number": ("runs", "a,sampling,1000", "a,sampling,1.5", r"line 2, column params: invalid value"),
    "params is 0": ("runs", "a,sampling,1000", "a,sampling,0", r"line 2, column params: received 0"),
    "ratio is infinite": ("runs", "0.5,0.5", "inf,0.5", r"line 3, column ratio\.code: received inf"),
    "ratio below 0": ("runs", "0.5,0.5", "-0.5,1.5", r"line 3, column ratio\.\*: Mixing ratios must lie in 0 to 1"),
    "params below zero": ("runs", "a,sampling,1000", "a,sampling,-5", r"line 2, column params: received -5"),
    "no tokens": (
        "runs",
        "2000,40000",
        "2000,",
        r"line 3, column train_tokens: received nothing; every row needs",
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
    "value is missing": ("measurements", ",3.25", ",", r"line 3, column value: received nothing"),
    "value is text": ("measurements", "3.25", "n/a", r"line 3, column value: invalid value 'n/a'"),
    "too few fields": (
        "measurements",
        ",3.25",
        "",
        r"measurements\.csv, line 3: Expected 6 columns, got 5",
    ),
    "percent": ("measurements", "0.75", "75", r"line 4, column value: received 75\.0; performance is 0 to 1"),
    "negative loss": ("measurements", "3.25", "-3.25", r"line 3, column value: received -3\.25; losses"),
    "loss of 0": ("measurements", "3.25", "0", r"line 3, column value: received 0\.0; losses and bits per byte are"),
    "value is NaN": ("measurements", "3.25", "NaN", r"line 3, column value: received nan; only finite"),
    "value is infinite": ("measurements", "3.25", "inf", r"line 3, column value: received inf; only finite"),
    "negative performance": ("measurements", "0.75", "-0.1", r"line 4, column value: received -0\.1; performance is"),
    "negative flops": ("measurements", "1.2e8", "-1.2e8", r"line 3, column flops: received -120000000\.0; must be"),
    "flops are nan": ("measurements", "1.2e8", "nan", r"line 3, column flops: received nan"),
    "tokens are nan": (
        "measurements",
        "a,20000",
        "a,nan",
        r"line 3, column tokens: invalid value 'nan'; needs a whole",
    ),
    "no tokens seen": ("measurements", "a,20000", "a,0", r"line 3, column tokens: received 0; must be above 0"),
    "no value column": ("measurements", ",value", ",score", r"measurements\.csv has no column value; it needs run_id"),
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
    with pytest.raises(RecordsError, match=r"tasks\.parquet, row 2, column random_performance: received nothing"):
        read_records(tmp_path)
    pq.write_table(tasks.set_column(1, "random_performance", pa.array(["a", "b"])), tmp_path / "tasks.parquet")
    with pytest.raises(RecordsError, match=r"row 1, column random_performance: received 'a' \(string\); needs"):
        read_records(tmp_path)


STDERRS = {
    "-0.1": r"line 3, column stderr: received -0\.1; must not be negative",
    "nan": r"line 3, column stderr: received nan; only finite numbers count",
    "inf": r"line 3, column stderr: received inf; only finite numbers count",
    "?": r"line 3, column stderr: invalid value '\?'; needs a number",
}


@pytest.mark.parametrize("stderr", STDERRS)
def test_a_standard_error_that_is_none(tmp_path: Path, stderr: str) -> None:
    measurements = f"""run_id,tokens,flops,kind,name,value,stderr
a,10000,6e7,domain_loss,code,3.5,
a,20000,1.2e8,domain_loss,code,3.25,{stderr}
"""
    with pytest.raises(RecordsError, match=STDERRS[stderr]):
        read_records(folder_of(tmp_path, measurements=measurements))


def test_a_checkpoint_may_have_seen_more_tokens_than_were_planned(tmp_path: Path) -> None:
    records = read_records(folder_of(tmp_path, measurements=MEASUREMENTS.replace("b,40000", "b,40001")))
    assert records.final_checkpoints()[1].tokens == 40001


def test_all_sampling_runs_have_ratios_or_none_has(tmp_path: Path) -> None:
    without = RUNS.replace("0.5,0.5", ",")
    assert read_records(folder_of(tmp_path, without)).runs[1].mixture is None  # a target
    words = r"runs\.csv, line 3, column ratio\.\*: sampling run b has no ratios, others have"
    with pytest.raises(RecordsError, match=words):
        read_records(folder_of(tmp_path, without.replace("target", "sampling")))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_quotes_line_ends_and_a_byte_order_mark(tmp_path: Path, line_end: str) -> None:
    plain = read_records(folder_of(tmp_path))
    for name, text in {"runs": RUNS, "measurements": MEASUREMENTS, "tasks": TASKS}.items():
        cells = [[f'"{cell}"' for cell in line.split(",")] for line in text.splitlines()]
        quoted = "".join(",".join(row) + line_end for row in cells)
        (tmp_path / f"{name}.csv").write_bytes(b"\xef\xbb\xbf" + quoted.encode())
    assert read_records(tmp_path) == plain


def test_a_line_is_the_files_own_whatever_comes_before_it(tmp_path: Path) -> None:
    runs = RUNS.replace("first", '"first\nof two"') + "\n\nc,target,-1,1,0,1,\n"
    with pytest.raises(RecordsError, match=r"line 7, column params: received -1"):
        read_records(folder_of(tmp_path, runs))
    with pytest.raises(RecordsError, match=r"line 7, column params: invalid value 'x'"):
        read_records(folder_of(tmp_path, runs.replace("-1", "x")))


def test_what_is_carried_along_may_hold_anything(tmp_path: Path) -> None:
    plain = read_records(folder_of(tmp_path))
    assert read_records(folder_of(tmp_path, RUNS.replace("note", "mixture").replace("first", "1"))) == plain


@pytest.mark.parametrize("before", [0, 10**6])
def test_a_file_that_is_not_in_utf_8(tmp_path: Path, before: int) -> None:
    text = folder_of(tmp_path) and RUNS.replace("first", " " * before + "\xe9")
    (tmp_path / "runs.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordsError, match=r"runs\.csv (is not in UTF-8|cannot be read)"):
        read_records(tmp_path)


PARQUET_FAULTS = {
    "nan": ("value", [1.0, float("nan")], r"row 2, column value: received nan; only finite"),
    "missing": ("value", [1.0, None], r"row 2, column value: received nothing"),
    "zero": ("value", [1.0, 0.0], r"row 2, column value: received 0\.0; losses"),
    "text": ("value", ["1.5", "n/a"], r"row 2, column value: received 'n/a' \(string\); needs a number"),
    "nan in a whole number": (
        "tokens",
        [10.0, float("nan")],
        r"row 2, column tokens: received nan \(double\); needs a",
    ),
    "half a token": ("tokens", [10.0, 20.5], r"row 2, column tokens: received 20\.5 \(double\); needs a whole"),
    "infinite": ("flops", [1.0, float("inf")], r"row 2, column flops: received inf; only finite"),
    "twice": ("tokens", [10, 10], r"row 2, column name: run_id=a, tokens=10, .* comes twice, first in row 1"),
    "unknown run": ("run_id", ["a", "z"], r"row 2, column run_id: received 'z'; no such run in runs\.csv"),
}


@pytest.mark.parametrize("fault", PARQUET_FAULTS)
def test_a_fault_in_parquet_is_named_with_file_row_and_column(tmp_path: Path, fault: str) -> None:
    column, values, words = PARQUET_FAULTS[fault]
    (folder_of(tmp_path) / "measurements.csv").unlink()
    rows = {
        "run_id": ["a", "a"],
        "tokens": [10, 20],
        "flops": [1.0, 2.0],
        "kind": ["domain_loss"] * 2,
        "name": ["code"] * 2,
        "value": [2.0, 1.0],
    }
    pq.write_table(pa.table(rows), tmp_path / "measurements.parquet")
    read_records(tmp_path)
    pq.write_table(pa.table(rows | {column: values}), tmp_path / "measurements.parquet")
    with pytest.raises(RecordsError, match=r"measurements\.parquet, " + words):
        read_records(tmp_path)


def test_a_column_that_comes_twice_in_parquet(tmp_path: Path) -> None:
    (folder_of(tmp_path) / "tasks.csv").unlink()
    twice = pa.table([pa.array(["x"]), pa.array([0.5]), pa.array([0.5])], names=["task"] + ["random_performance"] * 2)
    pq.write_table(twice, tmp_path / "tasks.parquet")
    with pytest.raises(RecordsError, match=r"tasks\.parquet: the column random_performance comes twice"):
        read_records(tmp_path)
