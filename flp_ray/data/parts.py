"""A file of an origin, or a stretch of one: how it is opened and what lines it has, on disk or over the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
KINDS = (".parquet", ".jsonl", ".ndjson", ".json", ".txt")
LINES = (".jsonl", ".ndjson")
"""Kinds that can be read from any line on, where they are not compressed."""

_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file, or the lines of one that begin in a range of its bytes.

    Attributes:
        name: The file's name within the origin; the same on every machine.
        place: Where it is read: a path, or a URL (hf://, http://, file://).
        size: Bytes of the file.
        start: First byte of the range.
        stop: First byte after the range; None reads to the end.
        fetched: It holds contents that `fetch_texts` has got for the ids of the file of that name.
    """

    name: str
    place: str
    size: int
    start: int = 0
    stop: int | None = None
    fetched: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of the range."""
        return (self.size if self.stop is None else self.stop) - self.start

    @property
    def kind(self) -> str:
        """The suffix that tells how it is read, without compression; empty where there is none."""
        return kind_of(self.name)

    @property
    def compression(self) -> str | None:
        """How it is compressed."""
        return COMPRESSED.get(PurePosixPath(self.name).suffix)


def kind_of(name: str) -> str:
    """The last suffix of a file name that is no compression; empty where there is none."""
    suffixes = [suffix for suffix in PurePosixPath(name).suffixes if suffix not in COMPRESSED]
    return suffixes[-1] if suffixes else ""


@contextmanager
def opened(place: str) -> Iterator[Any]:
    """A file as bytes, seekable where its place is: what pyarrow takes as a file."""
    if "://" not in place:
        import pyarrow

        with pyarrow.OSFile(place) as file:
            yield file
        return
    import fsspec  # type: ignore[import-untyped]

    with fsspec.open(place, "rb") as file:
        yield file


@contextmanager
def unpacked(part: Part) -> Iterator[Any]:
    """A part's file as a stream of bytes, decompressed."""
    import pyarrow

    with opened(part.place) as file, pyarrow.input_stream(file, compression=part.compression) as stream:
        yield stream


def lines_of(stream: Any, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Lines of a stream that begin in a range of its bytes; pyarrow streams have no fast readline of their own."""
    offset = max(start - 1, 0)
    if start:
        stream.seek(offset)
    under_way = start > 0  # what is left of this line belongs to the range before
    rest = b""
    while chunk := stream.read(_READ_AT_ONCE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            begin = offset
            offset += len(line) + 1
            if under_way:
                under_way = False
                continue
            if stop is not None and begin >= stop:
                return
            yield line
    if not under_way and (stop is None or offset < stop):
        yield rest
