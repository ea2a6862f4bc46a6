"""Training text: a shard's documents, less what repeats and what the domains show, become token blocks."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flp_ray.core.run import stable_hash
from flp_ray.core.text import TokenBlocks
from flp_ray.data.blocks import write_blocks
from flp_ray.data.documents import Document, encodable
from flp_ray.data.scan import DROPPED, TRAINED_ON, document_fates
from flp_ray.data.shards import Shard, changed, shard_documents
from flp_ray.data.split import Decontaminator
from flp_ray.data.standing import shown_in
from flp_ray.data.tasks import TextTask, write_json
from flp_ray.data.tokenizer import TextEncoder
from flp_ray.errors import TextError

DUPLICATE = "exact duplicate"
OVERLAP = "shares text with a domain or task"

_CHARACTERS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenising:
    """What all shards are tokenised with.

    Attributes:
        tokenizer: The study's tokenizer folder.
        excerpts: Files of what the domains show.
        items: Files of what the tasks show.
        ngram: Words of an n-gram that a document must not share with them.
        vocabulary: Number of tokens.
        sequence_length: Tokens per sequence.
    """

    tokenizer: Path
    excerpts: tuple[Path, ...]
    items: tuple[Path, ...]
    ngram: int
    vocabulary: int
    sequence_length: int


def tokenise_task(shard: Shard, number: int, drops: Sequence[Path], settings: Tokenising) -> TextTask:
    """The task that makes a shard's token blocks.

    Args:
        shard: The shard, which has been read once.
        number: Its number in `drops`.
        drops: What `find_duplicates` has written.
        settings: What all shards are tokenised with.
    """
    return TextTask(
        name=f"tokenising {shard.source}, shard {shard.number}",
        function=tokenise_shard,
        arguments=(shard, number, tuple(drops), settings),
        reads=(*shard.kept_documents, shard.keys, *drops, settings.tokenizer, *settings.excerpts, *settings.items),
        writes=(shard.blocks, shard.done()),
    )


def tokenise_shard(shard: Shard, number: int, drops: Sequence[Path], settings: Tokenising) -> dict[str, Any]:
    """Reads a shard again and writes its training documents as token blocks.

    Returns:
        The blocks; documents dropped by reason; CPU seconds.

    Raises:
        TextError: The shard's files have changed since they were read first.
    """
    started = time.process_time()
    fates = document_fates(shard.keys, drops, number)
    dropped: Counter[str] = Counter({DUPLICATE: int((fates == DROPPED).sum())})
    decontaminator = _decontaminator(settings.excerpts, settings.items, settings.ngram)
    texts = _clean(_training(shard, fates.tolist()), decontaminator, dropped)
    blocks = write_blocks(
        texts,
        TextEncoder(settings.tokenizer),
        shard.blocks,
        vocabulary=settings.vocabulary,
        sequence_length=settings.sequence_length,
    )
    result = {"blocks": asdict(blocks), "removed": dict(dropped), "cpu_seconds": time.process_time() - started}
    write_json(shard.done(), result)
    return result


def joined_blocks(
    name: str, shards: Sequence[Shard], read: Sequence[Mapping[str, Any]], tokenised: Sequence[Mapping[str, Any]]
) -> tuple[TokenBlocks, dict[str, int]]:
    """A source's blocks from those of its shards, and how many documents were dropped, by source and reason.

    Args:
        name: The source.
        shards: Its shards.
        read: What the first reading of each returned.
        tokenised: What tokenising each returned.

    Raises:
        TextError: What is left does not fill one sequence.
    """
    parts = [TokenBlocks.from_dict(result["blocks"]) for result in tokenised]
    dropped: Counter[str] = Counter()
    for result in tokenised:
        dropped.update({f"{name}: {reason}": count for reason, count in result["removed"].items()})
    documents, characters = sum(part.documents for part in parts), sum(part.characters for part in parts)
    if not any(part.sequences for part in parts):
        raise TextError(
            f"Source {name!r} is shorter than one sequence of {parts[0].sequence_length} tokens: of "
            f"{sum(r['documents'] for r in read)} documents {documents} with {characters} characters are left for "
            f"training (held out: {sum(r['held_out'] for r in read)}; dropped: {dict(+dropped) or 'none'}). "
            "Give it more text."
        )
    if len(parts) == 1:
        return replace(parts[0], path=str(shards[0].blocks)), dict(dropped)
    blocks = TokenBlocks(
        path=str(shards[0].base.parent),
        sequences=sum(part.sequences for part in parts),
        sequence_length=parts[0].sequence_length,
        documents=documents,
        characters=characters,
        content_hash=stable_hash([part.content_hash for part in parts], length=16),
        shards=tuple(part.sequences for part in parts),
    )
    return blocks, dict(dropped)


def _training(shard: Shard, fates: Sequence[int]) -> Iterator[Document]:
    """The training documents of a shard that repeat none."""
    count = 0
    for document in shard_documents(shard):
        if count == len(fates):
            raise changed(shard)
        if fates[count] == TRAINED_ON:
            yield document
        count += 1
    if count != len(fates):
        raise changed(shard)


def _clean(documents: Iterator[Document], decontaminator: Decontaminator, dropped: Counter[str]) -> Iterator[str]:
    """Texts of the documents that share nothing with what is shown; counts the others into `dropped`."""
    for texts in _batches(documents):
        overlapping = decontaminator.overlapping(texts)
        dropped[OVERLAP] += int(np.count_nonzero(overlapping))
        yield from (text for text, out in zip(texts, overlapping, strict=True) if not out)


def _batches(documents: Iterator[Document]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(encodable(document.text))
        size += len(document.text)
        if size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@functools.lru_cache(maxsize=1)
def _decontaminator(excerpts: tuple[Path, ...], items: tuple[Path, ...], ngram: int) -> Decontaminator:
    """Kept for the next shard in this process; the files stand below the folder of one fingerprint."""
    return Decontaminator(shown_in(excerpts, items), ngram=ngram)
