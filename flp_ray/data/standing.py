"""What prepared text leaves beside its token blocks, so that a study can grow while the text stands still.

A source keeps the keys of its documents, so that a later source repeats none of them; a domain keeps the excerpts that
it shows, so that a later source is decontaminated against them. What runs were trained on is read from the token blocks
themselves: nothing else is sure to be what they saw.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.text import PreparedText, TokenBlocks
from flp_ray.data.documents import text_key
from flp_ray.data.items import item_texts
from flp_ray.data.tokenizer import TextEncoder

TOKENS_AT_ONCE = 1 << 20
"""Tokens that are decoded in one call: bounds the memory."""

_OVERLAP_TOKENS = 4096
"""A document too long for one call is cut; its parts overlap by so much, which holds an n-gram of any usual length."""


def keys_path(blocks: str | Path) -> Path:
    """Where the text keys of a source's documents stand, beside its token blocks."""
    return Path(blocks).with_suffix(".keys.npy")


def excerpts_path(blocks: str | Path) -> Path:
    """Where the excerpts of a domain stand, beside its token blocks."""
    return Path(blocks).with_suffix(".excerpts.jsonl")


def write_keys(keys: NDArray[np.uint64], blocks: Path) -> None:
    """Keeps the text keys of a source, shape (documents,)."""
    path = keys_path(blocks)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".tmp")
    with building.open("wb") as file:
        np.save(file, keys)
    building.replace(path)


def write_excerpts(excerpts: Sequence[str], blocks: Path) -> None:
    """Keeps the excerpts of a domain, one JSON string a line."""
    path = excerpts_path(blocks)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".tmp")
    building.write_text("".join(json.dumps(excerpt) + "\n" for excerpt in excerpts))
    building.replace(path)


def source_keys(text: PreparedText) -> list[NDArray[np.uint64]]:
    """Text keys of the documents of every source, each (documents,)."""
    return [np.load(keys_path(blocks.path)) for blocks in text.sources.values()]


def excerpts(text: PreparedText) -> Iterator[str]:
    """The excerpts that the losses of all domains are measured on."""
    for blocks in text.domains.values():
        with excerpts_path(blocks.path).open() as file:
            yield from map(json.loads, file)


def used_excerpts(text: PreparedText) -> set[int]:
    """Text keys of these excerpts."""
    return set(map(text_key, excerpts(text)))


def shown(text: PreparedText) -> Iterator[str]:
    """All text that domains and items show: what training text must not share."""
    yield from excerpts(text)
    for path in text.items.values():
        yield from item_texts(Path(path))


def trained_on(text: PreparedText) -> Iterator[list[str]]:
    """The training text of all sources, decoded from their tokens, in batches of documents.

    Args:
        text: The prepared text; its tokenizer decodes what it has encoded.
    """
    encoder = TextEncoder(Path(text.tokenizer))
    for blocks in text.sources.values():
        yield from _documents(blocks, encoder)


def _documents(blocks: TokenBlocks, encoder: TextEncoder) -> Iterator[list[str]]:
    rows = blocks.open()
    step = max(1, TOKENS_AT_ONCE // blocks.sequence_length)
    rest = np.empty(0, rows.dtype)
    for start in range(0, len(rows), step):
        ids = np.concatenate([rest, rows[start : start + step].ravel()])
        *whole, rest = np.split(ids, np.flatnonzero(ids == encoder.end) + 1)
        if len(rest) > TOKENS_AT_ONCE:
            whole.append(rest)
            rest = rest[len(rest) - _OVERLAP_TOKENS :]
        yield encoder.decode(whole)
    yield encoder.decode([rest])
