"""A value along one source's share: the line of two sources, and the best over all others of more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flp_ray.report.axes import Paint, percent_axis
from flp_ray.report.dotplot import letters
from flp_ray.report.search_marks import Place

_BINS = 24
"""Steps of a profile; within one the best mixture is taken."""

_A_STEP = 3
"""Mixtures a distinct share from which each share is a step of its own, as on a lattice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A predicted score along one share, with its 80 percent interval.

    Attributes:
        share: The source's share, 0 to 1, rising, (n,).
        mean: Predicted score, 0 to 1, (n,).
        low: Lower end of the interval, (n,).
        high: Upper end, (n,).
    """

    share: Any
    mean: Any
    low: Any
    high: Any


def best_at_each_share(share: Any, mean: Any, low: Any, high: Any, chosen: Any, *, every: bool = False) -> Profile:
    """The best of the chosen mixtures at each share.

    Args:
        share: The source's share, (n,).
        mean: Predicted score, (n,).
        low: Lower end of its interval, (n,).
        high: Upper end, (n,).
        chosen: Which mixtures may be taken, (n,).
        every: Whether each share is a step of its own, as where there are two sources.

    Returns:
        One point a step of the share that has a chosen mixture, at that mixture's own share.
    """
    places = np.flatnonzero(chosen)
    if not len(places):
        empty = np.empty(0)
        return Profile(share=empty, mean=empty, low=empty, high=empty)
    step = _steps(share, every=every)[places]
    order = places[np.lexsort((-mean[places], step))]
    steps = np.sort(step, kind="stable")
    best = order[np.concatenate([[True], steps[1:] != steps[:-1]])]
    best = best[np.argsort(share[best], kind="stable")]
    return Profile(share=share[best], mean=mean[best], low=low[best], high=high[best])


def gaps(share: Any, feasible: Any, *, every: bool = False) -> list[tuple[float, float]]:
    """Ranges of a share without a feasible mixture, each ending halfway to the next one that has one.

    Args:
        share: The source's share, (n,), in any order.
        feasible: Whether the mixture keeps the constraints, (n,).
        every: As in `best_at_each_share`.
    """
    step = _steps(share, every=every)
    held = np.unique(step[feasible])
    found: list[tuple[float, float]] = []
    # Between two steps with a feasible mixture, before the first and after the last.
    for before, after in zip([-1, *held], [*held, int(step.max()) + 1], strict=True):
        between = share[(step > before) & (step < after)]
        if not len(between):
            continue
        left, right = float(between.min()), float(between.max())
        if before >= 0:
            left = _halfway(share[feasible & (step == before)].max(), share[~feasible], up=True)
        if after <= step.max():
            right = _halfway(share[feasible & (step == after)].min(), share[~feasible], up=False)
        found.append((left, right))
    return found


def _halfway(held: float, others: Any, *, up: bool) -> float:
    """The middle between a share that is held and the nearest of the others on one side."""
    nearest = others[others > held].min() if up else others[others < held].max()
    return float((held + nearest) / 2)


def _steps(share: Any, *, every: bool) -> Any:
    """The step of each mixture, (n,): one a distinct share where each is to have its own or many have the same."""
    rounded = np.round(share, 9)
    distinct = np.unique(rounded)
    if every or _A_STEP * len(distinct) <= len(share):
        return np.searchsorted(distinct, rounded)
    width = max(float(np.ptp(share)), 1e-12)
    return np.minimum((_BINS * (share - share.min()) / width).astype(int), _BINS - 1)


def profile_chart(
    inside: Profile,
    free: Profile,
    outside: Sequence[tuple[float, float]],
    runs: Any,
    marks: Sequence[tuple[Place, float, float]],
    *,
    ticks: int = 5,
) -> Callable[[Any, Paint], None]:
    """The score along a share: line and band inside the constraints, dashed without them.

    Args:
        inside: Over the mixtures that keep the constraints.
        free: Over all mixtures; without points where there are no constraints.
        outside: Ranges of the share that the constraints rule out.
        runs: Shares in the mixtures of runs, (m,).
        marks: Marked mixtures with their share and predicted score.
        ticks: About how many numbers the horizontal axis has.
    """

    def draw(axes: Any, paint: Paint) -> None:
        for i, (left, right) in enumerate(outside):
            axes.axvspan(
                left, right, color=paint("muted"), alpha=0.14, linewidth=0, gid="outside-" + letters(i), zorder=0
            )
        if len(free.share):
            axes.fill_between(
                free.share, free.low, free.high, color=paint("predicted"), alpha=0.07, linewidth=0, gid="unbound-band"
            )
            axes.plot(
                free.share, free.mean, color=paint("predicted"), linewidth=1.2, linestyle=(0, (3, 2)), gid="unbound"
            )
        axes.fill_between(
            inside.share, inside.low, inside.high, color=paint("predicted"), alpha=0.18, linewidth=0, gid="band"
        )
        axes.plot(inside.share, inside.mean, color=paint("predicted"), linewidth=2, gid="profile")
        axes.margins(x=0.03, y=0.1)
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.04 * (top - bottom), top)
        axes.plot(
            runs, np.full(len(runs), 0.035), "|", linestyle="none", transform=axes.get_xaxis_transform(),
            markersize=9, markeredgewidth=1.3, color=paint("ink"), gid="runs", zorder=5,
        )  # fmt: skip
        for place, x, y in marks:
            place.dot(axes, paint, x, y)
        percent_axis(axes.xaxis, ticks=ticks)
        percent_axis(axes.yaxis)

    return draw
