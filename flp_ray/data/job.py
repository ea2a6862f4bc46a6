"""One preparation of text: its settings and its folder, and how domains and items are written there.

Everything is written below a folder named by its fingerprint; a step whose files are there is not done again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText, TokenBlocks
from flp_ray.data.config import TextConfig, TextOrigin
from flp_ray.data.domains import CHARACTERS_PER_TOKEN, domain_texts, write_domain
from flp_ray.data.drafts import Draft
from flp_ray.data.identity import content_id, contents
from flp_ray.data.items import write_items
from flp_ray.data.standing import excerpts_path, write_excerpts
from flp_ray.data.tokenizer import TextEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One preparation.

    Attributes:
        config: Settings of the text.
        items: Built-in tasks to make items for.
        seed: The study's seed.
        folder: Where to; absolute.
    """

    config: TextConfig
    items: tuple[ItemSet, ...]
    seed: int
    folder: Path

    def path(self, kind: str, name: str, suffix: str = "") -> Path:
        """Where one text's file goes; a name that is no plain file name gets a hash."""
        plain = re.sub(r"[^\w-]", "_", name)
        return self.folder / kind / (plain + ("" if plain == name else "-" + stable_hash(name, length=6)) + suffix)

    def items_path(self, task: str) -> Path:
        """Where the items of a task go."""
        return self.path("items", task, ".jsonl")

    def items_of(self, domain: str) -> list[ItemSet]:
        """The tasks that ask about a domain."""
        return [item_set for item_set in self.items if item_set.domain == domain]

    def enough_characters(self, domain: str) -> int:
        """Text to look at for a domain: a sample of many times what its loss and its items need."""
        items = sum(item_set.items for item_set in self.items_of(domain))
        return enough_characters(self.config, domain, items)

    def own_origin(self, domain: str) -> TextOrigin:
        """Where a domain's own text comes from, with a limit."""
        origin: TextOrigin = self.config.domains[domain]
        if origin.max_characters is not None:
            return origin
        return origin.model_copy(update={"max_characters": self.enough_characters(domain)})


def enough_characters(config: TextConfig, domain: str, items: int) -> int:
    """Text to look at for a domain of which a number of items is made."""
    tokens = (config.domains[domain].sequences + items) * config.sequence_length
    return max(CHARACTERS_PER_TOKEN * tokens, 1_000_000)


def make_domain(
    job: Job,
    name: str,
    excerpts: Sequence[str],
    encoder: TextEncoder,
    *,
    left_out: str = "",
) -> dict[str, Any]:
    """Writes a domain's blocks and its excerpts; returns the blocks as JSON.

    Args:
        job: The preparation.
        name: The domain.
        excerpts: Excerpts to take from, in the order in which they are taken.
        encoder: The study's tokenizer.
        left_out: What was left out before, in words, for a refusal.
    """
    config = job.config
    wanted, length = config.domains[name].sequences, config.sequence_length
    texts = domain_texts(excerpts, encoder, sequences=wanted, sequence_length=length)
    path = job.path("domains", name, ".npy")
    blocks = write_domain(
        name,
        texts,
        encoder,
        path,
        vocabulary=config.tokenizer.vocabulary,
        sequences=wanted,
        sequence_length=length,
        left_out=left_out,
    )
    write_excerpts(texts, path)
    return asdict(blocks)


def make_items(job: Job, item_set: ItemSet, drafts: Sequence[Draft], *, left_out: str = "") -> None:
    """Writes the items of a task.

    Args:
        job: The preparation.
        item_set: The task.
        drafts: Its questions, the first of which are taken.
        left_out: What was left out before, in words, for a refusal.
    """
    write_items(item_set, drafts, job.items_path(item_set.task), seed=job.seed, left_out=left_out)


def domain_files(job: Job, name: str) -> tuple[Path, Path]:
    """Where a domain's blocks and excerpts go."""
    path = job.path("domains", name, ".npy")
    return path, excerpts_path(path)


def domain_blocks(job: Job, name: str, value: Mapping[str, Any]) -> TokenBlocks:
    """A domain's blocks from JSON, wherever its folder has been moved to."""
    return replace(TokenBlocks.from_dict(value), path=str(job.path("domains", name, ".npy")))


def whole(text: PreparedText, removed: Mapping[str, int]) -> PreparedText:
    """The text with its contents' identity, and the counts of what was dropped in the order of their names."""
    counts = Counter(text.removed) + Counter(removed)
    return PreparedText(
        sources=text.sources,
        domains=text.domains,
        items=text.items,
        tokenizer=text.tokenizer,
        vocabulary=text.vocabulary,
        removed={reason: count for reason, count in sorted(counts.items()) if count},
        content_id=content_id(contents(text), text.vocabulary),
    )
