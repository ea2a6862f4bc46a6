"""Numbers as text: three significant digits, percent, superscripts; a missing one is an en rule."""

from __future__ import annotations

import math

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction

MISSING = "–"
"""Stands for a number that was not measured; it never reads as 0."""

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
THIN = "\u202f"
"""Narrow no-break space, between a number and its unit."""
_PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def significant(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits, without exponents between 1e-4 and 1e6."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    # Rounded first, because 9.996 has one decimal less than its magnitude says.
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if not -4 <= exponent < 6:
        return power(value, digits)
    return f"{rounded:.{max(digits - 1 - exponent, 0)}f}".replace("-", "−")


def power(value: float | None, digits: int = 3) -> str:
    """A number as 1.23 × 10¹⁵; for FLOPs."""
    if value is None or not math.isfinite(value):
        return MISSING
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}{THIN}×{THIN}10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")


def percent(value: float | None, digits: int = 3) -> str:
    """A share of 1 as percent."""
    return MISSING if value is None else f"{significant(100 * value, digits)}{THIN}%"


def share(ratio: float) -> str:
    """A mixing ratio as percent, to a tenth (below 1 percent to three digits), without trailing zeros."""
    shown = 100 * ratio
    return f"{float(f'{shown:.1f}' if shown >= 1 else f'{shown:.3g}'):g}{THIN}%"


def score(value: float | None, stderr: float | None = None) -> str:
    """A score in percent with one decimal, and its standard error with as many as it needs."""
    if value is None:
        return MISSING
    if stderr is None:
        return f"{100 * value:.1f}{THIN}%".replace("-", "−")
    return f"{100 * value:.1f} ± {_error(100 * stderr)}{THIN}%".replace("-", "−")


def score_interval(prediction: Prediction) -> str:
    """The 80 percent interval of a score, in percent."""
    return f"{100 * prediction.low:.1f} to {100 * prediction.high:.1f}{THIN}%".replace("-", "−")


def loss_interval(prediction: Prediction) -> str:
    """The 80 percent interval of a loss, nats per token."""
    return f"{significant(prediction.low)} to {significant(prediction.high)}"


def points(difference: float | None) -> str:
    """A difference of two scores in percentage points, with its sign."""
    if difference is None:
        return MISSING
    text = _error(abs(100 * difference))
    sign = "" if float(text) == 0 else "+" if difference > 0 else "−"
    return f"{sign}{text} points"


def tokens(count: float | None) -> str:
    """A number of tokens as 1.2 M or 3.4 B."""
    if count is None:
        return MISSING
    for i, (scale, prefix) in enumerate(_PREFIXES):
        # 999,950 rounds to 1000 k, which is 1 M.
        if float(f"{count / scale:.3g}") >= 1:
            value = float(f"{count / scale:.3g}")
            return f"{value:g}{THIN}{prefix}" if i == 0 or value < 1000 else f"1{THIN}{_PREFIXES[i - 1][1]}"
    return f"{count:g}"


def seconds(value: float | None) -> str:
    """A duration: 8.31 s, 12 min 05 s, 3 h 20 min."""
    if value is None:
        return MISSING
    if value < 60:
        return f"{significant(value)}{THIN}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    minutes = round(value / 60)
    return f"{minutes // 60}{THIN}h {minutes % 60:02d}{THIN}min"


def mixture(value: Mixture | None) -> str:
    """A mixture as `78 % general, 22 % code`, largest share first."""
    if value is None:
        return MISSING
    parts = sorted(value.as_dict().items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{share(ratio)} {source}" for source, ratio in parts)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: 1 run, 18 runs."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _error(value: float) -> str:
    """A standard error or a difference: one decimal, or two where one would read 0.0."""
    return f"{value:.1f}" if value >= 0.095 or value == 0 else f"{value:.2f}"
