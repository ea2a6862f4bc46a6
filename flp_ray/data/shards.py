"""A source's files cut into shards: each is one task at a time, and becomes one file of token blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from flp_ray.core.run import stable_hash
from flp_ray.core.text import shard_name
from flp_ray.data.config import TextOrigin
from flp_ray.data.documents import Document
from flp_ray.data.origins import origin_parts, read_documents
from flp_ray.data.parts import LINES, Part
from flp_ray.data.spool import read_written
from flp_ray.errors import TextError

SHARD_BYTES = 256 << 20
"""Bytes of a source's files, as they are on disk, that make a shard; smaller files are taken together."""

IDS_BYTES = 32 << 20
"""The same where the files hold ids: their contents are many times larger."""

MAX_SHARDS = 4096
"""Shards of a source at most; those of a larger source grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A stretch of a source, read in one piece.

    Attributes:
        source: The source.
        origin: Its settings.
        number: Which shard of the source, from 0.
        parts: The files that it reads, in order; none for a built-in.
        base: Path of its files without their endings, below the study's text folder.
        spooled: Its documents are kept on disk from the first reading on.
    """

    source: str
    origin: TextOrigin
    number: int
    parts: tuple[Part, ...]
    base: Path
    spooled: bool

    @property
    def blocks(self) -> Path:
        """Its token blocks."""
        return self.base.with_name(self.base.name + ".npy")

    @property
    def keys(self) -> Path:
        """The text keys of its documents."""
        return self.base.with_name(self.base.name + ".keys.npy")

    @property
    def spool(self) -> Path | None:
        """Its documents, where they are kept."""
        return self.base.parents[1] / "work" / "documents" / f"{self.base.name}.jsonl" if self.spooled else None

    @property
    def kept_documents(self) -> tuple[Path, ...]:
        """The file of its documents, where they are kept."""
        return () if self.spool is None else (self.spool,)

    def done(self, what: str = "") -> Path:
        """The JSON file that says that a step is done."""
        return self.base.with_name(f"{self.base.name}{what}.json")

    def identity(self) -> list[object]:
        """What it reads, wherever that is."""
        return [[part.name, part.size, part.start, part.stop] for part in self.parts]


def source_shards(origin: TextOrigin, name: str, base: Path) -> tuple[Shard, ...]:
    """Cuts a source into shards: the same for the same files, wherever and by whom they are read.

    A built-in text and one with `max_characters` are a single stream, and so a single shard, whose documents are kept.

    Args:
        origin: The source's settings.
        name: The source.
        base: Path of its files without their endings; of several shards the folder.

    Raises:
        TextError: The files are not there, or cannot be listed.
    """
    parts = origin_parts(origin, name=name)
    whole = Shard(source=name, origin=origin, number=0, parts=tuple(parts), base=base, spooled=True)
    if origin.builtin is not None or origin.max_characters is not None:
        return (whole,)
    groups = _groups(parts, IDS_BYTES if origin.contents is not None else SHARD_BYTES)
    if len(groups) == 1:
        return (replace(whole, spooled=False),)
    return tuple(
        replace(whole, number=number, parts=group, base=base / shard_name(number), spooled=False)
        for number, group in enumerate(groups)
    )


def shards_hash(shards: Mapping[str, tuple[Shard, ...]]) -> str:
    """Identity of what all shards read, as far as names and sizes tell."""
    return stable_hash({name: [shard.identity() for shard in of_source] for name, of_source in shards.items()})


def moved(shards: Mapping[str, tuple[Shard, ...]], before: Path, now: Path) -> dict[str, tuple[Shard, ...]]:
    """The same shards with their files below another folder."""
    return {
        name: tuple(replace(shard, base=now / shard.base.relative_to(before)) for shard in of_source)
        for name, of_source in shards.items()
    }


def shard_documents(shard: Shard) -> Iterator[Document]:
    """All documents of a shard, in order."""
    if shard.spool is not None and shard.spool.exists():
        return read_written(shard.spool)
    return read_documents(shard.origin, name=shard.source, parts=shard.parts)


def changed(shard: Shard) -> TextError:
    """The refusal of files that are not what they were when they were read first."""
    names = ", ".join(part.name for part in shard.parts[:3])
    return TextError(
        f"Source {shard.source!r} has changed between two readings: {names} gave other documents than before. Leave "
        "the files alone while text is prepared, remove the unfinished text folder of the study, and start again."
    )


def _groups(parts: list[Part], least: int) -> list[tuple[Part, ...]]:
    """Consecutive files together up to a size; a large file of plain lines in several stretches."""
    size = max(least, -(-sum(part.size for part in parts) // MAX_SHARDS))
    groups: list[tuple[Part, ...]] = []
    for part in parts:
        count = -(-part.size // size) if part.kind in LINES and part.compression is None else 1
        if count > 1:
            edges = [part.size * number // count for number in range(count + 1)]
            groups += [(replace(part, start=a, stop=b),) for a, b in pairwise(edges)]
        elif groups and groups[-1][0].stop is None and sum(p.size for p in groups[-1]) + part.size <= size:
            groups[-1] += (part,)
        else:
            groups.append((part,))
    return groups
