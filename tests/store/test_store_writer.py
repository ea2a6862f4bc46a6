from __future__ import annotations

import os
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from flp_ray.errors import ConflictError, RecordsError, StorageError
from flp_ray.store import (
    TABLES,
    AttemptEvent,
    FolderLock,
    TableWriter,
    attempt_row,
    load_records,
    read_table,
    table_version,
)
from flp_ray.store import delta as delta_module
from flp_ray.store import writer as writer_module
from flp_ray.store.place import TablePlace
from tests.store import store_appender
from tests.store.store_appender import ROWS, batch

TABLE = "measurements"


def start(what: str, folder: Path, *more: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*before, sys.executable, store_appender.__file__, what, str(folder), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def keys(folder: Path) -> Counter[tuple]:
    form = TABLES[TABLE]
    return Counter(tuple(row.values()) for row in read_table(folder, TABLE, form.key).to_pylist())


def log_of(folder: Path) -> Path:
    return folder / "tables" / TABLE / "_delta_log"


def append_until_killed(folder: Path, first: int, acknowledged: int, seconds: float) -> int:
    """Lets a process append, kills it, and returns the last acknowledged batch (first - 1: none).

    Args:
        folder: The study folder.
        first: Number of the first batch.
        acknowledged: How many acknowledged batches to wait for.
        seconds: How long to wait after them.
    """
    process = start("endless", folder, str(first))
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(1 + acknowledged)]
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    rest, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    numbers = "".join([*lines[1:], rest]).split()
    return int(numbers[-1]) if numbers else first - 1


def rows_of(batches: int) -> set[tuple]:
    """Keys of the first batches."""
    return {(f"run{i % 3}", 1 + i, "domain_loss", f"domain{k}") for i in range(batches) for k in range(ROWS)}


def test_a_writer_killed_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    kills = int(os.environ.get("FLP_RAY_STORE_KILLS", "6"))
    moments = random.Random()  # the moment is the system's anyway, so a seed would promise too much
    last = -1
    for kill in range(kills):
        # Every other one dies while it opens, loads its index or makes the table; the rest while they commit
        # or merge. Two acknowledged batches are sent again, and the one that may or may not have been stored.
        at = (moments.randrange(12), moments.uniform(0, 0.03)) if kill % 2 else (0, moments.uniform(0, 0.6))
        last = max(last, append_until_killed(tmp_path, max(0, last - 1), *at))
        stored = keys(tmp_path)
        assert set(stored.values()) <= {1}, at
        assert set(stored) in (rows_of(last + 1), rows_of(last + 2)), at
    with TableWriter(tmp_path) as writer:
        for i in range(last + 2):
            writer.append(TABLE, batch(i))
    by_key = [(column, "ascending") for column in TABLES[TABLE].key]
    sent = pa.concat_tables(batch(i) for i in range(last + 2))
    assert read_table(tmp_path, TABLE).sort_by(by_key) == sent.sort_by(by_key)


