"""Mixtures within bounds as points of the unit cube: stick-breaking with Beta quantiles.

Source by source a stick of what is left is broken; under the uniform law on the simplex the share that source
k of the K takes of it is Beta(1, K - k) distributed, whose distribution function 1 - (1 - x)^(K - k) has a
closed inverse. So the map from the cube is uniform on the simplex and invertible. Lower bounds shrink the
simplex, upper bounds truncate the Beta (then the map is no longer uniform where a bound cuts, but every point
of the cube gives a mixture within the bounds: nothing is rejected).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.errors import ConfigError

EMPTY = 1e-12
"""What is left of the stick below which it is used up."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Lowest and highest ratio of every source; some mixture lies within.

    Attributes:
        sources: Names, sorted, K of them.
        low: Lower bounds, 0 to 1.
        high: Upper bounds, 0 to 1.

    Raises:
        ConfigError: A bound is no ratio, or no mixture keeps all of them.
    """

    sources: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        for source, low, high in zip(self.sources, self.low, self.high, strict=True):
            if not 0 <= low <= high <= 1:
                raise ConfigError(
                    f"search: the bounds of source {source} must satisfy 0 <= min <= max <= 1, "
                    f"received min {low:g} and max {high:g}."
                )
        if sum(self.low) > 1 + 1e-9 or sum(self.high) < 1 - 1e-9:
            raise ConfigError(
                f"search: no mixture keeps the bounds; the lower bounds sum to {sum(self.low):g} (at most 1) "
                f"and the upper bounds to {sum(self.high):g} (at least 1). Widen min_ratios or max_ratios."
            )

    @classmethod
    def of(cls, sources: Sequence[str], low: Mapping[str, float], high: Mapping[str, float]) -> Bounds:
        """Bounds by source; sources that are not named are free.

        Raises:
            ConfigError: A bound is given for an unknown source.
        """
        names = tuple(sorted(sources))
        for field, given in (("min_ratios", low), ("max_ratios", high)):
            for name in given:
                if name not in names:
                    near = get_close_matches(name, names, n=1)
                    hint = f" Did you mean {near[0]!r}?" if near else ""
                    raise ConfigError(f"search.{field} names {name!r}, which is no source ({', '.join(names)}).{hint}")
        return cls(
            sources=names,
            low=tuple(float(low.get(s, 0.0)) for s in names),
            high=tuple(float(high.get(s, 1.0)) for s in names),
        )

    def contains(self, mixture: Mixture, tolerance: float = 1e-9) -> bool:
        """Whether a mixture keeps the bounds and has text of no other source."""
        known = all(s in self.sources or r <= tolerance for s, r in mixture.as_dict().items())
        return known and all(
            low - tolerance <= mixture.ratio(s) <= high + tolerance
            for s, low, high in zip(self.sources, self.low, self.high, strict=True)
        )

    def corner(self, source: str) -> Mixture:
        """The mixture with as much of one source as the bounds allow; the rest goes to the others."""
        ratios = dict(zip(self.sources, self.low, strict=True))
        left = 1 - sum(self.low)
        highest = dict(zip(self.sources, self.high, strict=True))
        for name in (source, *self.sources):
            added = max(0.0, min(left, highest[name] - ratios[name]))
            ratios[name] += added
            left -= added
        return Mixture.of(ratios)


def to_ratios(bounds: Bounds, cube: Array) -> Array:
    """The mixtures of many points of the unit cube.

    Args:
        bounds: Bounds over K sources.
        cube: Numbers 0 to 1, (n, K - 1).

    Returns:
        Ratios in the order of the sources, (n, K); rows sum to 1 and keep the bounds.
    """
    low, high = np.array(bounds.low), np.array(bounds.high)
    caps = high - low
    left = np.full(len(cube), 1 - low.sum())
    taken = np.empty((len(cube), len(low)))
    for k in range(len(low) - 1):
        least, most = _stick(left, caps, k)
        power = len(low) - 1 - k
        start, end = _share(least, power), _share(most, power)
        broken = 1 - (1 - (start + cube[:, k] * (end - start))) ** (1 / power)
        taken[:, k] = left * np.clip(broken, least, most)
        left = left - taken[:, k]
    taken[:, -1] = left
    return np.asarray(np.clip(low + taken, low, high))


def to_mixture(bounds: Bounds, cube: Sequence[float]) -> Mixture:
    """The mixture of a point of the unit cube.

    Args:
        bounds: Bounds over K sources.
        cube: K - 1 numbers, 0 to 1.
    """
    ratios = to_ratios(bounds, np.array([cube], float).reshape(1, -1))[0]
    return Mixture.of(dict(zip(bounds.sources, ratios.tolist(), strict=True)))


def to_cube(bounds: Bounds, mixture: Mixture) -> tuple[float, ...]:
    """The point of the unit cube that gives this mixture; the inverse of `to_mixture`.

    Args:
        bounds: Bounds over K sources.
        mixture: A mixture within them.

    Returns:
        K - 1 numbers, 0 to 1; 0.5 where the bounds leave no choice.
    """
    caps = np.array(bounds.high) - np.array(bounds.low)
    left, cube = np.array([1 - sum(bounds.low)]), []
    for k, source in enumerate(bounds.sources[:-1]):
        taken = mixture.ratio(source) - bounds.low[k]
        least, most = _stick(left, caps, k)
        power = len(caps) - 1 - k
        start, end = _share(least, power), _share(most, power)
        here = _share(np.clip(taken / left, least, most), power) if left > EMPTY else start
        cube.append(float((here - start)[0] / (end - start)[0]) if end - start > EMPTY else 0.5)
        left = np.maximum(0.0, left - taken)
    return tuple(cube)


def _stick(left: Array, caps: Array, k: int) -> tuple[Array, Array]:
    """Least and most of the stick that source k may take, each (n,), where so much of it is left."""
    whole = np.where(left > EMPTY, left, 1.0)
    least = np.clip(1 - caps[k + 1 :].sum() / whole, 0.0, 1.0)
    most = np.clip(caps[k] / whole, least, 1.0)
    return np.where(left > EMPTY, least, 0.0), np.where(left > EMPTY, most, 0.0)


def _share(x: Array, power: int) -> Array:
    """Distribution function of Beta(1, power)."""
    return np.asarray(1 - (1 - x) ** power)
