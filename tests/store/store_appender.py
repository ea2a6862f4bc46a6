"""Processes that the tests start, kill and starve: `python store_appender.py WHAT FOLDER [FIRST]`."""

from __future__ import annotations

import os
import resource
import sys
from itertools import count
from pathlib import Path

import pyarrow as pa

from flp_ray.core.records import Measurement
from flp_ray.errors import StorageError
from flp_ray.store import TableWriter, measurement_rows, read_table

ROWS = 12


def batch(i: int, rows: int = ROWS) -> pa.Table:
    """The rows of one checkpoint, the same in every process."""
    return measurement_rows(
        [
            Measurement(
                run_id=f"run{i % 3}",
                tokens=1 + i,
                flops=1e12 * (1 + i),
                kind="domain_loss",
                name=f"domain{k}",
                value=1 / (1 + i + k),
            )
            for k in range(rows)
        ]
    )


def endless(folder: Path, first: int) -> None:
    """Appends until it is killed, and names each batch once it is acknowledged."""
    print("start", flush=True)
    with TableWriter(folder, compact_after_files=7) as writer:
        for i in count(first):
            writer.append("measurements", batch(i))
            print(i, flush=True)


def hold(folder: Path) -> None:
    """Holds the writer until its input ends."""
    with TableWriter(folder):
        print("start", flush=True)
        sys.stdin.read()


def fill_disk(folder: Path) -> None:
    """Appends until the disk is full, makes room, appends the same batch again; prints what happened."""
    filler = folder / "filler"
    filler.write_bytes(os.urandom(700_000))
    with TableWriter(folder) as writer:
        acknowledged = 0
        try:
            for i in count():
                writer.append("measurements", batch(i, rows=500))
                acknowledged += 500
        except StorageError as error:
            print(error)
        print(acknowledged, read_table(folder, "measurements").num_rows)
        filler.unlink()
        print(writer.append("measurements", batch(i, rows=500)), read_table(folder, "measurements").num_rows)


def limited_files(folder: Path) -> None:
    """Appends a batch whose file the system refuses for its size, then a small one; prints what happened."""
    with TableWriter(folder) as writer:
        writer.append("measurements", batch(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            writer.append("measurements", batch(1, rows=20_000))
        except StorageError as error:
            print(error)
        print(writer.append("measurements", batch(1)), read_table(folder, "measurements").num_rows)


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "endless":
        endless(where, int(sys.argv[3]))
    else:
        {"hold": hold, "fill_disk": fill_disk, "limited_files": limited_files}[what](where)
