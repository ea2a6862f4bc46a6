"""Which documents are trained on: the held-out split, exact duplicates, and overlap with the domains."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flp_ray.data.documents import Document, share, text_key

_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_WORDS_AT_ONCE = 1 << 20


def held_out(document: Document, *, fraction: float, seed: int, key: int | None = None) -> bool:
    """Whether a document is kept out of training.

    The decision hangs on the document's group, or else on its text alone, so it is the same whatever else the
    source holds, and equal texts fall on the same side.

    Args:
        document: The document.
        fraction: Share of groups held out, 0 to 1.
        seed: Another seed holds out other documents.
        key: The text's key, where it is known.
    """
    name = document.group if document.group is not None else f"{text_key(document.text) if key is None else key:x}"
    return share(name, salt=f"held out {seed}") < fraction


class Decontaminator:
    """Finds training documents that share a word n-gram with held-out text.

    Words are runs of letters, digits and underscores in lower case. The n-grams of the small held-out side
    are kept as 64-bit hashes; training text is looked up in them, many documents at once.

    Args:
        texts: The held-out texts: what is measured on, losses and items alike.
        ngram: Words of an n-gram; 0 finds nothing but equal texts.
    """

    def __init__(self, texts: Iterable[str], *, ngram: int) -> None:
        self._ngram = ngram
        self._keys: set[int] = set()
        self._words: dict[str, int] = {}
        grams: list[NDArray[np.uint64]] = []
        batch: list[str] = []
        for text in texts:
            self._keys.add(text_key(text))
            if ngram:
                batch.append(text)
                for word in _WORD.findall(text.lower()):
                    self._words.setdefault(word, len(self._words) + 1)
        random = np.random.Generator(np.random.PCG64(0))
        # Row 0 stands for every word that no domain has; an n-gram over it is never looked up.
        self._codes = random.integers(1, 2**63, size=len(self._words) + 1, dtype=np.uint64)
        for start in range(0, len(batch), 1000):
            ids, _ = self._ids(batch[start : start + 1000])
            grams.append(self._grams(ids)[self._whole(ids)])
        self._hashes = np.unique(np.concatenate(grams)) if grams else np.empty(0, np.uint64)

    def overlapping(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which of these texts equal a held-out text or share an n-gram with one, shape (len(texts),)."""
        found = np.array([text_key(text) in self._keys for text in texts], dtype=bool)
        for start, part in self._parts(texts):
            _, at = self._hits(part)
            found[start + at] = True
        return found

    def seen_in(self, batches: Iterable[Sequence[str]]) -> Decontaminator:
        """The same rule from the other side: what of the held-out text these texts show.

        Args:
            batches: Training texts that stand still, so that held-out text has to give way.

        Returns:
            A finder that knows just the n-grams and whole texts that occur there; asked with its own held-out texts,
            it tells which of them are shown.
        """
        return self.limited_to(*self.known_in(batches))

    def known_in(self, batches: Iterable[Sequence[str]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Keys of the held-out texts, and hashes of their n-grams, that occur in these texts; sorted, each once."""
        keys: set[int] = set()
        hashes: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        for texts in batches:
            keys.update(self._keys.intersection(map(text_key, texts)))
            hashes += [np.unique(self._hits(part)[0]) for _, part in self._parts(texts)]
        return np.array(sorted(keys), np.uint64), np.unique(np.concatenate(hashes))

    def limited_to(self, keys: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> Decontaminator:
        """A finder that knows just these, as `known_in` of a finder of the same texts gave them; unions are welcome."""
        seen = copy.copy(self)
        seen._keys, seen._hashes = set(keys.tolist()), np.unique(hashes)
        return seen

    def _parts(self, texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
        """Texts in parts that bound the memory of one look-up, whatever the caller's batch; (first, part)."""
        if not len(self._hashes):
            return
        start = size = 0
        for stop, text in enumerate(texts, 1):
            size += len(text) // 5
            if size >= _WORDS_AT_ONCE or stop == len(texts):
                yield start, texts[start:stop]
                start, size = stop, 0

    def _hits(self, texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The known n-grams in texts, and in which text each stands, arrays of equal length."""
        ids, ends = self._ids(texts)
        at = np.flatnonzero(self._whole(ids))
        hashes = self._grams(ids)[at]
        place = np.searchsorted(self._hashes, hashes)
        hit = self._hashes[np.minimum(place, len(self._hashes) - 1)] == hashes
        return hashes[hit], np.searchsorted(ends, at[hit], side="right")

    def _ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Word ids of texts laid end to end, each closed by id 0, and where each ends."""
        ids: list[int] = []
        ends: list[int] = []
        known = self._words.get
        for text in texts:
            ids.extend([known(word, 0) for word in _WORD.findall(text.lower())])
            ids.append(0)
            ends.append(len(ids))
        return np.array(ids, dtype=np.int64), np.array(ends, dtype=np.int64)

    def _whole(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which positions begin an n-gram of known words within one text."""
        count = max(len(ids) - self._ngram + 1, 0)
        unknown = np.concatenate([[0], np.cumsum(ids == 0)])
        whole: NDArray[np.bool_] = unknown[self._ngram : self._ngram + count] == unknown[:count]
        return whole

    def _grams(self, ids: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A hash of the n words from each position on (64-bit wrap-around arithmetic)."""
        count = max(len(ids) - self._ngram + 1, 0)
        codes = self._codes[ids]
        hashes = np.zeros(count, dtype=np.uint64)
        for offset in range(self._ngram):
            hashes = hashes * _MULTIPLIER + codes[offset : offset + count]
        return hashes
