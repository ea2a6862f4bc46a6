"""A mixture: one ratio per source, on the simplex."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flp_ray.errors import ConfigError

RATIO_TOLERANCE = 1e-6
"""How far a mixture's sum may be from 1: six decimals of a hand-written ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Shares of the training tokens by source; sources are sorted by name, ratios sum to 1.

    Build it with `Mixture.of({"general": 0.8, "code": 0.2})`.

    Raises:
        ConfigError: A ratio is negative, not a number, or the ratios do not sum to 1.
    """

    sources: tuple[str, ...]
    ratios: tuple[float, ...]

    def __post_init__(self) -> None:
        shown = ", ".join(f"{s}={r:g}" for s, r in zip(self.sources, self.ratios, strict=False))
        if len(self.sources) != len(self.ratios) or not self.sources:
            raise ConfigError(f"A mixture needs one ratio per source, received {shown or 'none'}.")
        if list(self.sources) != sorted(set(self.sources)):
            raise ConfigError(f"A mixture's sources must be distinct and sorted, received {shown}.")
        if not all(math.isfinite(r) and 0.0 <= r <= 1.0 for r in self.ratios):
            raise ConfigError(f"Mixing ratios must lie in 0 to 1, received {shown}.")
        total = math.fsum(self.ratios)
        if abs(total - 1.0) > RATIO_TOLERANCE:
            raise ConfigError(f"Mixing ratios must sum to 1, received {shown} (sum {total:.6g}).")

    @classmethod
    def of(cls, ratios: Mapping[str, float]) -> Mixture:
        """Builds a mixture from a mapping of source to ratio, in any order."""
        sources = tuple(sorted(ratios))
        return cls(sources=sources, ratios=tuple(float(ratios[s]) for s in sources))

    def ratio(self, source: str) -> float:
        """The ratio of one source; 0 for a source that the mixture does not name."""
        return self.ratios[self.sources.index(source)] if source in self.sources else 0.0

    def as_dict(self) -> dict[str, float]:
        """The ratios by source, in the order of the names."""
        return dict(zip(self.sources, self.ratios, strict=True))

    def used(self) -> dict[str, float]:
        """The ratios above 0 by source: what a run has text of. A source at 0 changes nothing in a run."""
        return {source: ratio for source, ratio in self.as_dict().items() if ratio > 0}

    def __str__(self) -> str:
        return " ".join(f"{s}={r:.4g}" for s, r in zip(self.sources, self.ratios, strict=True))
