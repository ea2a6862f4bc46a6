"""Ladders: the ordered shapes of the sampling models and how each is trained."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from flp_ray.core.shape import ModelShape
from flp_ray.errors import ConfigError
from flp_ray.plan.config import LadderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One size of a ladder.

    Attributes:
        size: Its name.
        shape: The model's shape.
        train_tokens: Tokens of its training.
        batch_sequences: Sequences of one optimiser step.
        learning_rate: Peak learning rate.
        weight_decay: AdamW's decoupled weight decay; None takes that of all sizes.
        warmup_fraction: Share of the steps with a rising learning rate; None likewise.
    """

    size: str
    shape: ModelShape
    train_tokens: int
    batch_sequences: int
    learning_rate: float
    weight_decay: float | None = None
    warmup_fraction: float | None = None


def _rung(
    size: str, layers: int, hidden: int, heads: int, ffn: int, tokens: int, batch: int, learning_rate: float
) -> Rung:
    shape = ModelShape(layers=layers, hidden=hidden, heads=heads, ffn=ffn)
    return Rung(size=size, shape=shape, train_tokens=tokens, batch_sequences=batch, learning_rate=learning_rate)


PAPER_LADDER: tuple[Rung, ...] = (
    _rung("43M", 3, 384, 3, 1032, 8_021_606_400, 448, 0.0052),
    _rung("64M", 4, 512, 4, 1376, 11_714_691_072, 544, 0.0042),
    _rung("89M", 5, 640, 5, 1720, 16_184_770_560, 576, 0.0038),
    _rung("0.12B", 6, 768, 6, 2064, 21_799_895_040, 640, 0.0040),
    _rung("0.15B", 7, 896, 7, 2408, 28_846_325_760, 672, 0.0042),
    _rung("0.2B", 8, 1024, 8, 2752, 37_213_962_240, 736, 0.0036),
    _rung("0.25B", 9, 1152, 9, 3096, 47_563_407_360, 768, 0.0034),
    _rung("0.32B", 10, 1280, 10, 3440, 59_674_460_160, 800, 0.0028),
    _rung("0.5B", 12, 1536, 12, 4128, 90_502_594_560, 960, 0.0023),
    _rung("0.72B", 14, 1792, 14, 4816, 132_026_204_160, 1024, 0.0019),
    _rung("1B", 16, 2048, 16, 5504, 185_535_037_440, 1152, 0.0016),
    _rung("3B", 24, 3072, 24, 8256, 556_793_856_000, 1536, 0.0004),
    _rung("7B", 32, 4096, 32, 11008, 1_258_291_200_000, 2048, 0.0003),
    _rung("13B", 40, 5120, 40, 13824, 1_258_291_200_000, 2048, 0.0003),
)
"""Table 1 of Chen et al. 2024."""

DEMO_LADDER: tuple[Rung, ...] = (
    _rung("32x2", 2, 32, 2, 88, 655_360, 16, 0.003),
    _rung("48x3", 3, 48, 2, 128, 1_146_880, 16, 0.003),
    _rung("64x4", 4, 64, 2, 176, 1_966_080, 16, 0.003),
)
"""Three sizes that two cores train in minutes; named width x layers."""

_PRESETS = {"paper": PAPER_LADDER, "demo": DEMO_LADDER}


def ladder(config: LadderConfig) -> dict[str, Rung]:
    """All rungs that a study can name, from the smallest to the largest.

    Args:
        config: Preset and own shapes; an own shape replaces the preset's of the same name.

    Raises:
        ConfigError: `sizes` names a rung that is not there.
    """
    rungs = {rung.size: rung for rung in (_PRESETS[config.preset] if config.preset else ())}
    for size, s in config.shapes.items():
        rungs[size] = _rung(
            size, s.layers, s.hidden, s.heads, s.ffn, s.train_tokens, s.batch_sequences, s.learning_rate
        )
    for size in config.sizes or ():
        require_size(rungs, size, "ladder.sizes")
    return dict(sorted(rungs.items(), key=lambda item: (item[1].shape.non_embedding_params, item[1].train_tokens)))


def require_size(rungs: dict[str, Rung], size: str, where: str) -> Rung:
    """The rung of that name.

    Raises:
        ConfigError: There is none; names the nearest.
    """
    if size not in rungs:
        near = difflib.get_close_matches(size, rungs, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{where} names the size {size!r}, which is not on the ladder: {', '.join(rungs)}.{hint}")
    return rungs[size]
