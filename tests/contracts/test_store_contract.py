"""What every way of writing a study's tables must keep: append twice = append once, conflicts refused.

A backend is anything with `append(table, batch) -> int`; what it stores is read with `read_table`. A new way
of writing (an actor, another format) joins by one more entry in `BACKENDS`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.core.records import Measurement
from flp_ray.errors import ConflictError, FlpRayError, RecordsError, StorageError
from flp_ray.store import TABLES, TableWriter, attempt_row, fit_row, measurement_rows, mount, read_table, stage_row
from tests.store.object_store import credentials, new_address, s3_server


class Appender(Protocol):
    def append(self, table: str, batch: pa.Table | pa.RecordBatch) -> int: ...


Backend = Callable[[Path], AbstractContextManager[Appender]]


@pytest.fixture(scope="module", autouse=True)
def s3() -> Iterator[None]:
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(endpoint).items():
            patch.setenv(name, value)
        yield


class ReopenedWriter:
    """A writer that loses its memory after every append, as a killed and restarted one does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, table: str, batch: pa.Table | pa.RecordBatch) -> int:
        with TableWriter(self._folder, wait_seconds=0) as writer:
            return writer.append(table, batch)


@contextmanager
def one_writer(folder: Path) -> Iterator[Appender]:
    with TableWriter(folder, wait_seconds=0) as writer:
        yield writer


@contextmanager
def reopened_writer(folder: Path) -> Iterator[Appender]:
    yield ReopenedWriter(folder)


@contextmanager
def compacting_writer(folder: Path) -> Iterator[Appender]:
    with TableWriter(folder, wait_seconds=0, compact_after_files=2) as writer:
        yield writer


@contextmanager
def grouping_writer(folder: Path) -> Iterator[Appender]:
    """Sends every batch in one call with others, as the store actor does with batches that wait."""
    with TableWriter(folder, wait_seconds=0) as writer:
        yield GroupingWriter(writer)


class GroupingWriter:
    """Sends each batch between one for another table and an empty one for the same."""

    def __init__(self, writer: TableWriter) -> None:
        self._writer = writer

    def append(self, table: str, batch: pa.Table | pa.RecordBatch) -> int:
        other = stage_row(session="other", stage="other", seconds=1.0, started=1.0)
        before, outcome, after = self._writer.append_many([("stages", other), (table, batch), (table, batch[:0])])
        assert before in (0, 1)
        if isinstance(outcome, FlpRayError):
            raise outcome
        assert after == 0
        return outcome


def on_s3(backend: Backend) -> Backend:
    @contextmanager
    def made(folder: Path) -> Iterator[Appender]:
        mount(folder, new_address())
        with backend(folder) as writer:
            yield writer

    return made


BACKENDS = {
    "one writer": one_writer,
    "reopened": reopened_writer,
    "compacting": compacting_writer,
    "grouping": grouping_writer,
    "one writer on S3": on_s3(one_writer),
    "reopened on S3": on_s3(reopened_writer),
    "compacting on S3": on_s3(compacting_writer),
}


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


def row(tokens: int = 1000, value: float = 2.5, **other: object) -> Measurement:
    fields = {
        "run_id": "r",
        "tokens": tokens,
        "flops": 1e12,
        "kind": "domain_loss",
        "name": "code",
        "value": value,
    }
    return Measurement(**fields | other)


def stored(folder: Path, table: str = "measurements") -> list[dict]:
    return read_table(folder, table).to_pylist()


def test_stores_what_is_sent_and_says_how_much_was_new(backend: Backend, tmp_path: Path) -> None:
    first, second = measurement_rows([row(1), row(2)]), measurement_rows([row(2), row(3)])
    with backend(tmp_path) as writer:
        assert writer.append("measurements", first) == 2
        assert writer.append("measurements", second) == 1
        assert writer.append("measurements", second) == 0
    assert sorted(r["tokens"] for r in stored(tmp_path)) == [1, 2, 3]


def test_takes_record_batches_empty_batches_and_columns_in_any_order(backend: Backend, tmp_path: Path) -> None:
    rows = measurement_rows([row()])
    with backend(tmp_path) as writer:
        assert writer.append("measurements", rows.slice(0, 0)) == 0
        shuffled = rows.select(sorted(set(rows.schema.names) - {"stderr", "items"})).to_batches()[0]
        assert writer.append("measurements", shuffled) == 1
        assert writer.append("measurements", rows) == 0
    assert stored(tmp_path) == rows.to_pylist()


@pytest.mark.parametrize(
    "changed",
    [{"value": 2.5000000000000004}, {"flops": 2e12}, {"stderr": 0.1}, {"items": 5}],
    ids=lambda changed: next(iter(changed)),
)
def test_refuses_another_value_under_a_stored_key(backend: Backend, tmp_path: Path, changed: dict) -> None:
    with backend(tmp_path) as writer:
        writer.append("measurements", measurement_rows([row()]))
        conflicting = measurement_rows([row(tokens=7), row(**changed)])
        with pytest.raises(ConflictError) as caught:
            writer.append("measurements", conflicting)
    (column, received), message = next(iter(changed.items())), str(caught.value)
    assert "measurements" in message
    assert "run_id=r, tokens=1000, kind=domain_loss, name=code" in message
    assert f"stored {column}={getattr(row(), column)}" in message
    assert f"received {column}={received}" in message
    assert stored(tmp_path) == measurement_rows([row()]).to_pylist()  # nothing of the batch was written