def test_one_writer_at_a_time_and_the_other_is_named(tmp_path: Path) -> None:
    holder = start("hold", tmp_path)
    assert holder.stdout is not None
    holder.stdout.readline()
    began = time.monotonic()
    with pytest.raises(StorageError, match=rf"in use by process {holder.pid} on .*since.*\(waited 0\.3 s\)"):
        TableWriter(tmp_path, wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert load_records(tmp_path).runs == ()  # readers need no lock
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with TableWriter(tmp_path, wait_seconds=5) as writer:  # a killed holder is gone at once
        assert writer.append(TABLE, batch(0)) == ROWS


def test_a_waiting_writer_gets_the_folder_once_it_is_free(tmp_path: Path) -> None:
    holder = start("hold", tmp_path)
    assert holder.stdout is not None
    holder.stdout.readline()
    waiting = start("endless", tmp_path, "0")
    assert waiting.stdout is not None
    waiting.stdout.readline()
    assert not select.select([waiting.stdout], [], [], 0.5)[0]
    holder.communicate(input="")
    assert waiting.stdout.readline() == "0\n"
    waiting.kill()
    waiting.communicate()


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        with pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
            TableWriter(tmp_path, wait_seconds=0)
        writer.append(TABLE, batch(0))
    with pytest.raises(StorageError, match=r"writer of .* is closed"):
        writer.append(TABLE, batch(1))
    writer.close()  # a second time does nothing


def test_a_lock_can_be_taken_again_after_its_release(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "locks", wait_seconds=0)
    lock.release()
    lock.release()
    FolderLock(tmp_path / "locks", wait_seconds=0).release()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written: Not a directory"):
        TableWriter(tmp_path / "file" / "study")


def can_mount() -> bool:
    tried = shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    return bool(tried) and tried.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs leave to mount a small file system (unshare -rm)")
def test_a_full_disk_loses_nothing_and_is_named(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=1m tmpfs {shlex.quote(str(tmp_path))}"
    process = start("fill_disk", tmp_path, before=("unshare", "-rm", "sh", "-c", mount + ' && exec "$@"', "sh"))
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    message, at_failure, after = out.splitlines()
    assert "could not be written" in message
    assert "No space left on device" in message
    assert "Rows stored before are intact" in message
    acknowledged, read = map(int, at_failure.split())
    assert acknowledged == read > 0
    assert after == f"500 {acknowledged + 500}"


def test_a_file_that_the_system_refuses_to_grow(tmp_path: Path) -> None:
    out, errors = start("limited_files", tmp_path).communicate()
    assert out, errors
    message, after = out.splitlines()
    assert "could not be written" in message
    assert "File too large" in message
    assert after == f"{ROWS} {2 * ROWS}"


def test_a_commit_whose_outcome_is_unknown_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit_then_stop(place: TablePlace, table: DeltaTable, version: int, rows: pa.Table) -> int:
        delta_module.commit(place, table, version, rows)
        raise KeyboardInterrupt

    with TableWriter(tmp_path) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "commit", commit_then_stop)
            with pytest.raises(KeyboardInterrupt):
                writer.append(TABLE, batch(0))
        assert writer.append(TABLE, batch(0)) == 0
    assert set(keys(tmp_path).values()) == {1}


def test_many_commits_are_merged_and_stay_the_same(tmp_path: Path) -> None:
    with TableWriter(tmp_path, compact_after_files=10) as writer:
        for i in range(95):
            writer.append(TABLE, batch(i))
            assert len(DeltaTable(tmp_path / "tables" / TABLE).file_uris()) < 10
        with pytest.raises(ConflictError):  # the index survives the merges
            writer.append(TABLE, batch(3).set_column(5, batch(3).schema.field("value"), pa.array([9.0] * ROWS)))
    assert keys(tmp_path) == Counter(rows_of(95))


def test_a_group_is_one_commit_a_table_and_an_error_is_its_own_batch_s_alone(tmp_path: Path) -> None:
    changed = batch(1).set_column(5, batch(1).schema.field("value"), pa.array([9.0] * ROWS))
    started = attempt_row(run_id="a", attempt=1, event="started", at=1.0)
    with TableWriter(tmp_path) as writer:
        writer.append(TABLE, batch(0))
        group = [(TABLE, batch(0)), (TABLE, batch(1)), ("attempts", started), (TABLE, changed), (TABLE, batch(2))]
        outcomes = writer.append_many([*group, (TABLE, batch(1)), (TABLE, started), ("losses", started)])
        assert outcomes[:3] + outcomes[4:6] == [0, ROWS, 1, ROWS, 0]
        conflict, form, unknown = outcomes[3], outcomes[6], outcomes[7]
        assert isinstance(conflict, ConflictError)
        assert "stored value=0.5; received value=9.0" in str(conflict)
        assert isinstance(form, RecordsError)
        assert isinstance(unknown, StorageError)
        assert table_version(tmp_path, TABLE) == 2
    assert keys(tmp_path) == Counter(rows_of(3))


def test_a_group_that_cannot_be_stored_says_so_of_each_batch_and_comes_once_when_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(place: TablePlace, table: DeltaTable, version: int, rows: pa.Table) -> int:
        raise OSError(28, "No space left on device")

    group = [(TABLE, batch(0)), (TABLE, batch(1))]
    with TableWriter(tmp_path) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "commit", no_room)
            assert [str(error).count("No space left") for error in writer.append_many(group)] == [1, 1]
        assert writer.append_many(group) == [ROWS, ROWS]
    assert set(keys(tmp_path).values()) == {1}


