"""The index of keys that a table already holds: 16 bytes a row, so that ten million rows need 160 MB.

A key is kept as a 64-bit hash, with a second one of the key and what is stored under it. Equal pairs are taken as the
same row; a known key with another second hash is looked up in the table, so that two keys that share a hash are told
apart. A row is lost only where both hashes of two different rows agree: for ten million rows the chance is
1e14 / 2**129 = 1e-25, and for a key that is sent again with another value 2**-64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flp_ray.errors import ConflictError
from flp_ray.store.identity import key_in_words
from flp_ray.store.tables import TableForm, form_of

Words = npt.NDArray[np.uint64]

StoredRow = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Finds the row that is stored under a key; None where there is none."""

_RECENT = 16_384
"""Entries that are kept in a dictionary before they become a sorted run."""

_NULL = np.uint64(0x9E3779B97F4A7C15)
_STEP = 0x9E3779B97F4A7C15


def row_hashes(form: TableForm, rows: pa.Table) -> tuple[Words, Words]:
    """The two hashes of every row.

    Args:
        form: The table's form.
        rows: At least the columns of the key and of the identity.

    Returns:
        A hash of the key, and one of key and identity; equal bits give equal hashes, in every process.
    """
    parts = [_batch_hashes(form, batch) for batch in rows.to_batches()]
    empty = np.empty(0, np.uint64)
    return (
        np.concatenate([key for key, _ in parts]) if parts else empty,
        np.concatenate([whole for _, whole in parts]) if parts else empty,
    )


def _batch_hashes(form: TableForm, batch: pa.RecordBatch) -> tuple[Words, Words]:
    key, whole = np.full(batch.num_rows, 1, np.uint64), np.full(batch.num_rows, 2, np.uint64)
    for position, name in enumerate((*form.key, *form.identity)):
        first, second = _bits(batch.column(name))
        offset = np.uint64((position + 1) * _STEP % 2**64)
        if position < len(form.key):
            key = _mixed(key ^ _mixed(first + offset))
        whole = _mixed(whole ^ _mixed(second + offset))
    return key, whole


def _bits(column: pa.Array) -> tuple[Words, Words]:
    """Two independent 64-bit images of every value."""
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
        column = column.cast(column.type.value_type)  # a missing value is to be missing, not a word of its own
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(column.type):
        digests = [blake2b(text.encode(), digest_size=16).digest() for text in column.dictionary.to_pylist()]
        images = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
        values, missing = column.indices, column.is_null()
        codes = values.fill_null(0).to_numpy(zero_copy_only=False)
        first, second = (images[codes, i] if len(images) else np.zeros(len(codes), np.uint64) for i in (0, 1))
    else:
        missing = column.is_null()
        kind = np.float64 if pa.types.is_floating(column.type) else np.int64
        plain = column.fill_null(0) if kind is np.float64 else column.cast(pa.int64()).fill_null(0)
        first = plain.to_numpy(zero_copy_only=False).view(np.uint64)  # a float's bits: -0.0 is not 0.0
        second = first
    if column.null_count:
        absent = missing.to_numpy(zero_copy_only=False)
        first, second = np.where(absent, _NULL, first), np.where(absent, _NULL, second)
    return first, second


