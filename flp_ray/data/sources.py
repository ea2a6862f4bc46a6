"""Training text of one source: what its spool holds, less what repeats and what the domains show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.text import TokenBlocks
from flp_ray.data.blocks import write_blocks
from flp_ray.data.documents import Document
from flp_ray.data.split import Decontaminator
from flp_ray.data.spool import Spool
from flp_ray.data.tokenizer import TextEncoder
from flp_ray.errors import TextError

DUPLICATE = "exact duplicate"
OVERLAP = "shares text with a domain or task"

_CHARACTERS_AT_ONCE = 2_000_000


def write_source(
    name: str,
    spool: Spool,
    earlier: Sequence[NDArray[np.uint64]],
    encoder: TextEncoder,
    decontaminator: Decontaminator,
    path: Path,
    *,
    vocabulary: int,
    sequence_length: int,
) -> tuple[TokenBlocks, dict[str, int]]:
    """Writes a source's training documents as token blocks.

    Args:
        name: The source.
        spool: Its documents.
        earlier: Text keys of the sources before it, each (documents,); a text that several hold stays with the first.
        encoder: The study's tokenizer.
        decontaminator: Knows what domains and items show.
        path: Where to.
        vocabulary: Number of tokens.
        sequence_length: Tokens per sequence.

    Returns:
        The blocks, and how many documents were dropped, by source and reason.

    Raises:
        TextError: What is left does not fill one sequence.
    """
    dropped: Counter[str] = Counter({f"{name}: {DUPLICATE}": spool.duplicates})
    texts = _kept(spool, np.concatenate([np.empty(0, np.uint64), *earlier]), decontaminator, name, dropped)
    blocks = write_blocks(texts, encoder, path, vocabulary=vocabulary, sequence_length=sequence_length)
    if not blocks.sequences:
        raise TextError(
            f"Source {name!r} is shorter than one sequence of {sequence_length} tokens: of "
            f"{spool.documents + spool.held_out} documents {blocks.documents} with {blocks.characters} "
            f"characters are left for training (held out: {spool.held_out}; dropped: {dict(+dropped) or 'none'}). "
            "Give it more text."
        )
    return blocks, dict(dropped)


def _kept(
    spool: Spool, earlier: NDArray[np.uint64], decontaminator: Decontaminator, name: str, dropped: Counter[str]
) -> Iterator[str]:
    """Training documents that no earlier source and no domain has; counts the others into `dropped`."""
    at = 0
    repeated = np.isin(spool.keys(), earlier)
    for batch in _batches(spool.training()):
        texts = [document.text for document in batch]
        again = repeated[at : at + len(batch)]
        overlapping = decontaminator.overlapping(texts) & ~again
        at += len(batch)
        dropped[f"{name}: {DUPLICATE}"] += int(again.sum())
        dropped[f"{name}: {OVERLAP}"] += int(overlapping.sum())
        yield from (text for text, out in zip(texts, again | overlapping, strict=True) if not out)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
