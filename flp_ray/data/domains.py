"""Held-out documents of each domain: some for its loss, others for the items of its tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flp_ray.core.text import TokenBlocks
from flp_ray.data.blocks import write_blocks
from flp_ray.data.config import DomainText
from flp_ray.data.documents import Document, hash64, share, text_key
from flp_ray.data.tokenizer import TextEncoder
from flp_ray.errors import TextError

EXCERPT_CHARACTERS = 1500
"""A domain is made of excerpts of at most this size, so that a few long documents do not fill it."""

CHARACTERS_PER_TOKEN = 64
"""Text that is looked at for each token that a domain or its items need: many times what they take."""

MIN_SEQUENCES = 16
"""With fewer sequences a domain's loss has no usable standard error."""

_EXCERPTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPool:
    """Held-out text of one domain; no document is in both parts.

    Attributes:
        loss: Documents for the domain's loss.
        items: Documents for its tasks' items; empty where no task asks.
    """

    loss: tuple[str, ...]
    items: tuple[str, ...]


def domain_pool(
    name: str,
    domains: Mapping[str, DomainText],
    documents: Iterable[Document],
    *,
    with_items: bool,
    max_characters: int,
    seed: int,
    used: Collection[int] = (),
) -> DomainPool:
    """Takes one domain's documents.

    Domains held out of the same source share its held-out documents between them. Where tasks ask for items,
    about two thirds of the text go to the items, which need more of it; a group of documents stays whole.

    Args:
        name: The domain.
        domains: All domains of the study.
        documents: Held-out documents: its own, or those of the source it is held out of; read as far as needed.
        with_items: Whether a task is made of this domain.
        max_characters: Stop looking at about this much text.
        seed: The study's seed.
        used: Keys of excerpts that other domains' losses are measured on already; their groups are passed over.
    """
    source = domains[name].held_out
    sharing = sorted(other for other, domain in domains.items() if source and domain.held_out == source) or [name]
    groups = held_groups(documents, max_characters=max_characters * len(sharing), used=used)
    # Dealt out in the order of a hash, not by the hash itself: a handful of groups must not end on one side.
    dealt = sorted(groups, key=lambda group: share(group, salt=f"domain {seed}"))[sharing.index(name) :: len(sharing)]
    loss: list[str] = []
    items: list[str] = []
    sizes = [0, 0]
    for group in dealt:
        side = int(with_items and sizes[1] < 2 * sizes[0])
        (items if side else loss).extend(groups[group])
        sizes[side] += sum(map(len, groups[group]))
    return DomainPool(loss=tuple(loss), items=tuple(items))


def held_groups(
    documents: Iterable[Document], *, max_characters: int, used: Collection[int] = ()
) -> dict[str, list[str]]:
    """Held-out documents by group, in their order.

    Args:
        documents: The documents; read as far as needed.
        max_characters: Stop looking at about this much text.
        used: Keys of excerpts; a group that holds one of them is passed over.
    """
    groups: dict[str, list[str]] = {}
    passed: set[str] = set()
    characters = 0
    for document in documents:
        group = document.group if document.group is not None else f"{text_key(document.text):x}"
        if used and group not in passed and any(text_key(excerpt) in used for excerpt in _excerpts(document.text)):
            passed.add(group)
            characters -= sum(map(len, groups.pop(group, ())))
        if group in passed:
            continue
        groups.setdefault(group, []).append(document.text)
        characters += len(document.text)
        if characters >= max_characters:
            break
    return groups


def sampled_excerpts(texts: Sequence[str], *, seed: int) -> list[str]:
    """All excerpts of a domain's documents, in the order in which they are taken.

    Args:
        texts: The documents.
        seed: The study's seed.
    """
    return sorted(
        (excerpt for text in texts for excerpt in _excerpts(text)),
        key=lambda excerpt: (hash64(excerpt, salt=f"excerpt {seed}"), excerpt),
    )


def domain_texts(excerpts: Sequence[str], encoder: TextEncoder, *, sequences: int, sequence_length: int) -> list[str]:
    """The first excerpts that fill a domain's sequences; all of them where they do not fill it.

    Args:
        excerpts: The domain's excerpts.
        encoder: The study's tokenizer.
        sequences: Sequences wanted.
        sequence_length: Tokens per sequence.
    """
    chosen: list[str] = []
    missing = sequences * sequence_length
    for start in range(0, len(excerpts), _EXCERPTS_AT_ONCE):
        batch = excerpts[start : start + _EXCERPTS_AT_ONCE]
        for excerpt, length in zip(batch, encoder.lengths(batch), strict=True):
            if missing <= 0:
                return chosen
            chosen.append(excerpt)
            missing -= length + 1  # the end-of-text token
    return chosen


def write_domain(
    name: str,
    texts: Sequence[str],
    encoder: TextEncoder,
    path: Path,
    *,
    vocabulary: int,
    sequences: int,
    sequence_length: int,
    left_out: str = "",
) -> TokenBlocks:
    """Writes a domain's excerpts as token blocks.

    Fewer sequences than asked for are taken as they are, down to `MIN_SEQUENCES`.

    Args:
        name: The domain.
        texts: Its excerpts.
        encoder: The study's tokenizer.
        path: Where to.
        vocabulary: Number of tokens.
        sequences: Sequences wanted.
        sequence_length: Tokens per sequence.
        left_out: What was left out of the excerpts, for the message.

    Raises:
        TextError: There is too little text.
    """
    blocks = write_blocks(
        texts, encoder, path, vocabulary=vocabulary, sequence_length=sequence_length, sequences=sequences
    )
    least = min(sequences, MIN_SEQUENCES)
    if blocks.sequences < least:
        raise TextError(
            f"Domain {name!r} is too short: {len(texts)} held-out pieces with {sum(map(len, texts))} "
            f"characters give {blocks.sequences} sequences of {sequence_length} tokens{left_out}; {sequences} are "
            f"asked for and at least {least} are needed. Give it more text, hold out more "
            "(text.held_out_fraction), or shorten text.sequence_length."
        )
    return blocks


def _excerpts(text: str) -> Iterator[str]:
    """Cuts a document at line ends into excerpts of about the same size."""
    count = -(-len(text) // EXCERPT_CHARACTERS)
    start = 0
    for number in range(1, count + 1):
        stop = len(text) * number // count
        if number < count:
            line = text.rfind("\n", start + 1, stop)
            stop = line + 1 if line > 0 else stop
        if text[start:stop].strip():
            yield text[start:stop]
        start = stop
