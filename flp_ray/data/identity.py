"""What text is the same text: the identities that run ids carry, and the hashes that spare a second preparation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText, TextIdentity
from flp_ray.data.config import SourceText, TextConfig, TextOrigin
from flp_ray.data.items import items_hash
from flp_ray.data.origins import origin_state

PREPARATION = 2
"""Raised when the same settings would give other text than before."""


def text_identity(config: TextConfig, seed: int, *, tokenizer: str | None = None) -> TextIdentity:
    """Identity of a study's training text by source, from its settings alone.

    Domains are left out, so that another validation set does not rename every run; so are the other sources, but for
    the tokenizer that was trained on them. What decontamination against domains changes is told by
    `PreparedText.content_id`.

    Args:
        config: Settings of the text.
        seed: The study's seed, which also draws the held-out documents.
        tokenizer: Identity of a tokenizer that is kept; None takes the one that these sources would give.
    """
    shared = [
        PREPARATION,
        tokenizer_id(config, seed) if tokenizer is None else tokenizer,
        config.sequence_length,
        config.held_out_fraction,
        config.decontamination_ngram,
        seed,
    ]
    sources = {name: stable_hash(_read_as(source)) for name, source in config.sources.items()}
    return TextIdentity(shared=stable_hash(shared), sources=sources)


def tokenizer_id(config: TextConfig, seed: int) -> str:
    """Identity of the tokenizer: its settings, and, where it is trained, the sources in their order and the split."""
    settings = config.tokenizer.model_dump(mode="json")
    if config.tokenizer.hugging_face is not None:
        return stable_hash(settings)
    sources = [[name, _read_as(source)] for name, source in config.sources.items()]
    return stable_hash([settings, sources, config.held_out_fraction, seed])


def source_settings(source: SourceText) -> dict[str, Any]:
    """What of a source's settings defines its text, defaults left out."""
    return source.model_dump(mode="json", exclude={"tokens"}, exclude_defaults=True)


def _read_as(source: SourceText) -> dict[str, Any]:
    """A source's settings, and that hub data sets are read by file: version 0.1 read their rows in another order."""
    return source_settings(source) | ({"by": "file"} if source.hub is not None else {})


def settings_hash(config: TextConfig, items: Sequence[ItemSet], seed: int) -> str:
    """Identity of all that is prepared, as far as settings tell; `max_epochs` and `tokens` change nothing."""
    identity = text_identity(config, seed)
    # Pairs in their order: a text that several sources hold stays with the first.
    sources = [[name, identity.sources[name]] for name in config.sources]
    domains = {name: domain.model_dump(mode="json") for name, domain in config.domains.items()}
    tasks = [asdict(item_set) for item_set in sorted(items, key=lambda item_set: item_set.task)]
    return stable_hash([PREPARATION, identity.shared, sources, domains, tasks])


def origins_hash(config: TextConfig) -> str:
    """Identity of what the origins hold now: versions of packages, sizes and times of files.

    Raises:
        TextError: A file is not there.
    """
    texts: dict[str, TextOrigin] = {f"source {name}": source for name, source in config.sources.items()}
    texts |= {f"domain {name}": domain for name, domain in config.domains.items() if domain.held_out is None}
    return stable_hash({name: origin_state(origin, name=name) for name, origin in texts.items()})


def contents(text: PreparedText) -> dict[str, str]:
    """Hash of what each part holds: `source NAME`, `domain NAME` and `task NAME`."""
    blocks = {f"source {name}": b.content_hash for name, b in text.sources.items()}
    blocks |= {f"domain {name}": b.content_hash for name, b in text.domains.items()}
    return blocks | {f"task {name}": items_hash(Path(path)) for name, path in text.items.items()}


def content_id(parts: Mapping[str, str], vocabulary: int) -> str:
    """One hash over the contents of all parts."""
    return stable_hash([dict(parts), vocabulary])
