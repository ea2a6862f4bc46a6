"""What text is the same text: the hash that run ids carry, and the one that spares a second preparation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet
from flp_ray.data.config import TextConfig
from flp_ray.data.origins import origin_state

PREPARATION = 1
"""Raised when the same settings would give other text than before."""


def text_id(config: TextConfig, seed: int) -> str:
    """Identity of a study's training text, from its settings alone.

    Domains are left out, so that another validation set does not rename every run; what decontamination
    against them changes is told by `PreparedText.content_id`.

    Args:
        config: Settings of the text.
        seed: The study's seed, which also draws the held-out documents.
    """
    return stable_hash(
        {
            "sources": {name: source.model_dump(exclude={"tokens"}) for name, source in config.sources.items()},
            "tokenizer": config.tokenizer.model_dump(),
            "sequence_length": config.sequence_length,
            "held_out_fraction": config.held_out_fraction,
            "decontamination_ngram": config.decontamination_ngram,
            "seed": seed,
        }
    )


def settings_hash(config: TextConfig, items: Sequence[ItemSet], seed: int) -> str:
    """Identity of all that is prepared, as far as settings tell; `max_epochs` and `tokens` change nothing."""
    domains = {name: domain.model_dump() for name, domain in config.domains.items()}
    tasks = [asdict(item_set) for item_set in sorted(items, key=lambda item_set: item_set.task)]
    return stable_hash([PREPARATION, text_id(config, seed), domains, tasks])


def origins_hash(config: TextConfig) -> str:
    """Identity of what the origins hold now: versions of packages, sizes and times of files.

    Raises:
        TextError: A file is not there.
    """
    texts = {f"source {name}": source for name, source in config.sources.items()}
    domains = {f"domain {name}": domain for name, domain in config.domains.items() if domain.held_out is None}
    return stable_hash({name: origin_state(origin, name=name) for name, origin in (texts | domains).items()})
