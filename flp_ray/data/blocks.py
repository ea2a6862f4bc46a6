"""Documents to token blocks: one memory-mapped array of token ids a text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.text import TokenBlocks
from flp_ray.data.tokenizer import TextEncoder

CHARACTERS_AT_ONCE = 1_000_000
"""Text that is encoded in one call: bounds the memory of the tokenizer's results."""


def write_blocks(
    texts: Iterable[str],
    encoder: TextEncoder,
    path: Path,
    *,
    vocabulary: int,
    sequence_length: int,
    sequences: int | None = None,
) -> TokenBlocks:
    """Encodes texts, joins them with the end-of-text token and cuts them into sequences.

    What does not fill the last sequence is dropped. The file appears under its name only when it is whole.

    Args:
        texts: Documents in the order in which they are laid end to end; read as far as needed.
        encoder: The study's tokenizer.
        path: The `.npy` file to write.
        vocabulary: Number of tokens; decides between 16 and 32 bits an id.
        sequence_length: Tokens per sequence.
        sequences: At most this many sequences; None takes all.

    Returns:
        What was written; `documents` and `characters` count every document that was begun.
    """
    dtype = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".tmp")
    content = hashlib.sha256(f"{dtype.str} {sequence_length} ".encode())
    wanted = None if sequences is None else sequences * sequence_length
    documents = characters = written = 0
    rest = np.empty(0, dtype)
    with building.open("wb") as file:
        _write_header(file, dtype, (0, sequence_length))
        for batch in _batches(texts):
            ids = np.concatenate([rest, *_joined(batch, encoder, dtype)])
            documents += len(batch)
            characters += sum(map(len, batch))
            stop = len(ids) - len(ids) % sequence_length
            if wanted is not None:
                stop = min(stop, wanted - written)
            block = ids[:stop].tobytes()
            file.write(block)
            content.update(block)
            written += stop
            rest = ids[stop:]
            if written == wanted:
                break
        file.seek(0)
        _write_header(file, dtype, (written // sequence_length, sequence_length))
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)
    return TokenBlocks(
        path=str(path),
        sequences=written // sequence_length,
        sequence_length=sequence_length,
        documents=documents,
        characters=characters,
        content_hash=content.hexdigest()[:16],
    )


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _joined(
    batch: list[str], encoder: TextEncoder, dtype: np.dtype[np.unsignedinteger]
) -> Iterator[NDArray[np.unsignedinteger]]:
    end = np.array([encoder.end], dtype)
    for ids in encoder.encode(batch):
        yield ids.astype(dtype)
        yield end


def _write_header(file: IO[bytes], dtype: np.dtype[np.unsignedinteger], shape: tuple[int, int]) -> None:
    """Writes a `.npy` header; numpy pads it for a growing first axis, so it can be written again in place."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
