"""Rows of a CSV file with the lines that they begin in, so that a fault can be found with any editor."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path


def numbered_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its first line, the header first; blank lines are passed over.

    A quoted cell may hold line ends, so a row may span lines; a byte order mark is no part of the first cell.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        csv.Error: It is no CSV file.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        line = 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
