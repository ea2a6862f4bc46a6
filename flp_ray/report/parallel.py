"""Parallel coordinates laid on their side: a row a quantity, a line a mixture. Seventeen rows fit on a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flp_ray.report.axes import Paint, percent_axis
from flp_ray.report.drawing import cut
from flp_ray.report.svg import SHADES

_ROW = 27
_TALL_ROW = 42
_FRAME = 64
_NAME_LETTERS = 16

NAMES = 112
"""Pixels left of the axes for the rows' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Featured:
    """A line that stands out: its values by row, its colour, whether it is dashed, and its name as a series."""

    values: Sequence[float]
    role: str
    dashed: bool
    gid: str


def height(rows: int, *, scales: bool = False) -> int:
    """Pixels that so many rows take; `scales` where each has its own."""
    return _FRAME + rows * (_TALL_ROW if scales else _ROW)


def share_rows(
    names: Sequence[str], ratios: Any, worth: Any, featured: Sequence[Featured]
) -> Callable[[Any, Paint], None]:
    """Mixtures as lines over rows of sources, on one scale of shares.

    Args:
        names: Sources, (K,).
        ratios: Mixing ratios, (n, K).
        worth: What colours the lines, (n,).
        featured: Lines that stand out.
    """
    top = max(float(np.max(ratios, initial=0.0)), *(max(f.values) for f in featured), 0.05)

    def draw(axes: Any, paint: Paint) -> None:
        axes.set_xlim(-0.02 * top, 1.03 * top)
        _lines(axes, paint, ratios, worth, featured)
        _rows(axes, paint, names)
        axes.grid(axis="x", color=paint("rule"), linewidth=0.8)
        percent_axis(axes.xaxis, ticks=6)

    return draw


def scaled_rows(names: Sequence[str], values: Any, featured: Sequence[Featured]) -> Callable[[Any, Paint], None]:
    """Points as lines over rows of scores, each row on its own scale from its least to its largest.

    Args:
        names: Objectives, (M,).
        values: Scores 0 to 1, (n, M); the first row colours the lines.
        featured: Lines that stand out.
    """
    every = np.vstack([values, *(np.array([f.values]) for f in featured)])
    low, high = every.min(axis=0), every.max(axis=0)
    span = np.where(high > low, high - low, 1.0)

    def draw(axes: Any, paint: Paint) -> None:
        axes.set_xlim(-0.03, 1.03)
        scaled = [
            Featured(values=[float(v) for v in (np.array(f.values) - low) / span], role=f.role, dashed=f.dashed,
                     gid=f.gid)
            for f in featured
        ]  # fmt: skip
        _lines(axes, paint, (values - low) / span, values[:, 0], scaled)
        _rows(axes, paint, names)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        for y, ends in enumerate(zip(low, high, strict=True)):
            for x, end, side in zip((0, 1), ends, ("left", "right"), strict=True):
                text = f"{100 * end:.1f}%".replace("-", "−")
                axes.text(x, y + 0.34, text, fontsize=9.5, color=paint("muted"), ha=side, va="center")

    return draw


def _rows(axes: Any, paint: Paint, names: Sequence[str]) -> None:
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels([cut(name, _NAME_LETTERS) for name in names], color=paint("ink"))
    axes.hlines(range(len(names)), *axes.get_xlim(), colors=paint("muted"), linewidth=0.8, zorder=1, gid="rows")


def _lines(axes: Any, paint: Paint, values: Any, worth: Any, featured: Sequence[Featured]) -> None:
    from matplotlib.collections import LineCollection

    rows = np.arange(values.shape[1])
    low, high = float(np.min(worth, initial=np.inf)), float(np.max(worth, initial=-np.inf))
    order = np.argsort(worth, kind="stable")
    steps = [round((SHADES - 1) * (worth[i] - low) / (high - low)) if high > low else SHADES - 1 for i in order]
    lines = [np.column_stack([values[i], rows]) for i in order]
    axes.add_collection(
        LineCollection(
            lines, colors=[paint(f"s{step}") for step in steps], linewidths=1.1, alpha=0.75, zorder=2, gid="mixtures"
        )
    )
    for line in featured:
        axes.plot(
            line.values, rows, color=paint(line.role), linewidth=2.2, zorder=4, gid=line.gid, clip_on=False,
            linestyle=(0, (3, 2)) if line.dashed else "-", marker="D" if not line.dashed else "s", markersize=5,
        )  # fmt: skip
