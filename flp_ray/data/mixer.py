"""The training text of one run: sequence i -> (source, epoch, position)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.text import TokenBlocks
from flp_ray.data.documents import hash64
from flp_ray.data.rows import BlockRows
from flp_ray.data.schedule import Schedule
from flp_ray.data.shuffle import shuffled
from flp_ray.errors import TextError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where some sequences of the stream stand, arrays of equal length.

    Attributes:
        source: Index into `MixedStream.sources`.
        epoch: How often the whole source came before, from 0.
        position: Row of the source's token blocks, counted over all their files.
    """

    source: NDArray[np.int64]
    epoch: NDArray[np.int64]
    position: NDArray[np.int64]


class MixedStream:
    """Draws sequences from several sources in exact ratios.

    After any number n of sequences each source has given n times its ratio, off by less than one sequence.
    Each source's sequences come in a seeded order, another one in each epoch. The state of the stream is the
    number of the next sequence: any range can be asked for at any time, by any number of workers.

    Args:
        blocks: Token blocks by source; sources that the mixture does not name are not used.
        mixture: The ratios, taken as the decimal numbers that they print as.
        seed: Another seed orders the sources' sequences differently; the schedule of sources stays.
        sequences: Sequences of the whole run.
        max_epochs: How often a source may be gone through.

    Raises:
        TextError: A source of the mixture has no text, or too little for this run.
    """

    def __init__(
        self,
        blocks: Mapping[str, TokenBlocks],
        mixture: Mixture,
        *,
        seed: int,
        sequences: int,
        max_epochs: float = 1.0,
    ) -> None:
        ratios = {source: Fraction(repr(ratio)) for source, ratio in mixture.as_dict().items() if ratio > 0}
        missing = [source for source in ratios if source not in blocks]
        if missing:
            raise TextError(f"Source {missing[0]!r} of mixture {mixture} has no text; there are: {', '.join(blocks)}.")
        self.sources = tuple(ratios)
        self.sequences = sequences
        self._blocks = [blocks[source] for source in self.sources]
        self._sizes = np.array([b.sequences for b in self._blocks], dtype=np.int64)
        total = sum(ratios.values())
        self._shares = [ratio / total for ratio in ratios.values()]
        self._schedule = Schedule(self._shares)
        self._keys = [[hash64(source, salt=f"order {seed}"), seed] for source in self.sources]
        self._rows = BlockRows(self._blocks)
        self._refuse_too_many_epochs(mixture, Fraction(repr(float(max_epochs))))

    def locate(self, start: int, stop: int) -> Place:
        """Where the sequences `start` to `stop` (excluded) come from.

        Raises:
            IndexError: The range leaves the run.
        """
        if not 0 <= start <= stop <= self.sequences:
            raise IndexError(f"sequences {start} to {stop} of a stream of {self.sequences}")
        source, ordinal = self._schedule.locate(np.arange(start, stop, dtype=np.int64))
        epoch, within = np.divmod(ordinal, self._sizes[source])
        position = np.empty_like(within)
        for index in np.unique(source):
            for number in np.unique(epoch[source == index]):
                here = (source == index) & (epoch == number)
                position[here] = shuffled(within[here], int(self._sizes[index]), self._key(int(index), int(number)))
        return Place(source=source, epoch=epoch, position=position)

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """Token ids of the sequences `start` to `stop` (excluded), shape (stop - start, sequence_length)."""
        place = self.locate(start, stop)
        tokens = np.empty((stop - start, self._blocks[0].sequence_length), dtype=np.int64)
        for index in np.unique(place.source):
            here = np.flatnonzero(place.source == index)
            self._rows.fill(int(index), place.position[here], tokens, here)
        return tokens

    def drawn(self, stop: int) -> dict[str, int]:
        """Sequences of each source among the first `stop`."""
        return dict(zip(self.sources, self._schedule.counts(stop), strict=True))

    def epochs(self, source: str, stop: int | None = None) -> float:
        """How often the first `stop` sequences, or the whole run, go through a source; 0 if unused."""
        if source not in self.sources:
            return 0.0
        drawn = self.drawn(self.sequences if stop is None else stop)[source]
        return drawn / int(self._sizes[self.sources.index(source)])

    def _key(self, index: int, epoch: int) -> int:
        name, seed = self._keys[index]
        return hash64(f"{name} {epoch}", salt=f"epoch {seed}")

    def _refuse_too_many_epochs(self, mixture: Mixture, max_epochs: Fraction) -> None:
        counts: tuple[int, ...] | None = None
        for index, (source, share, blocks) in enumerate(zip(self.sources, self._shares, self._blocks, strict=True)):
            allowed = floor(max_epochs * blocks.sequences)
            wanted = ceil(share * self.sequences)
            if wanted > allowed and floor(share * self.sequences) <= allowed:
                counts = counts or self._schedule.counts(self.sequences)  # only the exact count can tell
                wanted = counts[index]
            if wanted > allowed:
                length = blocks.sequence_length
                least = ceil(100 * wanted / max(blocks.sequences, 1)) / 100
                raise TextError(
                    f"Source {source!r}: mixture {mixture} over {self.sequences * length} tokens needs "
                    f"{wanted * length} tokens of it; {blocks.tokens} are there and may be used "
                    f"{float(max_epochs):g} times (text.max_epochs). Give more text, train fewer tokens, or "
                    f"set text.max_epochs to at least {least:g}."
                )
