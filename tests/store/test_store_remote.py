from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.table import TableOptimizer

from flp_ray.errors import ConflictError, StorageError
from flp_ray.store import (
    TableWriter,
    files_at,
    final_losses,
    has_tables,
    mount,
    read_table,
    storage_uri,
    table_version,
)
from tests.store.store_appender import ROWS, batch

TABLE = "measurements"


@pytest.fixture
def mirrors(s3_address: str, tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two machines that mirror one study."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        mount(folder, s3_address)
    return here, there


def changed(i: int) -> pa.Table:
    """A batch with other values."""
    return batch(i).set_column(5, batch(i).schema.field("value"), pa.array([9.0] * ROWS))


def test_a_folder_mirrors_one_address_for_good(tmp_path: Path) -> None:
    assert storage_uri(tmp_path) is None
    mount(tmp_path / "mirror", "s3://bucket/study/")
    mount(tmp_path / "mirror", "s3://bucket/study")
    assert storage_uri(tmp_path / "mirror") == "s3://bucket/study"
    assert [path.name for path in (tmp_path / "mirror").iterdir()] == ["storage.json"]
    with pytest.raises(StorageError, match=r"mirrors s3://bucket/study, received gs://bucket/study"):
        mount(tmp_path / "mirror", "gs://bucket/study")
    for wrong in ("bucket/study", "http://bucket/study", "s3:///study", "s3://bucket/study?x=1"):
        with pytest.raises(StorageError, match="is no address of an object store"):
            mount(tmp_path / "other", wrong)
    (tmp_path / "mirror" / "storage.json").write_text("{}")
    with pytest.raises(StorageError, match="does not say where the study lives"):
        storage_uri(tmp_path / "mirror")


def test_a_folder_with_a_study_of_its_own_is_no_mirror(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        writer.append(TABLE, batch(0))
    with pytest.raises(StorageError, match="holds a study of its own"):
        mount(tmp_path, "s3://bucket/study")
    assert read_table(tmp_path, TABLE).num_rows == ROWS


def test_files_come_back_as_they_were(s3_address: str, tmp_path: Path) -> None:
    files = files_at(s3_address)
    content = {"a/empty": b"", "a/b/small": b"text", "a/large": os.urandom(17 << 20), "c": b"c"}
    for name, data in content.items():
        (tmp_path / "local").write_bytes(data)
        files.put(tmp_path / "local", name)
    assert files.names("") == {name: len(data) for name, data in content.items()}
    assert files.names("a/b") == {"a/b/small": 4}
    assert files.names("c") == {"c": 1}
    assert files.names("nothing") == {}
    for name, data in content.items():
        files.get(name, tmp_path / "got" / name)
        assert (tmp_path / "got" / name).read_bytes() == data
    files.put(tmp_path / "local", "a/large")
    files.get("a/large", tmp_path / "got" / "a" / "large")
    assert (tmp_path / "got" / "a" / "large").read_bytes() == b"c"
    for name in ("a/b", "c", "nothing"):
        files.remove(name)
    assert set(files.names("")) == {"a/empty", "a/large"}
    assert {path.name for path in (tmp_path / "got").rglob("*") if path.is_file()} == {"empty", "small", "large", "c"}


def test_what_is_not_there_is_named_and_nothing_changes(s3_address: str, tmp_path: Path) -> None:
    files = files_at(s3_address)
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(StorageError, match=f"{s3_address}/missing cannot be used: .*No such file"):
        files.get("missing", tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    files.put(tmp_path / "kept", "kept")
    with pytest.raises(StorageError, match="No such file"):
        files.put(tmp_path / "missing", "kept")
    assert files.names("") == {"kept": 4}
    with pytest.raises(StorageError, match="name what is to go"):
        files.remove("")


def test_a_bucket_that_is_not_there(s3_address: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such bucket"):
        files_at("s3://nobody/study")
    mount(tmp_path, "s3://nobody/study")
    with pytest.raises(StorageError, match="there is no such bucket"):
        read_table(tmp_path, TABLE)


def test_an_endpoint_that_does_not_answer_is_told_in_seconds(
    s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    mount(tmp_path, s3_address)
    began = time.monotonic()
    with TableWriter(tmp_path) as writer, pytest.raises(StorageError, match=r"127\.0\.0\.1:9 cannot be reached"):
        writer.append(TABLE, batch(0))
    assert time.monotonic() - began < 20


def test_a_study_on_the_store_is_the_same_from_every_mirror(mirrors: tuple[Path, Path]) -> None:
    here, there = mirrors
    assert not has_tables(there)
    with TableWriter(here, compact_after_files=3) as writer:
        for i in range(4):
            writer.append(TABLE, batch(i))
    assert [path.name for path in (here / "tables").iterdir()] == ["writer.lock"]  # nothing else is kept here
    assert has_tables(there)
    assert table_version(there, TABLE) >= 4
    assert read_table(there, TABLE).num_rows == 4 * ROWS
    assert final_losses(there).num_rows == 3 * ROWS
    with TableWriter(there) as writer:
        assert writer.append(TABLE, batch(3)) == 0
        assert writer.append(TABLE, batch(4)) == ROWS


def test_a_second_writer_on_another_machine_is_refused(mirrors: tuple[Path, Path]) -> None:
    here, there = mirrors
    with TableWriter(here) as first, TableWriter(there) as second:
        first.append(TABLE, batch(0))
        assert second.append(TABLE, batch(0)) == 0
        second.append(TABLE, batch(1))
        with pytest.raises(StorageError, match=r"another process has written to it meanwhile.*End that process"):
            first.append(TABLE, batch(1))
        assert first.append(TABLE, batch(1)) == 0  # it has read the table again, and nothing comes twice
    assert read_table(here, TABLE).num_rows == 2 * ROWS


def test_a_writer_killed_on_the_store_loses_nothing_and_doubles_nothing(s3_address: str, tmp_path: Path) -> None:
    mount(tmp_path, s3_address)
    code = (
        "import sys; from pathlib import Path; from tests.store.store_appender import endless;"
        "endless(Path(sys.argv[1]), 0)"
    )
    last = -1
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(12)]  # past a merge
            process.kill()
            last = max(last, int((lines + process.stdout.readlines())[-1]))
    stored = read_table(tmp_path, TABLE, ["tokens", "name"])
    assert stored.num_rows == stored.group_by(["tokens", "name"]).aggregate([]).num_rows
    assert stored.num_rows in {(last + 1) * ROWS, (last + 2) * ROWS}


def test_another_writer_s_rows_are_not_doubled_after_a_conflict(mirrors: tuple[Path, Path]) -> None:
    here, there = mirrors
    with TableWriter(here) as first, TableWriter(there) as second:
        first.append(TABLE, batch(0))
        second.append(TABLE, batch(1))
        with pytest.raises(ConflictError):  # which reads the table at its newest version
            first.append(TABLE, changed(0))
        with pytest.raises(StorageError, match="another process has written to it meanwhile"):
            first.append(TABLE, batch(1))
        assert first.append(TABLE, batch(1)) == 0
    assert read_table(here, TABLE).num_rows == 2 * ROWS


@pytest.mark.parametrize("step", ["update_incremental", "create_checkpoint", "vacuum", "merge"])
def test_another_writer_s_rows_are_not_doubled_after_a_merge(
    mirrors: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    here, there = mirrors
    kind = TableOptimizer if step == "merge" else DeltaTable
    name = "compact" if step == "merge" else step
    own, rivals = getattr(kind, name), [batch(9)]

    def late(self: object, *given: object, **named: object) -> object:
        while rivals:
            with TableWriter(there) as second:
                assert second.append(TABLE, rivals.pop()) == ROWS
        return own(self, *given, **named)

    with TableWriter(here, compact_after_files=3) as first:
        for i in range(2):
            first.append(TABLE, batch(i))
        monkeypatch.setattr(kind, name, late)
        first.append(TABLE, batch(2))
        assert not rivals
        try:
            first.append(TABLE, batch(9))
        except StorageError as error:
            assert "another process has written to it meanwhile" in str(error)
            assert first.append(TABLE, batch(9)) == 0
    stored = read_table(here, TABLE, ["tokens", "name"])
    assert stored.num_rows == stored.group_by(["tokens", "name"]).aggregate([]).num_rows == 4 * ROWS


@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing_torn(
    s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    class Failing(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            if self.tell() >= 16 << 20:
                raise failure
            return super().read(size)

    files, local = files_at(s3_address), tmp_path / "large"
    local.write_bytes(bytes(33 << 20))
    (tmp_path / "small").write_text("small")
    files.put(tmp_path / "small", "a/kept")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: Failing(path, mode))
        with pytest.raises(StorageError if isinstance(failure, OSError) else KeyboardInterrupt):
            files.put(local, "a/large")
    assert files.names("") == {"a/kept": 5}
    files.put(local, "a/large")
    assert files.names("") == {"a/kept": 5, "a/large": 33 << 20}


@pytest.mark.parametrize("endpoint", ["minio.example:9000", "minio", "ftp://minio:9000", "http://"])
def test_an_endpoint_that_is_no_address_is_refused_and_amazon_is_not_asked(
    s3_address: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match=rf"must begin with http:// or https://, received '{endpoint}'"):
        files_at(s3_address)
