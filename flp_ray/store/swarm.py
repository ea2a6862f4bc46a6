"""Finished runs in Olmix's form: two CSV files, one row per run in each.

    ratios.csv    run or run_id, one column per source: shares of the training tokens, which sum to 1
    metrics.csv   run or run_id, one column per metric: a loss or bits per byte, lower is better

`name`, `index` and columns without a name (`Unnamed: 0`) are passed over. Both files are joined on the run.
Faults are reported with the file, the line (the header is line 1) and the column.

Reference: Olmix (github.com/allenai/olmix), `load_from_csv`. Ours is stricter: a run must be in both files.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, Records, Run
from flp_ray.errors import RecordsError
from flp_ray.store.lines import numbered_rows

RATIO_SUM_TOLERANCE = 1e-3
"""How far the sum of a row of ratios may be from 1: ratios rounded to three or four decimals."""

_KEYS = ("run_id", "run")
_PASSED_OVER = (*_KEYS, "name", "index", "")


def read_swarm(folder: str | Path) -> Records:
    """Reads `ratios.csv` and `metrics.csv`.

    The files say neither size nor tokens nor FLOPs, so every run gets params=1, train_tokens=1, tokens=1 and
    flops=1.0: one nominal size. A law over mixtures can be fitted on that, a law over sizes cannot. Every run's
    purpose is `sampling`. Every metric becomes a `domain_loss` under its column's name.

    Args:
        folder: The folder that holds both files.

    Returns:
        The records. Ratios are divided by their sum; an empty metric is a measurement that is absent.

    Raises:
        RecordsError: A file or the run's column is missing; a run comes twice or is in one file only; a ratio is
            below 0, or they are further from 1 than RATIO_SUM_TOLERANCE; a metric is not a number above 0.
    """
    ratios, metrics = _read(Path(folder) / "ratios.csv"), _read(Path(folder) / "metrics.csv")
    mixtures, measured = ratios.by_run(_key(ratios, metrics)), metrics.by_run(_key(metrics, ratios))
    _check_joined(ratios, mixtures, metrics, measured)
    _check_joined(metrics, measured, ratios, mixtures)
    return Records(
        runs=tuple(
            Run(run_id=run_id, purpose="sampling", params=1, train_tokens=1, mixture=_mixture(ratios, row))
            for run_id, row in mixtures.items()
        ),
        measurements=tuple(
            Measurement(run_id=run_id, tokens=1, flops=1.0, kind="domain_loss", name=column, value=value)
            for run_id, row in measured.items()
            for column, value in _losses(metrics, row)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    line: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """A CSV file: its columns, and those of them that hold values."""

    path: Path
    columns: tuple[str, ...]
    values: tuple[str, ...]
    rows: tuple[_Row, ...]

    def fail(self, line: int, column: str, why: str) -> NoReturn:
        raise RecordsError(f"{self.path}, line {line}, column {column}: {why}")

    def number(self, row: _Row, column: str, rule: str) -> float:
        """A cell as a finite number."""
        text = row.cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.fail(row.line, column, f"received {text!r}; {rule}.")
        return value

    def by_run(self, key: str) -> dict[str, _Row]:
        """The rows by the run that they tell of."""
        found: dict[str, _Row] = {}
        for row in self.rows:
            run_id = row.cells[key]
            if not run_id:
                self.fail(row.line, key, "received nothing; every row needs its run.")
            first = found.setdefault(run_id, row)
            if first is not row:
                self.fail(row.line, key, f"run {run_id} comes twice, first in line {first.line}; leave one of them.")
        return found


def _read(path: Path) -> _Sheet:
    if not path.exists():
        raise RecordsError(f"There is no {path}; Olmix's form needs ratios.csv and metrics.csv. Add the file.")
    try:
        (_, header), *lines = list(numbered_rows(path)) or [(1, [])]
    except UnicodeDecodeError as error:
        raise RecordsError(f"{path} is not in UTF-8: {error}. Save it in UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise RecordsError(f"{path} cannot be read: {error}.") from error
    named = [column for column in header if column]
    if twice := {column for column in named if named.count(column) > 1}:
        raise RecordsError(f"{path}, line 1: the column {min(twice)} comes twice; rename one of them.")
    if not set(_KEYS) & set(header):
        raise RecordsError(f"{path} has no column run_id or run; it has {', '.join(named) or 'no columns'}.")
    values = tuple(c for c in header if c not in _PASSED_OVER and not c.startswith("Unnamed"))
    if not values:
        raise RecordsError(f"{path} has no column beside {', '.join(named)}; it needs one per source or metric.")
    for line, cells in lines:
        if len(cells) != len(header):
            raise RecordsError(f"{path}, line {line}: received {len(cells)} cells; the header has {len(header)}.")
    rows = tuple(_Row(line=line, cells=dict(zip(header, cells, strict=True))) for line, cells in lines)
    return _Sheet(path=path, columns=tuple(header), values=values, rows=rows)


def _key(sheet: _Sheet, other: _Sheet) -> str:
    """The run's column: the one that both files have, else the one that this file has."""
    own = [key for key in _KEYS if key in sheet.columns]
    return next((key for key in own if key in other.columns), own[0])


def _check_joined(sheet: _Sheet, rows: dict[str, _Row], other: _Sheet, others: dict[str, _Row]) -> None:
    alone = [run_id for run_id in rows if run_id not in others]
    if alone:
        more = f" ({len(alone) - 1} more like it)" if len(alone) > 1 else ""
        sheet.fail(
            rows[alone[0]].line,
            _key(sheet, other),
            f"run {alone[0]} is not in {other.path.name}{more}; add it there or remove it here.",
        )


def _mixture(ratios: _Sheet, row: _Row) -> Mixture:
    given = {}
    for source in ratios.values:
        given[source] = ratios.number(row, source, "a ratio is a number from 0 to 1; 0 for a source that is not used")
        if given[source] < 0:
            ratios.fail(row.line, source, f"received {row.cells[source]}; a ratio is a number from 0 to 1.")
    total = math.fsum(given.values())
    if abs(total - 1) > RATIO_SUM_TOLERANCE:
        columns = f"{ratios.values[0]} to {ratios.values[-1]}" if len(given) > 1 else ratios.values[0]
        ratios.fail(row.line, columns, f"the ratios sum to {total:.6g}; they must sum to 1 (shares, not percent).")
    return Mixture.of({source: ratio / total for source, ratio in given.items()})


def _losses(metrics: _Sheet, row: _Row) -> list[tuple[str, float]]:
    rule = "a metric is a loss or bits per byte, a number above 0; leave it empty where nothing was measured"
    losses = []
    for column in metrics.values:
        if row.cells[column]:
            losses.append((column, metrics.number(row, column, rule)))
            if losses[-1][1] <= 0:
                metrics.fail(row.line, column, f"received {row.cells[column]}; {rule}.")
    return losses
