"""One file of a table, CSV or Parquet, in the types that are wanted; a fault is named with file, row and column.

In CSV files a row goes by the line that it begins in, the header being line 1; in Parquet files the first row is
row 1. The checks are Python's: a pyarrow scalar, a data set and an array for numpy would each load pandas, which
takes longer than checking 100,000 rows.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from flp_ray.errors import RecordsError
from flp_ray.store.lines import numbered_rows

_IN_WORDS = {pa.string(): "text", pa.int64(): "a whole number", pa.float64(): "a number"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with the file that it came from.

    Attributes:
        path: The file.
        rows: Its rows, in the order of the file.
    """

    path: Path
    rows: pa.Table

    def fail(self, position: int, column: str, why: str) -> NoReturn:
        """Raises the error for the row at a position (0 is the first)."""
        raise RecordsError(f"{self.path}, {self.place(position)}, column {column}: {why}")

    def place(self, position: int) -> str:
        """A row for a message."""
        return _line(self.path, position + 2) if self.path.suffix == ".csv" else f"row {position + 1}"

    def require(self, column: str, holds: Callable[[Any], bool], rule: str) -> None:
        """Fails at the first value for which a condition does not hold; missing values are passed over."""
        values = self.rows[column]
        if all(holds(value) for value in values.unique().to_pylist() if value is not None):
            return
        position, value = next((i, v) for i, v in enumerate(values.to_pylist()) if v is not None and not holds(v))
        self.fail(position, column, f"received {value!r}; {rule}.")

    def require_all(self, column: str) -> None:
        """Fails at the first missing value."""
        values = self.rows[column]
        if values.null_count:
            why = "received nothing; every row needs a value, and what was not measured has no row."
            self.fail(values.to_pylist().index(None), column, why)


def read_sheet(path: Path, types_of: Callable[[list[str]], dict[str, pa.DataType]]) -> Sheet:
    """Reads a file.

    Args:
        path: A `.csv` file; any other ending is read as Parquet.
        types_of: From the file's columns to the types of those that are wanted: text, int64 or float64.

    Returns:
        All rows and columns; those that are not wanted in whatever type they have.

    Raises:
        RecordsError: The file cannot be read, a column comes twice, or a value is not of its column's type.
    """
    try:
        rows = _read_csv(path, types_of) if path.suffix == ".csv" else _read_parquet(path)
    except UnicodeDecodeError as error:
        raise RecordsError(f"{path} is not in UTF-8: {error}. Save it in UTF-8.") from error
    except (pa.ArrowException, OSError, csv.Error) as error:
        raise RecordsError(f"{path} cannot be read: {error}.") from error
    return _typed(Sheet(path, rows), types_of(rows.schema.names))


def _read_csv(path: Path, types_of: Callable[[list[str]], dict[str, pa.DataType]]) -> pa.Table:
    _, header = next(numbered_rows(path), (1, []))
    _check_columns(path, header)
    types = dict.fromkeys(header, pa.string()) | types_of(header)  # a guess from the first rows could be wrong
    try:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False),  # with threads an error does not name its line
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        fault = re.search(r"(?:column #(\d+): )?Row #(\d+): (?:CSV conversion error to [^:]*: )?(.*)", str(error))
        if fault is None:
            raise
        place = f"{path}, {_line(path, int(fault[2]))}"
        if fault[1] is None:  # the number of cells
            raise RecordsError(f"{place}: {fault[3]}.") from error
        column = header[int(fault[1])]
        raise RecordsError(f"{place}, column {column}: {fault[3]}; needs {_IN_WORDS[types[column]]}.") from error


def _read_parquet(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        rows = file.read()
    _check_columns(path, rows.schema.names)
    return rows


def _check_columns(path: Path, names: list[str]) -> None:
    if twice := {column for column in names if names.count(column) > 1}:
        place = f"{path}, line 1" if path.suffix == ".csv" else f"{path}"
        raise RecordsError(f"{place}: the column {min(twice)} comes twice; rename or remove one of them.")


def _line(path: Path, row: int) -> str:
    """Where a row of a CSV file begins; the header is row 1."""
    return f"line {next(islice(numbered_rows(path), row - 1, None), (row, []))[0]}"


def _typed(sheet: Sheet, types: dict[str, pa.DataType]) -> Sheet:
    rows = sheet.rows
    for column, kind in types.items():
        values = rows[column]
        try:
            rows = rows.set_column(rows.schema.get_field_index(column), column, values.cast(kind))
        except pa.ArrowException:
            position = next((i for i, value in enumerate(values) if not _fits(value, kind)), 0)
            why = f"received {values[position].as_py()!r} ({values.type}); needs {_IN_WORDS[kind]}."
            sheet.fail(position, column, why)
    return Sheet(sheet.path, rows)


def _fits(value: pa.Scalar, kind: pa.DataType) -> bool:
    try:
        value.cast(kind)
    except pa.ArrowException:
        return False
    return True
