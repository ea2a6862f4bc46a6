"""A value over the mixtures of three sources: contours in a triangle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flp_ray.report.axes import Paint
from flp_ray.report.drawing import cut
from flp_ray.report.search_marks import Place
from flp_ray.report.svg import SHADES

_HEIGHT = math.sqrt(3) / 2
_GRID = (0.25, 0.5, 0.75)
_NAME_LETTERS = 18
_BAR = (0.2, 0.8, -0.205, -0.17)
"""Left, right, bottom and top of the colour scale, in units of the triangle's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triangle:
    """Mixtures of three sources in the plane.

    Attributes:
        sources: Their names: left corner, right corner, top.
        ratios: Mixing ratios, (n, 3).
        feasible: Whether a mixture keeps the constraints, (n,).
        runs: Ratios of the mixtures of runs, (m, 3).
        marks: Mixtures that are marked.
    """

    sources: tuple[str, ...]
    ratios: Any
    feasible: Any
    runs: Any
    marks: Sequence[Place]

    @property
    def total(self) -> float:
        """What the three ratios sum to: less than 1 where other sources are pinned."""
        return float(np.mean(self.ratios.sum(axis=1)))


def in_plane(ratios: Any) -> Any:
    """Barycentric coordinates -> the plane, (n, 3) -> (n, 2); the triangle has sides of 1."""
    shares = ratios / ratios.sum(axis=-1, keepdims=True)
    return np.stack([shares[..., 1] + shares[..., 2] / 2, shares[..., 2] * _HEIGHT], axis=-1)


def spans_plane(ratios: Any) -> bool:
    """Whether the mixtures fill an area: along a line there are no contours."""
    if len(ratios) < 3:
        return False
    points = in_plane(ratios)
    return bool(np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[-1] > 1e-6)


def contours(triangle: Triangle, values: Any, ends: Callable[[float], str]) -> Callable[[Any, Paint], None]:
    """Filled contours, greyed where the constraints are broken, with the colour scale below.

    Args:
        triangle: The mixtures; they span the plane.
        values: What is drawn, (n,).
        ends: An end of the colour scale -> its text.
    """
    shown = values[triangle.feasible] if triangle.feasible.any() else values
    low, high = float(shown.min()), float(shown.max())
    spread = max(high - low, 1e-9 * max(abs(high), 1.0))

    def draw(axes: Any, paint: Paint) -> None:
        axes.set_axis_off()
        axes.set_aspect("equal")
        # Names of corners and the colour scale stand in the margin that other panels need for their axes.
        axes.set_xlim(-0.06, 1.06)
        axes.set_ylim(-0.1, _HEIGHT + 0.1)
        mesh = _mesh(in_plane(triangle.ratios))
        # Outside the constraints values may lie off the scale; there they take its last colour.
        clipped = np.clip(values, low, low + spread)
        levels = np.linspace(low, low + spread, SHADES + 1)
        levels[0], levels[-1] = levels[0] - spread / 100, levels[-1] + spread / 100
        areas = axes.tricontourf(mesh, clipped, levels=levels, colors=[paint(f"s{i}") for i in range(SHADES)])
        areas.set_gid("contours")
        if not triangle.feasible.all():
            _grey_out(axes, paint, mesh, triangle.feasible)
        _frame(axes, paint, triangle)
        _scale(axes, paint, ends(low), ends(high))
        if len(triangle.runs):
            x, y = in_plane(triangle.runs).T
            axes.plot(
                x, y, "o", linestyle="none", markersize=4.6, color=paint("ink"), markeredgecolor=paint("surface"),
                markeredgewidth=0.8, zorder=5, clip_on=False, gid="runs",
            )  # fmt: skip
        for mark in triangle.marks:
            ratios = mark.ratios(triangle.sources)
            if ratios.sum() > 0:
                mark.dot(axes, paint, *in_plane(ratios))

    return draw


