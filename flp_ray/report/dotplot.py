"""Dot plots: a row a name, dots by method, and the drawing of dots that other panels share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flp_ray.report.axes import Paint, few_log_ticks, percent_axis, plain_axis
from flp_ray.report.backtest_series import Look
from flp_ray.report.drawing import cut

Draw = Callable[[Any, Paint], None]
Pairs = Sequence[tuple[float, float]]

ROW = 34
"""Pixels of one row of a dot plot with the name above it."""

TIGHT_ROW = 24
"""Pixels of one row with the name beside it."""

LOWEST_ERROR = 1e-4
"""Smaller relative errors are drawn here: the axis is logarithmic."""


_SIZES = {"v": 7.5, "^": 7.5, "P": 8.0}
"""Points of markers that look smaller than they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a dot plot: its name and its dots, value by look; `hollow` ones are drawn unfilled."""

    name: str
    dots: Sequence[tuple[Look, float]]
    hollow: Sequence[tuple[Look, float]] = ()


def error_rows(rows: Sequence[Row], *, beside: bool = False) -> Draw:
    """A dot plot of relative errors on a logarithmic axis, a row a name.

    Args:
        rows: Names and errors.
        beside: Whether names stand left of the axes (short ones), else above their row.
    """
    values = [max(v, LOWEST_ERROR) for row in rows for _, v in (*row.dots, *row.hollow)]
    low, high = min(values) / 1.5, max(values) * 1.5

    def draw(axes: Any, paint: Paint) -> None:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        few_log_ticks(axes.xaxis, low, high, percent=True)
        _rows(axes, rows, paint, lowest=LOWEST_ERROR, beside=beside)

    return draw


def share_rows(rows: Sequence[Row], mark: float) -> Draw:
    """A dot plot of shares between 0 and 1 with one of them marked by a line."""

    def draw(axes: Any, paint: Paint) -> None:
        axes.set_xlim(-0.03, 1.03)
        _rows(axes, rows, paint, lowest=0.0, beside=True)
        axes.axvline(mark, color=paint("ink"), linewidth=1.2, linestyle=(0, (4, 2)), gid="nominal")
        percent_axis(axes.xaxis)

    return draw


def rank_rows(rows: Sequence[Row]) -> Draw:
    """A dot plot of rank correlations, from the quarter below the worst of them to 1."""
    low = math.floor(4 * min(v for row in rows for _, v in row.dots) - 1e-9) / 4

    def draw(axes: Any, paint: Paint) -> None:
        axes.set_xlim(low, 1 + 0.03 * (1 - low))
        _rows(axes, rows, paint, lowest=-1.0, beside=False)
        plain_axis(axes.xaxis)

    return draw


def _rows(axes: Any, rows: Sequence[Row], paint: Paint, *, lowest: float, beside: bool) -> None:
    axes.grid(False)
    axes.set_yticks(range(len(rows)) if beside else [])
    axes.set_ylim(len(rows) - 0.35, -0.6 if beside else -0.75)
    if beside:
        axes.set_yticklabels([cut(row.name, 16) for row in rows], color=paint("ink"))
    axes.hlines(range(len(rows)), *axes.get_xlim(), colors=paint("rule"), linewidth=1, zorder=1, gid="rows")
    for y, row in enumerate(() if beside else rows):
        axes.text(
            0, y - 0.24, cut(row.name, 44), transform=axes.get_yaxis_transform(), fontsize=10.5,
            color=paint("ink"), va="bottom", ha="left",
        )  # fmt: skip
    for filled in (False, True):
        by_look: defaultdict[Look, list[tuple[float, float]]] = defaultdict(list)
        for y, row in enumerate(rows):
            for look, value in row.dots if filled else row.hollow:
                by_look[look].append((max(value, lowest), y))
        # The chosen method lies on top, methods without a colour at the bottom.
        order = sorted(by_look, key=lambda look: (look.featured, look.role == "predicted"))
        for i, look in enumerate(order):
            size = 8.0 if look.role == "predicted" else _SIZES.get(look.marker, 6.5) if look.featured else 5.0
            tone, edge = (look.role, "surface") if filled else ("surface", look.role)
            gid = ("filled-" if filled else "hollow-") + letters(i)
            marker = look.marker if filled else "o"
            width = 0.8 if filled else 1.5
            dots(axes, by_look[look], marker, paint(tone), size, edge=paint(edge), edge_width=width, gid=gid)


def letters(i: int) -> str:
    """A name without digits, which matplotlib's own names are told apart by."""
    return chr(ord("a") + i % 26) * (1 + i // 26)


def dots(
    axes: Any,
    points: Pairs,
    marker: str,
    tone: str,
    size: float,
    *,
    gid: str,
    edge: str = "none",
    edge_width: float = 0.8,
    alpha: float = 1.0,
) -> None:
    """Draws points in one style.

    Args:
        axes: Where to draw.
        points: Horizontal and vertical values; none draws nothing.
        marker: Matplotlib's name of the marker.
        tone: Its colour.
        size: Its width in points.
        gid: Name of the series.
        edge: Colour of its edge.
        edge_width: Width of its edge.
        alpha: Opacity, 0 to 1.
    """
    if points:
        axes.plot(
            [p[0] for p in points], [p[1] for p in points], marker, linestyle="none", markersize=size, color=tone,
            markeredgecolor=edge, markeredgewidth=edge_width if edge != "none" else 0, alpha=alpha, gid=gid,
            zorder=4 if gid == "targets" else 3,
        )  # fmt: skip
