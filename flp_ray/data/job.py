"""One preparation of text: its settings, its folder, and the steps that preparing and growing share.

Everything is written below a folder named by its fingerprint; a step whose files are there is not done again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText, TokenBlocks
from flp_ray.data.config import TextConfig, TextOrigin
from flp_ray.data.domains import CHARACTERS_PER_TOKEN, domain_texts, write_domain
from flp_ray.data.drafts import Draft
from flp_ray.data.identity import content_id, contents
from flp_ray.data.items import write_items
from flp_ray.data.manifest import write_json
from flp_ray.data.origins import read_documents
from flp_ray.data.sources import write_source
from flp_ray.data.split import Decontaminator, held_out
from flp_ray.data.spool import Spool, write_spool
from flp_ray.data.standing import excerpts_path, keys_path, write_excerpts, write_keys
from flp_ray.data.tokenizer import TextEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One preparation.

    Attributes:
        config: Settings of the text.
        items: Built-in tasks to make items for.
        seed: The study's seed.
        folder: Where to.
        say: Called with a line of text at each step.
    """

    config: TextConfig
    items: tuple[ItemSet, ...]
    seed: int
    folder: Path
    say: Callable[[str], None]

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
        tokens = (self.config.domains[domain].sequences + items) * self.config.sequence_length
        return max(CHARACTERS_PER_TOKEN * tokens, 1_000_000)


def source_spool(job: Job, name: str) -> Spool:
    """Reads a source to disk, split into documents for training and documents held out."""
    job.say(f"reading source {name}")
    return write_spool(
        read_documents(job.config.sources[name], name=name),
        job.path("work/sources", name),
        is_held_out=lambda document: held_out(document, fraction=job.config.held_out_fraction, seed=job.seed),
    )


def domain_spool(job: Job, name: str) -> Spool:
    """Reads a domain's own text to disk, all of which is held out."""
    job.say(f"reading domain {name}")
    origin: TextOrigin = job.config.domains[name]
    if origin.max_characters is None:
        origin = origin.model_copy(update={"max_characters": job.enough_characters(name)})
    return write_spool(
        read_documents(origin, name=name), job.path("work/domains", name), is_held_out=lambda document: True
    )


def finished_domain(job: Job, name: str) -> tuple[TokenBlocks, dict[str, int]] | None:
    """A domain's blocks and what was left out of it, where an earlier call has written them whole."""
    path = job.path("domains", name, ".npy")
    return _finished(path) if excerpts_path(path).exists() else None


def make_domain(
    job: Job,
    name: str,
    excerpts: Sequence[str],
    encoder: TextEncoder,
    *,
    removed: Mapping[str, int],
    left_out: str = "",
) -> TokenBlocks:
    """Writes a domain's blocks and its excerpts.

    Args:
        job: The preparation.
        name: The domain.
        excerpts: Excerpts to take from, in the order in which they are taken.
        encoder: The study's tokenizer.
        removed: What was left out before, by reason.
        left_out: The same in words, for a refusal.
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
    _finish(path, blocks, removed)
    return blocks


def finished_items(job: Job, item_set: ItemSet) -> dict[str, int] | None:
    """What was left out of a task's questions, where an earlier call has written them whole."""
    path = job.items_path(item_set.task)
    done = path.with_suffix(".json")
    return dict(json.loads(done.read_text())["removed"]) if done.exists() and path.exists() else None


def make_items(
    job: Job, item_set: ItemSet, drafts: Sequence[Draft], *, removed: Mapping[str, int], left_out: str = ""
) -> None:
    """Writes the items of a task.

    Args:
        job: The preparation.
        item_set: The task.
        drafts: Its questions, the first of which are taken.
        removed: What was left out before, by reason.
        left_out: The same in words.
    """
    path = job.items_path(item_set.task)
    write_items(item_set, drafts, path, seed=job.seed, left_out=left_out)
    write_json(path.with_suffix(".json"), {"removed": dict(removed)})
    job.say(f"task {item_set.task}: {item_set.items} items{left_out}")


def make_source(
    job: Job,
    name: str,
    spool: Spool,
    earlier: Sequence[NDArray[np.uint64]],
    encoder: TextEncoder,
    decontaminator: Decontaminator,
) -> tuple[TokenBlocks, dict[str, int]]:
    """Writes a source's blocks and the keys of its documents, or finds them written; with what was dropped."""
    path = job.path("sources", name, ".npy")
    if (finished := _finished(path)) is not None and keys_path(path).exists():
        return finished
    job.say(f"tokenising source {name}")
    blocks, dropped = write_source(
        name,
        spool,
        earlier,
        encoder,
        decontaminator,
        path,
        vocabulary=job.config.tokenizer.vocabulary,
        sequence_length=job.config.sequence_length,
    )
    write_keys(spool.keys(), path)
    _finish(path, blocks, dropped)
    return blocks, dropped


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


def _finished(path: Path) -> tuple[TokenBlocks, dict[str, int]] | None:
    """What a step gave, from the file beside its blocks, which is written last."""
    done = path.with_suffix(".json")
    if not (done.exists() and path.exists()):
        return None
    value: dict[str, Any] = json.loads(done.read_text())
    return TokenBlocks(**{**value["blocks"], "path": str(path)}), value["removed"]


def _finish(path: Path, blocks: TokenBlocks, removed: Mapping[str, int]) -> None:
    write_json(path.with_suffix(".json"), {"blocks": asdict(blocks), "removed": dict(removed)})
