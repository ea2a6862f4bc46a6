"""The grid: which mixtures every size is trained at."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from flp_ray.core.mixture import RATIO_TOLERANCE, Mixture
from flp_ray.errors import ConfigError
from flp_ray.plan.config import GridConfig


def full_mixture(given: Mapping[str, float], sources: Sequence[str], where: str) -> Mixture:
    """A mixture over all sources: one source that is left out takes the rest, several are an error unless at 0.

    Args:
        given: Ratios by source, as a person wrote them.
        sources: All sources of the study.
        where: The key of the study file, for errors.

    Raises:
        ConfigError: An unknown source, or ratios that cannot sum to 1.
    """
    _check_sources(given, sources, where)
    ratios = {s: Fraction(str(given[s])) for s in sources if s in given}
    rest = 1 - sum(ratios.values(), start=Fraction(0))
    missing = [s for s in sources if s not in ratios]
    shown = ", ".join(f"{s}: {r:g}" for s, r in given.items())
    if len(missing) == 1 and rest >= 0:
        ratios[missing[0]] = rest
    elif abs(rest) > RATIO_TOLERANCE:
        hint = (
            f"leave exactly one source out to give it the rest ({', '.join(missing)} are missing)"
            if missing and rest > 0
            else "correct the ratios"
        )
        raise ConfigError(
            f"{where}: mixing ratios must sum to 1, received {{{shown}}} (sum {float(1 - rest):g}); {hint}."
        )
    return Mixture.of({s: float(ratios.get(s, 0)) for s in sources})


def grid_mixtures(config: GridConfig, sources: Sequence[str]) -> tuple[Mixture, ...]:
    """The mixtures of the sampling grid, without repeats, in the order of the study file.

    Args:
        config: `ratios` (all combinations over all sources but one) and `mixtures`.
        sources: All sources of the study.

    Raises:
        ConfigError: Unknown sources, ratios outside 0 to 1, or nothing left.
    """
    found = [full_mixture(m, sources, f"grid.mixtures[{i}]") for i, m in enumerate(config.mixtures)]
    if config.ratios:
        found += _combinations(config.ratios, sources)
    return tuple(dict.fromkeys(found))


def _combinations(ratios: Mapping[str, Sequence[float]], sources: Sequence[str]) -> Iterable[Mixture]:
    _check_sources(ratios, sources, "grid.ratios")
    missing = [s for s in sources if s not in ratios]
    if len(missing) != 1 and len(sources) > 1:
        raise ConfigError(
            f"grid.ratios must give ratios for all sources but one, which takes the rest; "
            f"received {', '.join(ratios)} of the sources {', '.join(sources)}."
        )
    for source, values in ratios.items():
        bad = [v for v in values if not 0 <= v <= 1]
        if bad or not values:
            raise ConfigError(f"grid.ratios.{source}: needs ratios between 0 and 1, received {values}.")
    combinations = [dict(zip(ratios, values, strict=True)) for values in itertools.product(*ratios.values())]
    kept = [c for c in combinations if sum(Fraction(str(v)) for v in c.values()) <= 1]
    if not kept:
        raise ConfigError("grid.ratios: no combination of these ratios sums to at most 1.")
    return [full_mixture(c, sources, "grid.ratios") for c in kept]


def _check_sources(given: Iterable[str], sources: Sequence[str], where: str) -> None:
    for source in given:
        if source not in sources:
            near = difflib.get_close_matches(source, sources, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{where} names the source {source!r}; sources: {', '.join(sources)}.{hint}")
