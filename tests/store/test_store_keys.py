from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.errors import ConflictError
from flp_ray.store import TABLES, measurement_rows
from flp_ray.store import keys as keys_module
from flp_ray.store.keys import KeyIndex, row_hashes
from tests.store.store_appender import batch
from tests.store.store_samples import key, measurements

FORM = TABLES["measurements"]


def never(key: Mapping[str, Any]) -> None:
    raise AssertionError(f"looked up {key}")


def numbered(first: int, count: int) -> pa.Table:
    return pa.table(
        {
            "run_id": pa.array([f"run{i % 97}" for i in range(first, first + count)]),
            "tokens": np.arange(first, first + count) + 1,
            "flops": np.full(count, 1e12),
            "kind": pa.repeat("domain_loss", count),
            "name": pa.repeat("code", count),
            "value": np.arange(first, first + count) / 7,
            "stderr": pa.nulls(count, pa.float64()),
            "items": pa.nulls(count, pa.int64()),
        },
        schema=FORM.schema,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(measurements(st.sampled_from(["a", "b"])), max_size=8, unique_by=key))
def test_hashes_do_not_depend_on_company_or_form(measured: list) -> None:
    rows = measurement_rows(measured)
    keys, wholes = row_hashes(FORM, rows)
    alone = [row_hashes(FORM, rows.slice(i, 1)) for i in range(rows.num_rows)]
    assert keys.tolist() == [k[0] for k, _ in alone]
    assert wholes.tolist() == [w[0] for _, w in alone]
    assert len(set(keys.tolist())) == rows.num_rows
    coded = rows.cast(
        pa.schema([f.with_type(pa.dictionary(pa.int32(), f.type)) if f.type == pa.string() else f for f in rows.schema])
    )
    assert [part.tolist() for part in row_hashes(FORM, coded)] == [keys.tolist(), wholes.tolist()]


def test_a_missing_value_is_no_value() -> None:
    rows = numbered(0, 1)
    zero = rows.set_column(7, rows.schema.field("items"), pa.array([0]))
    assert row_hashes(FORM, rows)[1] != row_hashes(FORM, zero)[1]
    nulls = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array([None], pa.string()))
    attempts = TABLES["attempts"]
    row = pa.table({"run_id": ["a"], "attempt": [1], "event": ["started"], "reason": pa.nulls(1, pa.string())})
    coded = row.set_column(3, "reason", nulls)  # as Parquet gives a column without a value
    assert row_hashes(attempts, coded) == row_hashes(attempts, row)


def test_hundreds_of_thousands_of_keys_are_found_again_in_sixteen_bytes_each() -> None:
    index, step = KeyIndex("measurements"), 9_000  # below and above what becomes a sorted run of its own
    sent = [numbered(first, step) for first in range(0, 200_000, step)] + [numbered(300_000, 50_000)]
    for rows in sent:
        fresh, keys, wholes = index.new_rows(rows, never)
        assert fresh.num_rows == rows.num_rows
        index.add(keys, wholes)
    total = sum(rows.num_rows for rows in sent)
    assert len(index) == total
    for rows in sent:
        assert index.new_rows(rows, never)[0].num_rows == 0
    held = sum(run.nbytes for runs in index._runs for run in runs)
    assert held <= 16 * total
    assert len(index._runs) <= 8


def test_two_keys_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(form: Any, rows: pa.Table) -> tuple[Any, Any]:
        keys, wholes = row_hashes(form, rows)
        return keys % np.uint64(3), wholes

    monkeypatch.setattr(keys_module, "row_hashes", narrow)
    index, stored = KeyIndex("measurements"), []

    def stored_row(key: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return next((row for row in stored if all(row[name] == value for name, value in key.items())), None)

    for i in (0, 1, 0, 2, 1):
        fresh, keys, wholes = index.new_rows(batch(i), stored_row)
        index.add(keys, wholes)
        stored += fresh.to_pylist()
    expected = [row for i in range(3) for row in batch(i).to_pylist()]
    assert sorted(stored, key=repr) == sorted(expected, key=repr)
    changed = batch(1).set_column(5, FORM.schema.field("value"), pa.array([9.0] * batch(1).num_rows))
    with pytest.raises(ConflictError, match=r"stored value=0\.5; received value=9\.0"):
        index.new_rows(changed, stored_row)