def _mixed(words: Words) -> Words:
    """Spreads every bit over all others; one to one, so that different words stay different (splitmix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class KeyIndex:
    """The keys of one table.

    Args:
        table: The table's name.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._form = form_of(table)
        self._recent: dict[int, int] = {}
        self._runs: list[tuple[Words, Words]] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(keys) for keys, _ in self._runs)

    def add(self, keys: Words, wholes: Words) -> None:
        """Takes over the hashes of rows that are now stored."""
        if len(keys) < _RECENT:
            self._recent.update(zip(keys.tolist(), wholes.tolist(), strict=True))
            if len(self._recent) < _RECENT:
                return
            keys = np.fromiter(self._recent.keys(), np.uint64, len(self._recent))
            wholes = np.fromiter(self._recent.values(), np.uint64, len(self._recent))
            self._recent.clear()
        order = np.argsort(keys)
        self._runs.append((keys[order], wholes[order]))
        # Runs halve in length, so that a key is moved a few times at most and a search looks at a few runs.
        while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) > len(self._runs[-2][0]):
            young_keys, young_wholes = self._runs.pop()
            old_keys, old_wholes = self._runs.pop()
            places = np.searchsorted(old_keys, young_keys)
            merged = np.insert(old_keys, places, young_keys)
            self._runs.append((merged, np.insert(old_wholes, places, young_wholes)))

    def load(self, rows: pa.Table) -> None:
        """Takes over rows read from the table."""
        self.add(*row_hashes(self._form, rows))

    def _find(self, keys: Words) -> tuple[npt.NDArray[np.bool_], Words]:
        found, wholes = np.zeros(len(keys), bool), np.zeros(len(keys), np.uint64)
        for position, key in enumerate(keys.tolist() if self._recent else ()):
            if key in self._recent:
                found[position], wholes[position] = True, self._recent[key]
        for run_keys, run_wholes in self._runs:
            places = np.minimum(np.searchsorted(run_keys, keys), len(run_keys) - 1)
            here = (run_keys[places] == keys) & ~found
            found |= here
            wholes[here] = run_wholes[places[here]]
        return found, wholes

    def new_rows(self, rows: pa.Table, stored_row: StoredRow) -> tuple[pa.Table, Words, Words]:
        """Those rows that are not stored yet; the index itself does not change.

        Args:
            rows: A batch in the table's schema.
            stored_row: Finds a stored row, to tell a conflict from two keys with one hash.

        Returns:
            The new rows, and their hashes for `add`.

        Raises:
            ConflictError: A key is stored, or comes twice in the batch, with different values.
        """
        keys, wholes = row_hashes(self._form, rows)
        found, known = self._find(keys)
        fresh = ~found
        for position in np.flatnonzero(found & (known != wholes)).tolist():
            received = rows.slice(position, 1).to_pylist()[0]
            stored = stored_row({name: received[name] for name in self._form.key})
            fresh[position] = stored is None
            if stored is not None:
                self._compare(stored, received, "stored")
        distinct, first = np.unique(keys, return_index=True)
        again = np.ones(len(keys), bool)
        again[first] = False
        for position in np.flatnonzero(again & fresh).tolist():
            fresh[position] = self._first_in_batch(rows, position, first[np.searchsorted(distinct, keys[position])])
        kept = rows if fresh.all() else rows.filter(pa.array(fresh))
        return kept, keys[fresh], wholes[fresh]

    def _first_in_batch(self, rows: pa.Table, position: int, first: int) -> bool:
        """Whether a row whose hash came before in its batch has a key of its own after all."""
        received = rows.slice(position, 1).to_pylist()[0]
        for earlier in rows.slice(first, position - first).to_pylist():
            if all(earlier[name] == received[name] for name in self._form.key):
                self._compare(earlier, received, "earlier in the same batch")
                return False
        return True

    def _compare(self, stored: Mapping[str, Any], received: Mapping[str, Any], where: str) -> None:
        # repr of a float is exact and tells -0.0 from 0.0, so equal text means equal bits.
        differing = [name for name in self._form.identity if repr(stored[name]) != repr(received[name])]
        if not differing:
            return
        key = {name: received[name] for name in self._form.key}
        raise ConflictError(
            f"Table {self._table}, {key_in_words(key)}: {where} "
            f"{key_in_words({name: stored[name] for name in differing})}; "
            f"received {key_in_words({name: received[name] for name in differing})}. "
            f"A stored row is never changed, and nothing of this batch was stored. "
            f"If the new value is the right one, start again in another study folder."
        )