def test_zero_and_minus_zero_are_different_bits(backend: Backend, tmp_path: Path) -> None:
    with backend(tmp_path) as writer:
        writer.append("measurements", measurement_rows([row(value=0.0)]))
        with pytest.raises(ConflictError):
            writer.append("measurements", measurement_rows([row(value=-0.0)]))


def test_a_key_twice_in_one_batch(backend: Backend, tmp_path: Path) -> None:
    with backend(tmp_path) as writer:
        assert writer.append("measurements", measurement_rows([row(), row()])) == 1
        with pytest.raises(ConflictError, match=r"earlier in the same batch value=1\.0; received value=2\.0"):
            writer.append("measurements", measurement_rows([row(9, 1.0), row(9, 2.0)]))
    assert len(stored(tmp_path)) == 1


def test_when_and_where_are_not_part_of_the_identity(backend: Backend, tmp_path: Path) -> None:
    def fit(created: float) -> pa.Table:
        return fit_row(fit_id="f", method="flp-m", observations=3, payload={"a": 1.5}, created=created)

    def finished(at: float, seconds: float, node: str) -> pa.Table:
        return attempt_row(run_id="r", attempt=1, event="finished", at=at, train_seconds=seconds, node=node)

    with backend(tmp_path) as writer:
        assert writer.append("attempts", finished(1.0, 5.0, "a")) == 1
        assert writer.append("attempts", finished(2.0, 6.0, "b")) == 0
        assert writer.append("stages", stage_row(session="s", stage="fit", seconds=1.0, started=1.0)) == 1
        assert writer.append("stages", stage_row(session="s", stage="fit", seconds=2.0, started=2.0)) == 0
        assert writer.append("fits", fit(1.0)) == 1
        assert writer.append("fits", fit(2.0)) == 0
    assert [r["train_seconds"] for r in stored(tmp_path, "attempts")] == [5.0]  # the first one stays


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_refuses_what_is_not_a_finite_number(backend: Backend, tmp_path: Path, value: float) -> None:
    with backend(tmp_path) as writer:
        with pytest.raises(RecordsError, match="tokens=2, kind=domain_loss, name=code: value is"):
            writer.append("measurements", measurement_rows([row(1), row(2, value)]))
        with pytest.raises(RecordsError, match="stderr is"):
            writer.append("measurements", measurement_rows([row(stderr=value)]))
    assert stored(tmp_path) == []


def test_refuses_what_is_not_in_the_tables_form(backend: Backend, tmp_path: Path) -> None:
    rows = measurement_rows([row()])
    value = rows.schema.get_field_index("value")
    cases = {
        "kind is 'loss'. Allowed: train_loss": measurement_rows([row(kind="loss")]),
        "may have": rows.append_column("speed", pa.array([1.0])),
        "it needs": rows.drop_columns(["flops"]),
        "value is None": rows.set_column(value, "value", pa.array([None], pa.float64())),
        "Column value of the table measurements holds double": rows.set_column(value, "value", pa.array(["x"])),
    }
    with backend(tmp_path) as writer:
        for words, batch in cases.items():
            with pytest.raises(RecordsError) as caught:
                writer.append("measurements", batch)
            assert words in str(caught.value)
        with pytest.raises(StorageError, match=r"no table 'losses'.*measurements"):
            writer.append("losses", rows)
    assert stored(tmp_path) == []


def test_every_table_has_its_key_and_no_circumstance_in_it() -> None:
    for name, form in TABLES.items():
        assert set(form.key) <= set(form.schema.names), name
        assert not form.circumstance & set(form.key), name
        assert form.circumstance <= set(form.schema.names), name
        assert not any(form.schema.field(column).nullable for column in form.key), name


measured = st.builds(
    row,
    tokens=st.integers(1, 4),
    value=st.floats(allow_nan=False, allow_infinity=False),
    run_id=st.sampled_from(["a", "b"]),
    name=st.sampled_from(["code", "math, short"]),
    stderr=st.none() | st.floats(0, 1),
)
batches = st.lists(
    st.lists(measured, max_size=4, unique_by=lambda m: (m.run_id, m.tokens, m.name)), min_size=1, max_size=5
)


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=8, deadline=None)
@given(sent=batches, data=st.data())
def test_append_twice_is_append_once_whatever_is_sent_and_in_whatever_order(
    name: str, sent: list[list[Measurement]], data: st.DataObject
) -> None:
    # A model in plain Python: the first value of each key counts, and a batch is stored whole or not at all.
    repeated = data.draw(st.permutations(sent + sent))
    model: dict[tuple, Measurement] = {}
    with tempfile.TemporaryDirectory() as folder:
        with BACKENDS[name](Path(folder)) as writer:
            for batch in repeated:
                keyed = {(m.run_id, m.tokens, m.name): m for m in batch}
                conflict = any(key in model and repr(model[key]) != repr(m) for key, m in keyed.items())
                if conflict:
                    with pytest.raises(ConflictError):
                        writer.append("measurements", measurement_rows(batch))
                else:
                    new = writer.append("measurements", measurement_rows(batch))
                    assert new == len(keyed.keys() - model.keys())
                    model |= keyed
        kept = Counter(map(repr, stored(Path(folder))))
    assert kept == Counter(repr(measurement_rows([m]).to_pylist()[0]) for m in model.values())
