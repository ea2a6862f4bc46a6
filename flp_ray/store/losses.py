"""The last domain losses of every run, fast enough for ten million measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flp_ray.store.delta import STORAGE_FAILURES, cause_in_words, damaged, dataset_of, open_table
from flp_ray.store.place import place_of
from flp_ray.store.tables import form_of

_CODED = ("run_id", "kind", "name")


def final_losses(folder: str | Path) -> pa.Table:
    """The domain losses of each run at its last checkpoint that has any.

    Args:
        folder: The study folder.

    Returns:
        Columns `run_id`, `tokens` (of that checkpoint), `name` (the domain) and `value` (nats per token), by run and
        domain; runs without a domain loss are absent.

    Raises:
        StorageError: The table is damaged or of another schema version.
    """
    schema = form_of("measurements").schema
    wanted = pa.schema([schema.field(name) for name in ("run_id", "tokens", "name", "value")])
    table = open_table(folder, "measurements")
    if table is None:
        return wanted.empty_table()
    place = place_of(folder, "measurements")
    try:
        fragments = list(dataset_of(place, table, coded=_CODED).get_fragments())
        # Twice over the rows, a batch at a time, so that memory stays bounded whatever the order of the rows.
        with ThreadPoolExecutor() as pool:
            found, last = list(pool.map(_last_tokens, fragments)), dict[str, int]()
            for tokens in found:
                for run_id, most in tokens.items():
                    last[run_id] = max(most, last.get(run_id, 0))
            holding = (
                fragment
                for fragment, tokens in zip(fragments, found, strict=True)
                if any(most == last[run_id] for run_id, most in tokens.items())
            )
            parts = list(pool.map(lambda fragment: _rows_at(fragment, last, wanted), holding))
    except STORAGE_FAILURES as error:
        raise damaged(place, cause_in_words(error)) from error
    return pa.concat_tables([wanted.empty_table(), *parts]).sort_by([("run_id", "ascending"), ("name", "ascending")])


def _last_tokens(fragment: Any) -> dict[str, int]:
    """The last checkpoint of each run in a file that has a domain loss there."""
    found: dict[str, int] = {}
    for batch in _batches(fragment, ["run_id", "tokens", "kind"]):
        runs, keep = batch["run_id"], _is_loss(batch)
        last = np.zeros(len(runs.dictionary), np.int64)
        np.maximum.at(last, runs.indices.to_numpy()[keep], batch["tokens"].to_numpy()[keep])
        for run_id, tokens in zip(runs.dictionary.to_pylist(), last.tolist(), strict=True):
            found[run_id] = max(tokens, found.get(run_id, 0))
    return found


def _rows_at(fragment: Any, last: Mapping[str, int], wanted: pa.Schema) -> pa.Table:
    """A file's domain losses at each run's last checkpoint."""
    parts = [wanted.empty_table()]
    for batch in _batches(fragment, ["run_id", "tokens", "kind", "name", "value"]):
        runs = batch["run_id"]
        wanted_tokens = np.array([last[run_id] for run_id in runs.dictionary.to_pylist()], np.int64)
        keep = _is_loss(batch) & (batch["tokens"].to_numpy() == wanted_tokens[runs.indices.to_numpy()])
        rows = batch.select(wanted.names).take(pa.array(np.flatnonzero(keep)))
        parts.append(pa.Table.from_batches([rows]).cast(wanted))
    return pa.concat_tables(parts)


def _is_loss(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    kinds = batch["kind"]
    losses: npt.NDArray[np.bool_] = np.array([kind == "domain_loss" for kind in kinds.dictionary.to_pylist()], bool)
    of_rows: npt.NDArray[np.bool_] = losses[kinds.indices.to_numpy()]
    return of_rows


def _batches(fragment: Any, columns: list[str]) -> Iterator[pa.RecordBatch]:
    found = fragment.to_batches(columns=columns, batch_size=1 << 20, use_threads=False)
    yield from (batch for batch in found if batch.num_rows)