def test_what_the_writer_knows_of_runs_is_what_is_stored_also_after_a_restart(tmp_path: Path) -> None:
    def event(attempt: int, event: AttemptEvent) -> pa.Table:
        return attempt_row(run_id="run0", attempt=attempt, event=event, at=1.0)

    with TableWriter(tmp_path) as writer:
        assert (writer.attempts_of("run0"), writer.open_attempt("run0")) == (0, None)
        assert writer.recorded_checkpoints("run0") == set()
        for row in (event(1, "started"), event(1, "failed"), event(2, "started")):
            writer.append("attempts", row)
        for i in range(7):
            writer.append(TABLE, batch(i))
        assert (writer.attempts_of("run0"), writer.open_attempt("run0")) == (2, 2)
    with TableWriter(tmp_path) as writer:
        assert (writer.attempts_of("run0"), writer.open_attempt("run0")) == (2, 2)
        assert (writer.attempts_of("run1"), writer.open_attempt("run1")) == (0, None)
        assert writer.recorded_checkpoints("run0") == {1, 4, 7}
        writer.append("attempts", event(2, "finished"))
        writer.append(TABLE, batch(9))
        assert (writer.attempts_of("run0"), writer.open_attempt("run0")) == (2, None)
        assert writer.recorded_checkpoints("run0") == {1, 4, 7, 10}


def test_a_version_that_another_process_has_made_is_not_replaced(tmp_path: Path) -> None:
    # Where locks do not hold, as on some network disks, the commit itself refuses.
    with TableWriter(tmp_path) as writer:
        writer.append(TABLE, batch(0))
        other = DeltaTable(tmp_path / "tables" / TABLE)
        write_deltalake(other, batch(1), mode="append")
        with pytest.raises(StorageError, match=r"another process has written to it meanwhile.*End that process"):
            writer.append(TABLE, batch(2))
        assert writer.append_many([(TABLE, batch(1)), (TABLE, batch(2))]) == [0, ROWS]
    assert keys(tmp_path) == Counter(rows_of(3))


def test_a_table_of_an_earlier_version_gains_the_columns_it_lacks(tmp_path: Path) -> None:
    path, added = tmp_path / "tables" / "attempts", ["mfu", "micro_batch_sequences", "workers", "zero_stage"]
    old = attempt_row(run_id="a", attempt=1, event="started", at=1.0).drop_columns(added)
    DeltaTable.create(path, schema=old.schema, description="flp_ray schema 1")
    write_deltalake(path, old, mode="append")
    (row,) = read_table(tmp_path, "attempts").to_pylist()
    assert [row[name] for name in ("run_id", *added)] == ["a", None, None, None, None]
    new = attempt_row(
        run_id="a", attempt=1, event="finished", at=2.0, mfu=0.4, micro_batch_sequences=8, workers=2, zero_stage=1
    )
    with TableWriter(tmp_path) as writer:
        assert writer.append("attempts", old) == 0
        assert writer.append("attempts", new) == 1
    rows = {row["event"]: row for row in read_table(tmp_path, "attempts").to_pylist()}
    assert rows["finished"] == new.to_pylist()[0]
    assert rows["started"]["mfu"] is None


def test_a_reader_of_an_older_version_finishes_while_files_are_merged(tmp_path: Path) -> None:
    with TableWriter(tmp_path, compact_after_files=5) as writer:
        for i in range(3):
            writer.append(TABLE, batch(i))
        opened = DeltaTable(tmp_path / "tables" / TABLE).to_pyarrow_dataset()
        for i in range(3, 12):
            writer.append(TABLE, batch(i))
        assert opened.to_table().num_rows == 3 * ROWS


