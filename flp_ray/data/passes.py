"""The passes over a study's sources: read all, drop what repeats, and, once the domains are made, tokenise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flp_ray.core.text import PreparedText, TokenBlocks
from flp_ray.data.disk import check_space, estimated_bytes
from flp_ray.data.duplicates import duplicate_tasks
from flp_ray.data.held import held_files, held_task
from flp_ray.data.job import Job
from flp_ray.data.origins import empty
from flp_ray.data.scan import scan_task
from flp_ray.data.shards import Shard, source_shards
from flp_ray.data.sources import Tokenising, joined_blocks, tokenise_task
from flp_ray.data.standing import excerpts_path, key_files
from flp_ray.data.steps import Steps, tokens_per_core_second


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSources:
    """Sources after the first pass.

    Attributes:
        shards: Shards by source.
        first: Number of a source's first shard in `drops`.
        drops: The documents that repeat others.
        results: What the first reading of each shard returned, by source.
        seconds: CPU seconds of the pass.
    """

    shards: dict[str, tuple[Shard, ...]]
    first: dict[str, int]
    drops: tuple[Path, ...]
    results: dict[str, list[dict[str, Any]]]
    seconds: float

    def held(self, job: Job, steps: Steps, name: str, enough: int) -> list[Path]:
        """Files with documents held out of a source, at least so many characters where there are so many."""
        folder, first = job.path("work/held", name), self.first[name]

        return held_files(
            self.shards[name],
            lambda shard, limit: held_task(shard, first + shard.number, self.drops, folder, limit),
            enough=enough,
            steps=steps,
        )


def cut_sources(job: Job, names: Sequence[str]) -> dict[str, tuple[Shard, ...]]:
    """The shards of sources; lists their files, reads none."""
    return {name: source_shards(job.config.sources[name], name, job.path("sources", name)) for name in names}


def token_bytes(job: Job) -> int:
    """Bytes of a token id."""
    return 2 if job.config.tokenizer.vocabulary <= 1 << 16 else 4


def read_sources(
    job: Job,
    steps: Steps,
    shards: dict[str, tuple[Shard, ...]],
    *,
    kept: Mapping[str, TokenBlocks] | None = None,
    local: bool,
) -> ReadSources:
    """Reads sources once and finds the documents that repeat others.

    Args:
        job: The preparation.
        steps: Runs the tasks.
        shards: Their shards.
        kept: Blocks of sources that come before them, whose text stands.
        local: Whether all is written to the disk of the text folder, whose room is then checked.

    Raises:
        TextError: A source cannot be read, or holds no text.
        StorageError: The disk has no room for what files of that size become.
    """
    flat = [shard for of_source in shards.values() for shard in of_source]
    unread = [shard for shard in flat if not shard.done(".read").exists()]
    if local:
        check_space(job.folder, estimated_bytes(unread, token_bytes(job)), "the sources' token ids")
    for name in shards:
        steps.say(f"reading source {name}")
    config = job.config
    tasks = [scan_task(shard, fraction=config.held_out_fraction, seed=job.seed) for shard in flat]
    outcome = iter(steps.run(tasks, "reading"))
    results = {name: [next(outcome) for _ in of_source] for name, of_source in shards.items()}
    for name in shards:
        if not sum(result["documents"] for result in results[name]):
            raise empty(config.sources[name], name)
    keys: dict[str, list[Path]] = {name: key_files(blocks) for name, blocks in (kept or {}).items()}
    documents = sum(blocks.documents for blocks in (kept or {}).values())
    first: dict[str, int] = {}
    for name, of_source in shards.items():
        first[name] = sum(map(len, keys.values()))
        keys[name] = [shard.keys for shard in of_source]
        documents += sum(result["documents"] for result in results[name])
    duplicates = duplicate_tasks(keys, documents, job.folder / "work" / "duplicates") if shards else []
    found = steps.run(duplicates, "duplicates") if duplicates else []
    seconds = sum(result["cpu_seconds"] for name in shards for result in results[name])
    return ReadSources(
        shards=shards,
        first=first,
        drops=tuple(task.writes[0] for task in duplicates),
        results=results,
        seconds=seconds + sum(result["cpu_seconds"] for result in found),
    )


def tokenise_sources(
    job: Job, steps: Steps, read: ReadSources, text: PreparedText, *, local: bool
) -> tuple[dict[str, int], float | None]:
    """Makes the token blocks of sources and enters them into a text whose domains and items are made.

    Args:
        job: The preparation.
        steps: Runs the tasks.
        read: The sources.
        text: The text; its `sources` gain theirs.
        local: Whether all is written to the disk of the text folder, whose room is then checked.

    Returns:
        Documents dropped by source and reason; tokens a second and core.

    Raises:
        TextError: What is left of a source does not fill one sequence.
        StorageError: The disk has no room.
    """
    settings = Tokenising(
        tokenizer=Path(text.tokenizer),
        excerpts=tuple(excerpts_path(blocks.path) for blocks in text.domains.values()),
        items=tuple(map(Path, text.items.values())),
        ngram=job.config.decontamination_ngram,
        vocabulary=job.config.tokenizer.vocabulary,
        sequence_length=job.config.sequence_length,
    )
    if local:
        check_space(job.folder, _still_to_write(job, read, text), "the sources' token ids")
    removed: Counter[str] = Counter()
    everything: list[dict[str, Any]] = []
    for name, shards in read.shards.items():
        steps.say(f"tokenising source {name}")
        first = read.first[name]
        tasks = [tokenise_task(shard, first + shard.number, read.drops, settings) for shard in shards]
        results = steps.run(tasks, f"tokenising source {name}")
        text.sources[name], dropped = joined_blocks(name, shards, read.results[name], results)
        removed.update(dropped)
        everything += results
    return dict(removed), tokens_per_core_second([*everything, {"cpu_seconds": read.seconds}])


def _still_to_write(job: Job, read: ReadSources, text: PreparedText) -> int:
    """Bytes of the blocks that are not there yet, from the characters that were read and what the domains' took."""
    domains = text.domains.values()
    rate = sum(b.tokens for b in domains) / max(sum(b.characters for b in domains), 1)
    characters = sum(
        result["characters"]
        for name, shards in read.shards.items()
        for shard, result in zip(shards, read.results[name], strict=True)
        if not shard.done().exists()
    )
    return int(characters * rate * token_bytes(job))
