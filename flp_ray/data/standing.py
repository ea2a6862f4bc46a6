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


def write_excerpts(excerpts: Sequence[str], blocks: Path) -> None:
    """Keeps the excerpts of a domain, one JSON string a line."""
    path = excerpts_path(blocks)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".tmp")
    building.write_text("".join(json.dumps(excerpt) + "\n" for excerpt in excerpts))
    building.replace(path)


def key_files(blocks: TokenBlocks) -> list[Path]:
    """The text keys of a source's documents, one file a shard."""
    return [keys_path(path) for path in blocks.files()]


def used_excerpts(text: PreparedText) -> set[int]:
    """Text keys of the excerpts that the losses of all domains are measured on."""
    return {text_key(excerpt) for blocks in text.domains.values() for excerpt in _excerpts(excerpts_path(blocks.path))}


def shown_in(excerpts: Sequence[Path], items: Sequence[Path]) -> Iterator[str]:
    """All text that domains and items show: what training text must not share.

    Args:
        excerpts: The domains' files of excerpts.
        items: The tasks' files of items.
    """
    for path in excerpts:
        yield from _excerpts(path)
    for path in items:
        yield from item_texts(path)


def _excerpts(path: Path) -> Iterator[str]:
    with path.open() as file:
        yield from map(json.loads, file)


def trained_on(path: Path, tokenizer: Path) -> Iterator[list[str]]:
    """The training text of one file of token blocks, decoded from its tokens, in batches of documents.

    Args:
        path: The file.
        tokenizer: The folder of the tokenizer, which decodes what it has encoded.
    """
    encoder = TextEncoder(tokenizer)
    rows = np.load(path, mmap_mode="r")
    step = max(1, TOKENS_AT_ONCE // rows.shape[1])
    rest = np.empty(0, rows.dtype)
    for start in range(0, len(rows), step):
        ids = np.concatenate([rest, rows[start : start + step].ravel()])
        *whole, rest = np.split(ids, np.flatnonzero(ids == encoder.end) + 1)
        if len(rest) > TOKENS_AT_ONCE:
            whole.append(rest)
            rest = rest[len(rest) - _OVERLAP_TOKENS :]
        yield encoder.decode(whole)
    yield encoder.decode([rest])