def test_the_log_is_shortened_once_it_is_a_minute_old(tmp_path: Path) -> None:
    with TableWriter(tmp_path, compact_after_files=5) as writer:
        for i in range(20):
            writer.append(TABLE, batch(i))
        for file in log_of(tmp_path).glob("0*"):
            os.utime(file, (time.time() - 100,) * 2)
        before = len(list(log_of(tmp_path).glob("*.json")))
        for i in range(20, 26):
            writer.append(TABLE, batch(i))
        assert len(list(log_of(tmp_path).glob("*.json"))) < before
    assert read_table(tmp_path, TABLE).num_rows == 26 * ROWS
    with TableWriter(tmp_path) as writer:
        assert writer.append(TABLE, batch(25)) == 0


def test_a_merge_that_fails_does_not_fail_the_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(place: TablePlace, table: DeltaTable, version: int, *, sweep: bool) -> int:
        raise OSError(28, "No space left on device")

    with TableWriter(tmp_path, compact_after_files=3) as writer:
        monkeypatch.setattr(writer_module, "compact", no_room)
        assert [writer.append(TABLE, batch(i)) for i in range(4)] == [ROWS] * 4
        assert "were not merged" in caplog.text
        monkeypatch.undo()
        writer.append(TABLE, batch(4))
        assert len(DeltaTable(tmp_path / "tables" / TABLE).file_uris()) == 1
    assert set(keys(tmp_path).values()) == {1}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    with TableWriter(tmp_path) as writer:
        for i in range(3):
            writer.append(TABLE, batch(i))
    return tmp_path


def refused(folder: Path, words: str) -> None:
    """Reading and writing both say what is wrong, and change nothing."""
    files = {path: path.read_bytes() for path in folder.rglob("*.json")}
    with pytest.raises(StorageError, match=words):
        read_table(folder, TABLE)
    with TableWriter(folder) as writer, pytest.raises(StorageError, match=words):
        writer.append(TABLE, batch(7))
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == files


def test_a_cut_off_data_file(written: Path) -> None:
    data = next((written / "tables" / TABLE).glob("*.parquet"))
    data.write_bytes(data.read_bytes()[:200])
    refused(written, f"{TABLE} cannot be read: .*Parquet.*start again in another study folder")


def test_a_missing_data_file(written: Path) -> None:
    next((written / "tables" / TABLE).glob("*.parquet")).unlink()
    refused(written, f"{TABLE} cannot be read: .*parquet.*No such file")


@pytest.mark.parametrize("text", ["{garbage", "", "\0" * 40], ids=["garbage", "empty", "zeros"])
def test_a_damaged_last_commit(written: Path, text: str) -> None:
    sorted(log_of(written).glob("*.json"))[-1].write_text(text)
    refused(written, f"{TABLE} cannot be read: ")


def test_a_missing_commit(written: Path) -> None:
    sorted(log_of(written).glob("*.json"))[1].unlink()
    refused(written, f"{TABLE} cannot be read: ")


def test_a_missing_log(written: Path) -> None:
    shutil.rmtree(log_of(written))
    refused(written, f"{TABLE} cannot be read: its log is missing")


def test_a_table_whose_maker_was_killed_before_its_first_commit(tmp_path: Path) -> None:
    log_of(tmp_path).mkdir(parents=True)
    assert read_table(tmp_path, TABLE).num_rows == 0
    with TableWriter(tmp_path) as writer:
        assert writer.append(TABLE, batch(0)) == ROWS


@pytest.mark.parametrize("description", ["flp_ray schema 99", None])
def test_a_table_of_another_schema_version(tmp_path: Path, description: str | None) -> None:
    path = tmp_path / "tables" / TABLE
    DeltaTable.create(path, schema=TABLES[TABLE].schema, description=description)
    refused(tmp_path, f"{description or 'an unknown schema'}.*reads 'flp_ray schema 1'")
