"""Tuning trials and tuned laws as rows of the tables, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flp_ray.core.tuning import TrialReport
from flp_ray.store.reader import read_table
from flp_ray.store.rows import canonical_json
from flp_ray.store.tables import form_of


def tuning_rows(reports: Sequence[TrialReport], *, at: float) -> pa.Table:
    """Rows of `tunings`, as they came about at a time (seconds since 1970)."""
    rows = [asdict(report) | {"at": round(at * 1e6)} for report in reports]
    return pa.Table.from_pylist(rows, schema=form_of("tunings").schema)


def tuned_row(*, law_id: str, payload: Mapping[str, Any], created: float) -> pa.Table:
    """One row of `tuned`.

    Args:
        law_id: Identity of the laws.
        payload: The laws as a JSON value (`TunedLaws.to_dict()`).
        created: When, in seconds since 1970.

    Raises:
        RecordsError: The payload holds a number that is not finite.
    """
    row = {"law_id": law_id, "payload": canonical_json(payload, what=f"The tuned laws {law_id}")}
    return pa.Table.from_pylist([row | {"created": round(created * 1e6)}], schema=form_of("tuned").schema)


def load_tunings(folder: str | Path, run_id: str | None = None) -> tuple[TrialReport, ...]:
    """What became of tuning trials, by trial and then by tokens.

    Args:
        folder: The study folder.
        run_id: One trial; None reads those of all.
    """
    condition = None if run_id is None else pc.field("run_id") == run_id
    rows = read_table(folder, "tunings", [field.name for field in fields(TrialReport)], condition)
    rows = rows.sort_by([("run_id", "ascending"), ("tokens", "ascending"), ("event", "ascending")])
    return tuple(TrialReport(**row) for row in rows.to_pylist())


def load_tuned(folder: str | Path) -> dict[str, Any] | None:
    """The tuned laws that were stored last, as a JSON value; None before the first."""
    rows = read_table(folder, "tuned").sort_by([("created", "ascending"), ("law_id", "ascending")]).to_pylist()
    return dict(json.loads(rows[-1]["payload"])) if rows else None