def _mesh(points: Any) -> Any:
    from matplotlib.tri import TriAnalyzer, Triangulation

    mesh = Triangulation(points[:, 0], points[:, 1])
    # Rounding leaves slivers along straight edges, which would be drawn as spikes.
    mesh.set_mask(TriAnalyzer(mesh).get_flat_tri_mask(0.01))
    return mesh


def _grey_out(axes: Any, paint: Paint, mesh: Any, feasible: Any) -> None:
    import matplotlib

    outside = (~feasible).astype(float)
    veil = axes.tricontourf(mesh, outside, levels=[0.5, 1.5], colors=[paint("surface")], alpha=0.72)
    veil.set_gid("outside")
    with matplotlib.rc_context({"hatch.color": paint("muted"), "hatch.linewidth": 0.6}):
        axes.tricontourf(mesh, outside, levels=[0.5, 1.5], colors="none", hatches=["////"]).set_gid("hatch")
    if feasible.any():
        border = axes.tricontour(mesh, outside, levels=[0.5], colors=[paint("ink")], linewidths=1.0)
        border.set_gid("border")


def _frame(axes: Any, paint: Paint, triangle: Triangle) -> None:
    from matplotlib.collections import LineCollection

    corners = np.array([[0, 0], [1, 0], [0.5, _HEIGHT]])
    axes.fill(*corners.T, facecolor="none", edgecolor=paint("muted"), linewidth=1.0, zorder=3, gid="frame")
    lines: list[Any] = []
    for share in _GRID:
        for i in range(3):
            # The line on which source i has this share, from one neighbouring edge to the other.
            ends = np.zeros((2, 3))
            ends[:, i] = share
            ends[0, (i + 1) % 3] = ends[1, (i + 2) % 3] = 1 - share
            line = in_plane(ends)
            lines.append(line)
            _tick(axes, paint, line[0], i, share * triangle.total)
    axes.add_collection(
        LineCollection(lines, colors=[paint("surface")], linewidths=0.7, alpha=0.5, zorder=2, gid="grid")
    )
    whole = f"{100 * triangle.total:.3g}%"
    for i, (x, y, side, base) in enumerate(((-0.06, -0.05, "left", "top"), (1.06, -0.05, "right", "top"))):
        axes.text(x, y, _corner(triangle.sources[i], whole), ha=side, va=base, fontsize=10.5, color=paint("ink"))
    axes.text(
        0.5, _HEIGHT + 0.03, _corner(triangle.sources[2], whole), ha="center", va="bottom", fontsize=10.5,
        color=paint("ink"),
    )  # fmt: skip


def _corner(source: str, whole: str) -> str:
    return f"{whole} {cut(source, _NAME_LETTERS)}"


def _tick(axes: Any, paint: Paint, at: Any, source: int, share: float) -> None:
    # Ticks of the left corner's source stand below the bottom edge, of the right one's right, of the top's left.
    dx, dy, side, base = ((0, -0.015, "center", "top"), (0.02, 0.0, "left", "center"), (-0.02, 0.0, "right", "center"))[
        source
    ]
    axes.text(at[0] + dx, at[1] + dy, f"{100 * share:.3g}", ha=side, va=base, fontsize=9, color=paint("muted"))


def _scale(axes: Any, paint: Paint, low: str, high: str) -> None:
    from matplotlib.patches import Rectangle

    left, right, bottom, top = _BAR
    width = (right - left) / SHADES
    for i in range(SHADES):
        # A hair wider than its step, so that no gaps show between steps.
        patch = Rectangle((left + i * width, bottom), 1.04 * width, top - bottom, color=paint(f"s{i}"), linewidth=0)
        axes.add_patch(patch)
        patch.set_clip_on(False)
    middle = (bottom + top) / 2
    for x, text, side in ((left - 0.02, low, "right"), (right + 0.02, high, "left")):
        axes.text(x, middle, text, ha=side, va="center", fontsize=9.5, color=paint("muted"))
