"""Mixtures in whole steps of a ratio: what can be written into a study file and trained.

A lattice mixture is a number of units for each source that sum to 1 / step, so its ratios sum to 1 by
construction and nothing is rounded after normalising.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.errors import ConfigError
from flp_ray.propose.simplex import Bounds

Units = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """All mixtures within bounds in steps of 1 / `units`.

    Attributes:
        bounds: Bounds over K sources.
        units: Steps that make up the whole.
        low: Least units by source.
        high: Most units by source.
    """

    bounds: Bounds
    units: int
    low: Units
    high: Units

    @classmethod
    def of(cls, bounds: Bounds, step: float) -> Lattice:
        """The lattice of a step.

        Raises:
            ConfigError: The step does not divide 1, or no lattice mixture keeps the bounds.
        """
        units = round(1 / step)
        if abs(units * step - 1) > 1e-9:
            raise ConfigError(
                f"search.ratio_step must divide 1, received {step:g}; the nearest that does: {1 / units:g}."
            )
        low = tuple(math.ceil(b * units - 1e-9) for b in bounds.low)
        high = tuple(math.floor(b * units + 1e-9) for b in bounds.high)
        if sum(low) > units or sum(high) < units or any(a > b for a, b in zip(low, high, strict=True)):
            shown = ", ".join(
                f"{s} {a:g} to {b:g}" for s, a, b in zip(bounds.sources, bounds.low, bounds.high, strict=True)
            )
            raise ConfigError(
                f"search: no mixture in steps of {step:g} keeps the bounds ({shown}). Take a smaller ratio_step."
            )
        return cls(bounds=bounds, units=units, low=low, high=high)

    def nearest(self, mixture: Mixture) -> Units:
        """Units near a mixture: each source rounded down, the rest by largest remainder, within bounds."""
        wanted = [mixture.ratio(s) * self.units for s in self.bounds.sources]
        taken = [
            min(max(math.floor(w + 1e-9), low), high) for w, low, high in zip(wanted, self.low, self.high, strict=True)
        ]
        while (left := self.units - sum(taken)) != 0:
            sign = 1 if left > 0 else -1
            limit = self.high if left > 0 else self.low
            free = [k for k in range(len(taken)) if taken[k] != limit[k]]
            taken[max(free, key=lambda k: sign * (wanted[k] - taken[k]))] += sign
        return tuple(taken)

    def neighbours(self, units: Units) -> list[Units]:
        """Every lattice mixture that moves one unit from one source to another."""
        found = []
        for give in range(len(units)):
            for take in range(len(units)):
                if give != take and units[give] > self.low[give] and units[take] < self.high[take]:
                    moved = list(units)
                    moved[give] -= 1
                    moved[take] += 1
                    found.append(tuple(moved))
        return found

    def all(self) -> NDArray[Any]:
        """Units of every lattice mixture of one or two sources, (n, K)."""
        if len(self.low) == 1:
            return np.array([[self.units]])
        first = np.arange(max(self.low[0], self.units - self.high[1]), min(self.high[0], self.units - self.low[1]) + 1)
        return np.stack([first, self.units - first], axis=1)

    def mixture(self, units: Units) -> Mixture:
        """The mixture of these units."""
        return Mixture.of({s: n / self.units for s, n in zip(self.bounds.sources, units, strict=True)})
