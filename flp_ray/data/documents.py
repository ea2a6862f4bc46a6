"""One document of raw text, and the hashes that decide what happens to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document as its origin gives it.

    Attributes:
        id: Name within the origin; never an absolute path.
        text: The text.
        group: Documents of one group (the pieces of one file) are held out together; None stands alone.
    """

    id: str
    text: str
    group: str | None = None


def hash64(text: str, *, salt: str = "") -> int:
    """A 64-bit hash, the same on every machine.

    Args:
        text: What to hash; lone surrogates are allowed.
        salt: Tells uses apart, so that their hashes are independent.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=_person(salt))
    return int.from_bytes(digest.digest(), "little")


def text_key(text: str) -> int:
    """Identity of a text whose white space does not matter: exact duplicates have the same key."""
    return hash64(" ".join(text.split()))


def share(text: str, *, salt: str) -> float:
    """A fixed number in 0 to 1 (excluded) for a text, uniform over texts."""
    return (hash64(text, salt=salt) >> 11) / 2.0**53


def encodable(text: str) -> str:
    """The text as every tokenizer takes it: half a surrogate pair becomes a question mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _person(salt: str) -> bytes:
    """blake2b takes 16 bytes of personalisation; a longer salt is hashed into them."""
    return hashlib.blake2b(salt.encode(), digest_size=16).digest() if salt else b""
