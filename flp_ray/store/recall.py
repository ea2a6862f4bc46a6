"""What the writer knows of runs without reading: their attempts, and the checkpoints that are measured."""

from __future__ import annotations

from array import array

import pyarrow as pa


class Recall:
    """Answers from memory, kept up to date with every row that is stored; rows may be noted twice."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._ended: set[tuple[str, int]] = set()
        self._checkpoints: dict[str, array[int]] = {}

    def note(self, table: str, rows: pa.Table) -> None:
        """Takes note of stored rows, of which the columns of the table's key suffice."""
        if table == "attempts":
            columns = (rows[name].to_pylist() for name in ("run_id", "attempt", "event"))
            for run_id, attempt, event in zip(*columns, strict=True):
                self._last[run_id] = max(attempt, self._last.get(run_id, 0))
                if event != "started":
                    self._ended.add((run_id, attempt))
        elif table == "measurements":
            keys = ["run_id", "tokens"]
            distinct = rows.select(keys).group_by(keys, use_threads=False).aggregate([])
            for run_id, tokens in zip(*(distinct[name].to_pylist() for name in keys), strict=True):
                known = self._checkpoints.setdefault(run_id, array("q"))
                if tokens not in known:
                    known.append(tokens)

    def attempts_of(self, run_id: str) -> int:
        """The number of a run's last attempt; 0 before the first."""
        return self._last.get(run_id, 0)

    def open_attempt(self, run_id: str) -> int | None:
        """The number of a run's last attempt if it has not ended; None else, and before the first."""
        last = self._last.get(run_id)
        return None if last is None or (run_id, last) in self._ended else last

    def checkpoints(self, run_id: str) -> set[int]:
        """Token counts at which a run has at least one measurement."""
        return set(self._checkpoints.get(run_id, ()))
