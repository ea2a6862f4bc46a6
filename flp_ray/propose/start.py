"""The first runs of a search, before anything is known: mixtures spread over what may be proposed, at small sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.propose.space import Space, spread_out
from flp_ray.propose.sweep import corners

TWO_SOURCES = 5
"""Mixtures where there are two sources: their ends, the middle, and between."""

SECOND = 3
"""Mixtures that are trained at the second size too, so that the power of size shows."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSize:
    """A size that the search may train.

    Attributes:
        name: On the ladder.
        flops: Of one run.
        highest: Highest ratio of each source that the text allows, in the order of the sources; None: no mixture of
            this size can be trained with the text there is.
    """

    name: str
    flops: float
    highest: tuple[float, ...] | None


def start_design(
    space: Space, sizes: Sequence[SearchSize], *, mixtures: int | None, present: Mixture | None, seed: int
) -> tuple[tuple[str, Mixture], ...]:
    """Sizes and mixtures of the first runs: all mixtures at the cheapest size, three of them at the second.

    Two sources: evenly spaced ratios. More: the corners, the mixture in use now (or the middle), and an even spread.

    Args:
        space: What may be proposed.
        sizes: What may be trained, cheap to dear.
        mixtures: How many; None takes 5 for two sources, else twice the sources.
        present: The mixture in use now.
        seed: Of the spread.
    """
    sources = len(space.sources)
    number = mixtures or (TWO_SOURCES if sources == 2 else 2 * sources)
    first = _mixtures(space, number, present, seed)
    usable = [s for s in sizes if s.highest is not None]
    made = [(s, m) for s in usable[:1] for m in first]
    made += [(s, m) for s in usable[1:2] for m in _apart(first, SECOND)]
    return tuple((size.name, m) for size, m in made if _trainable(size, m))


def _mixtures(space: Space, number: int, present: Mixture | None, seed: int) -> list[Mixture]:
    lattice = space.lattice
    if len(space.sources) <= 2:
        every = lattice.all()
        chosen = every[np.unique(np.linspace(0, len(every) - 1, number).round().astype(int))]
        middle = lattice.mixture(tuple(int(u) for u in chosen[len(chosen) // 2]))
        spread = [lattice.mixture(tuple(int(u) for u in row)) for row in chosen]
    else:
        rows = np.concatenate([corners(lattice), spread_out(lattice.bounds, number, seed)])
        spread = [lattice.mixture(lattice.nearest(space.mixture(row))) for row in rows]
        middle = lattice.mixture(lattice.nearest(space.mixture(np.full(len(space.sources), 1 / len(space.sources)))))
    centre = present if present is not None and lattice.bounds.contains(present) else middle
    if len(space.sources) <= 2 and centre not in spread and len(spread) == number > 2:  # in the place of the nearest
        spread.remove(min(spread[1:-1], key=lambda m: abs(m.ratios[0] - centre.ratios[0])))
    return list(dict.fromkeys([centre, *spread]))[:number]


def _apart(mixtures: Sequence[Mixture], number: int) -> list[Mixture]:
    """The first mixture, and others that are far from those taken."""
    rows = np.array([m.ratios for m in mixtures])
    taken = [0]
    while len(taken) < min(number, len(rows)):
        distance = np.linalg.norm(rows[:, None] - rows[taken], axis=2).min(axis=1)
        taken.append(int(np.argmax(distance)))
    return [mixtures[i] for i in taken]


def _trainable(size: SearchSize, mixture: Mixture) -> bool:
    return size.highest is not None and all(r <= h + 1e-9 for r, h in zip(mixture.ratios, size.highest, strict=True))
