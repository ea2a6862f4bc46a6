"""Whether a disk has room for what is about to be written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path

from flp_ray.data.parts import Part
from flp_ray.data.shards import Shard
from flp_ray.errors import StorageError

STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
"""Numbers of errors that a disk which is full or not writable gives."""

CHARACTERS_PER_TOKEN = 4
"""Assumed before any text has been tokenised, for large vocabularies; at the high end, so that no one is refused who
has room: once text is known, what it really takes is asked for."""

_UNPACKED = 2
"""Bytes of text for a byte of a compressed file: at the low end, for the same reason."""


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuses to begin what cannot be ended.

    Args:
        folder: Where to.
        needed: Bytes that are still to be written.
        what: What for, for the message.

    Raises:
        StorageError: Fewer bytes are free.
    """
    free = free_bytes(folder)
    if needed > free:
        raise StorageError(
            f"Text cannot be prepared in {folder}: {free} bytes are free, about {needed} are needed for {what}. "
            "Free space, lower max_characters of the sources, name fewer files, or choose another folder."
        )


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that a folder is on, or will be."""
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(there).free


def estimated_bytes(shards: Iterable[Shard], token_bytes: int) -> int:
    """Bytes that the blocks, and the documents that are kept, of shards will take; a guess from the files' sizes.

    Args:
        shards: Shards that have not been read.
        token_bytes: Bytes of a token id.
    """
    total = 0
    for shard in shards:
        text = sum(_text_bytes(part) for part in shard.parts)
        limit = shard.origin.max_characters
        text = text if limit is None else min(text or limit, limit)
        total += text * token_bytes // CHARACTERS_PER_TOKEN + (text if shard.spooled else 0)
    return total


def _text_bytes(part: Part) -> int:
    return part.bytes * (_UNPACKED if part.compression is not None else 1)
