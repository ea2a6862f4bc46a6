"""The files of a saved state: ranges of parameters with their optimiser state, as safetensors.

A file holds flat fp32 arrays named `<parameter>:<first number>:<weight, exp_avg or exp_avg_sq>`. Who wrote which range
does not matter to a reader: it takes from every file what overlaps with its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy

from flp_ray.errors import StorageError
from flp_ray.train.fragments import STATES, Fragment

PART_BYTES = 2**30
"""Largest file; also what a worker holds in the host's memory at most, twice over, while it saves."""

NUMBER_BYTES = 4 * len(STATES)
"""Bytes of one parameter's state."""


def write_parts(fragments: Sequence[Fragment], folder: Path, name: str) -> Iterator[Path]:
    """Writes fragments into files of one worker, yielding each once it is whole.

    Args:
        fragments: What to write.
        folder: An existing folder.
        name: What the files' names begin with; unique among the workers.
    """
    limit, part, filled, written = max(1, PART_BYTES // NUMBER_BYTES), list[Fragment](), 0, 0
    for fragment in fragments:
        start = fragment.start
        while start < fragment.stop:
            piece = fragment.cut(start, min(fragment.stop, start + limit - filled))
            part.append(piece)
            filled += piece.stop - piece.start
            start = piece.stop
            if filled == limit:
                yield _write(part, folder / f"{name}-{written:04d}.safetensors")
                part, filled, written = [], 0, written + 1
    if part:
        yield _write(part, folder / f"{name}-{written:04d}.safetensors")


def read_parts(fragments: Sequence[Fragment], files: Sequence[Path]) -> None:
    """Fills fragments from files that cover them; the files are mapped, and only these numbers are read.

    Raises:
        StorageError: Some of the numbers are in no file.
    """
    with ExitStack() as opened:
        saved: dict[str, list[tuple[int, int, Any]]] = defaultdict(list)
        for path in files:
            file = opened.enter_context(safetensors.safe_open(path, framework="pt"))
            for key in file.keys():  # noqa: SIM118 - not a dict, and has no iterator
                name, start, state = key.rsplit(":", 2)
                if state == STATES[0]:
                    length = file.get_slice(key).get_shape()[0]
                    saved[name].append((int(start), int(start) + length, file))
        for fragment in fragments:
            _fill(fragment, saved[fragment.name])


def _write(part: list[Fragment], path: Path) -> Path:
    arrays = {
        f"{fragment.name}:{fragment.start}:{state}": fragment.tensors[state].detach().cpu().numpy()
        for fragment in part
        for state in STATES
    }
    path.write_bytes(safetensors.numpy.save(arrays))  # not save_file: its errors do not tell a full disk
    return path


def _fill(fragment: Fragment, saved: list[tuple[int, int, Any]]) -> None:
    missing = fragment.stop - fragment.start
    for start, stop, file in saved:
        first, last = max(start, fragment.start), min(stop, fragment.stop)
        if first >= last:
            continue
        missing -= last - first
        for state, target in fragment.cut(first, last).tensors.items():
            target.copy_(file.get_slice(f"{fragment.name}:{start}:{state}")[first - start : last - start])
    if missing:
        raise StorageError(
            f"The saved state lacks {missing} of the numbers {fragment.start} to {fragment.stop} of {fragment.name}. "
            "Remove it, and the run goes on from the one before or starts anew."
        )
