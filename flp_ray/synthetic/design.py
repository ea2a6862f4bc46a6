"""Which runs of a planted world are trained: sizes, mixtures, checkpoints; the paper's own design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flp_ray.core.mixture import Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedSize:
    """A model size and what its training costs."""

    name: str
    params: int
    train_tokens: int
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Which runs are trained: every size at every mixture, and single runs beside."""

    sizes: tuple[PlantedSize, ...]
    mixtures: tuple[Mixture, ...]
    extra: tuple[tuple[PlantedSize, Mixture], ...] = ()
    checkpoints: int = 30

    def runs(self) -> list[tuple[PlantedSize, Mixture]]:
        """Size and mixture of every run."""
        return [(s, m) for s in self.sizes for m in self.mixtures] + list(self.extra)


_PAPER = {  # params (vocabulary 50,304), tokens and FLOPs: Table 1 of Chen et al. 2024
    "0.12B": (119_965_440, 21_799_895_040, 6.81931e18),
    "0.2B": (204_227_584, 37_213_962_240, 2.63435e19),
    "0.32B": (326_437_120, 59_674_460_160, 8.01571e19),
    "0.5B": (496_080_384, 90_502_594_560, 2.05963e20),
    "0.72B": (722_643_712, 132_026_204_160, 4.70331e20),
    "1B": (1_015_613_440, 185_535_037_440, 9.75926e20),
    "3B": (3_041_283_072, 556_793_856_000, 9.63212e21),
    "7B": (6_888_361_984, 1_258_291_200_000, 5.09208e22),
}


def paper_size(name: str) -> PlantedSize:
    """A size of the paper's Table 1, `0.12B` to `7B`."""
    params, tokens, flops = _PAPER[name]
    return PlantedSize(name=name, params=params, train_tokens=tokens, flops=flops)


def two_source_mixtures(source: str, other: str, ratios: Sequence[float]) -> tuple[Mixture, ...]:
    """Mixtures of two sources at these ratios of the first."""
    return tuple(Mixture.of({source: r, other: 1 - r}) for r in ratios)


def paper_design() -> Design:
    """The 37 runs of section 5 of the paper: six sizes at code ratios 0 to 0.5, and a 3B at 0.3."""
    mixtures = two_source_mixtures("code", "general", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    return Design(
        sizes=tuple(paper_size(n) for n in ("0.12B", "0.2B", "0.32B", "0.5B", "0.72B", "1B")),
        mixtures=mixtures,
        extra=((paper_size("3B"), mixtures[3]),),
    )
