"""Which mixtures may be proposed, and which may be trained at each size: bounds, pins, text that there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.errors import ConfigError
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.lattice import Lattice
from flp_ray.propose.simplex import Bounds, to_ratios

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The mixtures of a search.

    Attributes:
        lattice: What may be proposed for the target.
        free: What there would be without constraints.
        prior: Ratios that proposals should stay near, in the order of the sources; None without one.
        prior_weight: Score (0 to 1) that a nat of divergence from it must be worth.
    """

    lattice: Lattice
    free: Lattice
    prior: tuple[float, ...] | None
    prior_weight: float

    @property
    def bounds(self) -> Bounds:
        """Bounds of the target's mixtures."""
        return self.lattice.bounds

    @property
    def sources(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self.bounds.sources

    @property
    def constrained(self) -> bool:
        """Whether anything keeps a mixture from being proposed."""
        return self.bounds != self.free.bounds

    def penalty(self, ratios: Array) -> Array:
        """What mixtures (n, K) lose for their distance from the prior, score, (n,)."""
        if self.prior is None or self.prior_weight == 0:
            return np.zeros(len(ratios))
        prior = np.maximum(np.array(self.prior), 1e-6)
        logs = np.log(np.maximum(ratios, 1e-12) / (prior / prior.sum()))
        return np.asarray(self.prior_weight * (ratios * logs).sum(axis=1))

    def mixture(self, ratios: Array) -> Mixture:
        """The mixture of ratios (K,)."""
        return Mixture.of(dict(zip(self.sources, (float(r) for r in ratios), strict=True)))


def search_space(
    config: SearchConfig,
    sources: Sequence[str],
    *,
    target_tokens: int | None = None,
    available: Mapping[str, float | None] | None = None,
    max_epochs: float | None = None,
) -> Space:
    """The mixtures that a search may propose.

    Args:
        config: Bounds, pins, step, available tokens, repetition, prior.
        sources: Names.
        target_tokens: Tokens of the target's training; None leaves text out of account.
        available: Tokens there are by source, None where not known; `search.available_tokens` wins.
        max_epochs: How often text may be repeated where the search does not say.

    Raises:
        ConfigError: Unknown sources, pins above 1, bounds that no mixture keeps, more text wanted than there is, or a
            step that does not divide 1.
    """
    names = tuple(sorted(sources))
    bounds = _pinned(Bounds.of(names, config.min_ratios, config.max_ratios), config.pinned)
    if target_tokens is not None:
        bounds = _capped(bounds, config, target_tokens, dict(available or {}), max_epochs)
    prior = None
    if config.prior is not None:
        prior = tuple(_whole(config.prior, names, "search.prior").ratio(s) for s in names)
    return Space(
        lattice=Lattice.of(bounds, config.ratio_step),
        free=Lattice.of(Bounds.of(names, {}, {}), config.ratio_step),
        prior=prior,
        prior_weight=config.prior_weight,
    )


def search_lattice(config: SearchConfig, sources: Sequence[str]) -> Lattice:
    """The mixtures that a search may propose, whatever text there is.

    Raises:
        ConfigError: Unknown sources, infeasible bounds, or a step that does not divide 1.
    """
    return search_space(config, sources).lattice


def present_mixture(config: SearchConfig, sources: Sequence[str]) -> Mixture | None:
    """The mixture in use now; None where none is given.

    Raises:
        ConfigError: It names an unknown source, or its ratios do not sum to 1.
    """
    return None if config.present is None else _whole(config.present, tuple(sorted(sources)), "search.present")


def text_bounds(bounds: Bounds, tokens: int, available: Mapping[str, float | None], max_epochs: float) -> Bounds | None:
    """Bounds of mixtures that can be trained for so many tokens with the text there is; None where none can."""
    caps = [_cap(available.get(s), tokens, max_epochs) for s in bounds.sources]
    high = tuple(min(h, c) for h, c in zip(bounds.high, caps, strict=True))
    feasible = sum(high) >= 1 - 1e-9 and all(low <= h for low, h in zip(bounds.low, high, strict=True))
    return replace(bounds, high=high) if feasible else None


def spread_out(bounds: Bounds, number: int, seed: int) -> Array:
    """Mixtures evenly spread within bounds, (n, K): a scrambled Sobol sequence through the map of the cube."""
    from scipy.stats.qmc import Sobol  # half a second, which a plan does without

    power = max(0, int(np.ceil(np.log2(max(1, number)))))
    cube = Sobol(max(1, len(bounds.sources) - 1), seed=seed).random_base2(power)[:number]
    return to_ratios(bounds, cube[:, : len(bounds.sources) - 1])


def _pinned(bounds: Bounds, pinned: Mapping[str, float]) -> Bounds:
    total = sum(pinned.values())
    if total > 1 + 1e-9:
        shown = ", ".join(f"{s} {r:g}" for s, r in pinned.items())
        raise ConfigError(f"search.pinned: the pinned ratios ({shown}) sum to {total:g}, more than 1. Lower one.")
    low, high = (dict(zip(bounds.sources, v, strict=True)) for v in (bounds.low, bounds.high))
    for source, ratio in pinned.items():
        if source not in low:
            raise ConfigError(f"search.pinned names {source!r}, which is no source ({', '.join(bounds.sources)}).")
        if not low[source] - 1e-9 <= ratio <= high[source] + 1e-9:
            raise ConfigError(
                f"search.pinned: {source} is pinned at {ratio:g}, outside its bounds {low[source]:g} to "
                f"{high[source]:g}. Move the pin, or widen min_ratios or max_ratios."
            )
        low[source] = high[source] = float(ratio)
    if sum(high.values()) < 1 - 1e-9 or sum(low.values()) > 1 + 1e-9:
        raise ConfigError(
            f"search.pinned: with the pins the sources' ratios sum to {sum(low.values()):g} at least and "
            f"{sum(high.values()):g} at most, never to 1. Move a pin, or widen min_ratios or max_ratios."
        )
    return Bounds(sources=bounds.sources, low=tuple(low.values()), high=tuple(high.values()))


def _capped(
    bounds: Bounds, config: SearchConfig, tokens: int, available: dict[str, float | None], max_epochs: float | None
) -> Bounds:
    for source, there in config.available_tokens.items():
        if source not in bounds.sources:
            raise ConfigError(
                f"search.available_tokens names {source!r}, which is no source ({', '.join(bounds.sources)})."
            )
        available[source] = there
    epochs = _epochs(config, bounds.sources, max_epochs)
    caps = {s: _cap(available.get(s), tokens, epochs[s]) for s in bounds.sources}
    for source, low in zip(bounds.sources, bounds.low, strict=True):
        if low > caps[source] + 1e-9:
            there = available[source] or 0.0
            passes = f"{low * tokens / there:.3g}" if there else "infinitely many"
            raise ConfigError(
                f"search: source {source} must make up at least {low:g} of the target's {tokens:.4g} tokens, which is "
                f"{passes} passes over its {there:.4g} tokens; at most {epochs[source]:g} may be. "
                f"Lower its ratio to {caps[source]:.3g} or less, raise search.max_epochs, or bring more text."
            )
    high = tuple(min(h, caps[s]) for s, h in zip(bounds.sources, bounds.high, strict=True))
    if sum(high) < 1 - 1e-9:
        shown = ", ".join(f"{s} {h:.3g}" for s, h in zip(bounds.sources, high, strict=True))
        raise ConfigError(
            f"search: there is too little text for the target's {tokens:.4g} tokens: at the allowed number of passes "
            f"the sources reach ratios of at most {shown}, {sum(high):.3g} together. Raise search.max_epochs (now "
            f"{', '.join(f'{s} {e:g}' for s, e in epochs.items())}), bring more text, or lower search.target_tokens."
        )
    return replace(bounds, high=high)


def _epochs(config: SearchConfig, sources: Sequence[str], default: float | None) -> dict[str, float]:
    given = config.max_epochs
    if isinstance(given, dict):
        for source in given:
            if source not in sources:
                raise ConfigError(f"search.max_epochs names {source!r}, which is no source ({', '.join(sources)}).")
        return {s: given.get(s, default if default is not None else 1.0) for s in sources}
    whole = given if given is not None else default if default is not None else 1.0
    return dict.fromkeys(sources, float(whole))


def _cap(available: float | None, tokens: int, epochs: float) -> float:
    return 1.0 if available is None else min(1.0, epochs * available / tokens)


def _whole(given: Mapping[str, float], sources: Sequence[str], where: str) -> Mixture:
    for source in given:
        if source not in sources:
            raise ConfigError(f"{where} names {source!r}, which is no source ({', '.join(sources)}).")
    try:
        return Mixture.of({s: float(given.get(s, 0.0)) for s in sources})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
