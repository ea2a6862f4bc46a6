"""The decisions of a search in rounds: each is durable before its run starts."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from flp_ray.core.mixture import Mixture
from flp_ray.core.search import Decision
from flp_ray.store.reader import read_table
from flp_ray.store.rows import canonical_json
from flp_ray.store.tables import TABLES


def decision_row(decision: Decision, *, question: str) -> pa.Table:
    """The row of one decision.

    Args:
        decision: The decision.
        question: Hash of what was asked for; a search that has ended goes on only when that changes.
    """
    mixtures = {name: _ratios(getattr(decision, name)) for name in ("mixture", "best")}
    payload = canonical_json(asdict(decision) | mixtures, what=f"Decision {decision.number}")
    row = {
        "number": decision.number,
        "kind": decision.kind,
        "question": question,
        "payload": payload,
        "at": datetime.fromtimestamp(decision.at, UTC),
        "run_id": decision.run_id,
    }
    return pa.Table.from_pylist([row], schema=TABLES["decisions"].schema)


def load_decisions(folder: str | Path) -> tuple[tuple[Decision, ...], str | None]:
    """All decisions in order, and what the last one was asked for; None before the first."""
    rows = read_table(folder, "decisions", ["number", "question", "payload"]).sort_by("number").to_pylist()
    made = []
    for row in rows:
        value = json.loads(row["payload"])
        mixtures = {name: Mixture.of(value[name]) if value[name] else None for name in ("mixture", "best")}
        made.append(Decision(**value | mixtures))
    return tuple(made), rows[-1]["question"] if rows else None


def _ratios(mixture: Mixture | None) -> dict[str, float] | None:
    return None if mixture is None else mixture.as_dict()
