"""Built-in multiple-choice items as JSON lines.

A choice follows its question after one space, which is lm-eval's own delimiter; a question may be empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from flp_ray.core.text import ItemSet
from flp_ray.data.documents import hash64
from flp_ray.data.drafts import Draft, code_syntaxes, continuations, word_orders
from flp_ray.data.tokenizer import TextEncoder
from flp_ray.errors import TextError

_DRAFTS_AT_ONCE = 256


def draft_items(
    item_set: ItemSet,
    texts: Sequence[str],
    encoder: TextEncoder,
    *,
    sequence_length: int,
    seed: int,
    wanted: int | None = None,
) -> list[Draft]:
    """Drafts the questions of one task.

    Args:
        item_set: Which task, of what kind, how many items.
        texts: The domain's held-out documents that no loss is measured on.
        encoder: The study's tokenizer; question and choice together fit into one sequence.
        sequence_length: Tokens per sequence.
        seed: Another seed makes other items.
        wanted: Drafts at most, where some will be left out; the items asked for by default.

    Returns:
        As many drafts as are wanted, or fewer where the documents give no more.
    """
    wanted = item_set.items if wanted is None else wanted
    rng = _random(item_set, "items", seed)
    texts = rng.sample(texts, len(texts))
    drafts = _drafts(item_set, texts, encoder, rng, sequence_length, wanted)
    return list(islice(_fitting(drafts, encoder, sequence_length), wanted))


def write_items(item_set: ItemSet, drafts: Sequence[Draft], path: Path, *, seed: int, left_out: str = "") -> None:
    """Writes the items of one task: one JSON object a line with id, question, choices, gold.

    Args:
        item_set: Which task, how many items.
        drafts: Its drafts, the first of which are taken.
        path: Where to.
        seed: Another seed shuffles the choices differently.
        left_out: What was left out of the drafts, for the message.

    Raises:
        TextError: There are fewer drafts than items asked for.
    """
    kept = drafts[: item_set.items]
    if len(kept) < item_set.items:
        raise TextError(
            f"Task {item_set.task!r} ({item_set.kind}): {item_set.items} items are wanted, the held-out documents of "
            f"domain {item_set.domain!r} give {len(kept)}{left_out}; ask for at most {len(kept)} items, give the "
            "domain more text, or hold out more (text.held_out_fraction)."
        )
    golds = [number % (len(kept[0].wrong) + 1) for number in range(len(kept))]
    _random(item_set, "golds", seed).shuffle(golds)
    building = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    with building.open("w") as file:
        for number, (draft, gold) in enumerate(zip(kept, golds, strict=True)):
            choices = [*draft.wrong[:gold], draft.right, *draft.wrong[gold:]]
            row = {
                "id": f"{item_set.task}-{number}",
                "question": draft.question,
                "choices": choices,
                "gold": gold,
            }
            file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)


def draft_texts(draft: Draft) -> list[str]:
    """All text that a draft shows, each choice behind its question."""
    return [f"{draft.question} {choice}" for choice in (draft.right, *draft.wrong)]


def item_texts(path: Path) -> Iterator[str]:
    """All text that the items of a file show, each choice behind its question."""
    with path.open() as file:
        for line in file:
            row = json.loads(line)
            yield from (f"{row['question']} {choice}" for choice in row["choices"])


def items_hash(path: Path) -> str:
    """Hash of an item file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _random(item_set: ItemSet, what: str, seed: int) -> random.Random:
    return random.Random(hash64(f"{item_set.task} {item_set.kind} {item_set.domain}", salt=f"{what} {seed}"))


def _drafts(
    item_set: ItemSet,
    texts: Sequence[str],
    encoder: TextEncoder,
    rng: random.Random,
    sequence_length: int,
    wanted: int,
) -> Iterator[Draft]:
    if item_set.kind == "continuation":
        return continuations(texts, encoder, rng, sequence_length=sequence_length, wanted=wanted)
    if item_set.kind == "word_order":
        return word_orders(texts, rng)
    # A token is at least one character and mostly two or more; longer pieces than this rarely fit.
    return code_syntaxes(texts, encoder, rng, max_characters=2 * sequence_length)


def _fitting(drafts: Iterator[Draft], encoder: TextEncoder, sequence_length: int) -> Iterator[Draft]:
    """Drafts that fit into a sequence with the token that begins a text, each question and choice once."""
    seen: set[tuple[str, str]] = set()
    while batch := list(islice(drafts, _DRAFTS_AT_ONCE)):
        rows = [text for draft in batch for text in draft_texts(draft)]
        lengths = iter(encoder.lengths(rows))
        for draft in batch:
            longest = max([next(lengths) for _ in (draft.right, *draft.wrong)])
            if longest < sequence_length and (draft.question, draft.right) not in seen:
                seen.add((draft.question, draft.right))
                yield draft
