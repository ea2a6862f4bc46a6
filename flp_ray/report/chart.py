"""Single panels: each function draws one set of axes and returns it as inline SVG.

Panels are small and drawn at the size they are shown at: their text stays legible on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flp_ray.core.run import Purpose
from flp_ray.report.axes import flops_axis, percent_axis, plain_axis, plain_log_axis, styled
from flp_ray.report.series import Curve, Point
from flp_ray.report.svg import colour, inline, settings, shade

_MARKERS: dict[Purpose, tuple[str, str, float]] = {
    "sampling": ("o", "grid", 6.0),
    "target": ("^", "target", 7.0),
    "validation": ("D", "validation", 6.5),
}


class Panel:
    """One set of axes; `svg` holds the drawing once the `with` block of `panel` has ended."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.svg = ""


@contextmanager
def panel(
    name: str, label: str, x_label: str, y_label: str, size: tuple[int, int], *, left: int = 42
) -> Iterator[Panel]:
    """Axes in the page's style.

    Args:
        name: Unique on the page.
        label: What a screen reader says.
        x_label: Quantity and unit.
        y_label: Quantity and unit.
        size: Width and height in pixels.
        left: Pixels for the vertical axis' numbers and label.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = size
    with matplotlib.rc_context(settings()):
        figure = Figure(figsize=(width / 72, height / 72))
        FigureCanvasSVG(figure)
        # Wide panels shrink on a phone and their text is enlarged there, which takes room.
        pad = 4 if width < 400 else 10
        left, bottom, right, top = left + pad, 36 + pad, 12, 10
        box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
        axes = figure.add_axes(box)
        styled(axes, x_label, y_label, pad, colour)
        drawn = Panel(axes)
        yield drawn
        drawn.svg = inline(figure, name=name, label=label)


def ratio_chart(
    name: str,
    label: str,
    curve: Curve | None,
    points: Sequence[Point],
    *,
    source: str,
    proposed: float | None,
    size: tuple[int, int] = (320, 250),
) -> str:
    """Score along a source's ratio: predicted line with band, measured points with standard errors.

    Args:
        name: Unique on the page.
        label: What a screen reader says.
        curve: The prediction; None where the task is not predicted.
        points: Measured scores.
        source: The source on the horizontal axis.
        proposed: Ratio of the proposal, marked by a line; None for none.
        size: Width and height in pixels.
    """
    with panel(name, label, f"share of {source} in the mixture (%)", "score (%)", size) as drawn:
        axes = drawn.axes
        if curve is not None:
            _band(axes, curve)
        if proposed is not None:
            axes.axvline(proposed, color=colour("validation"), linewidth=1, linestyle=(0, (2, 3)), gid="proposed")
        _measured(axes, points)
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis, ticks=max(6, size[0] // 60))
        axes.margins(x=0.04, y=0.08)
    return drawn.svg


def law_chart(
    name: str, label: str, curves: Sequence[Curve], points: Sequence[Point], shades: tuple[float, float]
) -> str:
    """Loss against FLOPs: the law's lines in the shade of their mixture, final losses as points.

    Args:
        name: Unique on the page.
        label: What a screen reader says.
        curves: One a mixture.
        points: Measured final losses.
        shades: Lowest and highest ratio of the colour scale.
    """
    with panel(name, label, "training FLOPs", "loss (nats per token)", (320, 260)) as drawn:
        axes = drawn.axes
        axes.set_xscale("log")
        axes.set_yscale("log")
        for i, curve in enumerate(curves):
            tone = shade(curve.shade or 0.0, *shades)
            axes.plot(curve.x, curve.mean, color=tone, linewidth=1.4, gid="law-" + "abcdefgh"[i % 8])
        for purpose, (marker, _, width) in _MARKERS.items():
            chosen = [p for p in points if p.purpose == purpose]
            tones = [colour("grid") if p.shade is None else shade(p.shade, *shades) for p in chosen]
            edge = colour("surface" if purpose == "sampling" else "ink")
            if chosen:
                axes.scatter(
                    [p.x for p in chosen], [p.y for p in chosen], marker=marker, c=tones, s=width**2,
                    edgecolors=edge, linewidths=0.9, zorder=3, gid=f"points-{purpose}",
                )  # fmt: skip
        values = [p.y for p in points] + [v for c in curves for v in c.mean]
        flops_axis(axes, [p.x for p in points] + [v for c in curves for v in c.x])
        plain_log_axis(axes, values)
    return drawn.svg


def parity_chart(name: str, label: str, points: Sequence[Point], *, unit: str) -> str:
    """Measured (horizontal) against predicted (vertical) with the diagonal.

    Args:
        name: Unique on the page.
        label: What a screen reader says.
        points: Their `low` and `high` are the predicted interval, shown for runs the fit has not seen.
        unit: `%` for scores, `nats per token` for losses.
    """
    with panel(name, label, f"measured ({unit})", f"predicted ({unit})", (250, 240)) as drawn:
        axes = drawn.axes
        values = [v for p in points for v in (p.x, p.y)]
        values += [v for p in points if p.purpose != "sampling" for v in (p.low, p.high) if v is not None]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        pad = 0.06 * ((high - low) or abs(high) or 1.0)
        axes.plot(
            [low - pad, high + pad],
            [low - pad, high + pad],
            color=colour("muted"),
            linewidth=1,
            gid="diagonal",
        )
        unseen = [p for p in points if p.purpose != "sampling" and p.low is not None and p.high is not None]
        spans = [(p.low or 0.0, p.high or 0.0) for p in unseen]
        _spans(axes, unseen, spans, "intervals")
        _dots(axes, points)
        axes.set_xlim(low - pad, high + pad)
        axes.set_ylim(low - pad, high + pad)
        for axis in (axes.xaxis, axes.yaxis):
            if unit == "%":
                percent_axis(axis)
            else:
                plain_axis(axis)
    return drawn.svg


def loss_score_chart(
    name: str, label: str, points: Sequence[Point], *, domain: str, random: float, threshold: float
) -> str:
    """Loss on one domain against a task's score; filled where emerged, hollow where not.

    Args:
        name: Unique on the page.
        label: What a screen reader says.
        points: Checkpoints.
        domain: The domain on the horizontal axis.
        random: Random performance, 0 to 1, a dotted line.
        threshold: Random performance plus the emergence margin, a dashed line.
    """
    with panel(name, label, f"loss on {domain} (nats per token)", "score (%)", (320, 250)) as drawn:
        axes = drawn.axes
        axes.axhline(random, color=colour("muted"), linewidth=1.2, linestyle=(0, (1, 2)), gid="random")
        axes.axhline(threshold, color=colour("muted"), linewidth=1.2, linestyle=(0, (5, 3)), gid="margin")
        for emerged in (False, True):
            chosen = [p for p in points if p.emerged is emerged]
            axes.plot(
                [p.x for p in chosen], [p.y for p in chosen], "o", markersize=4.4, linestyle="none",
                color=colour("predicted") if emerged else "none", alpha=0.75 if emerged else 1,
                markeredgecolor=colour("surface" if emerged else "muted"),
                markeredgewidth=0.6 if emerged else 0.9,
                gid="emerged" if emerged else "flat",
            )  # fmt: skip
        percent_axis(axes.yaxis, ticks=6)
        plain_axis(axes.xaxis)
        axes.margins(x=0.04, y=0.08)
    return drawn.svg


def _band(axes: Any, curve: Curve) -> None:
    axes.fill_between(curve.x, curve.low, curve.high, color=colour("predicted"), alpha=0.16, linewidth=0, gid="band")
    inside = [math.nan if out else y for y, out in zip(curve.mean, curve.extrapolated, strict=True)]
    outside = [y if out else math.nan for y, out in zip(curve.mean, curve.extrapolated, strict=True)]
    axes.plot(curve.x, inside, color=colour("predicted"), linewidth=2, gid="predicted")
    axes.plot(curve.x, outside, color=colour("predicted"), linewidth=2, linestyle=(0, (3, 2)), gid="extrapolated")


def _measured(axes: Any, points: Sequence[Point]) -> None:
    known = [p for p in points if p.error is not None and p.on_slice]
    _spans(axes, known, [(p.y - (p.error or 0.0), p.y + (p.error or 0.0)) for p in known], "errors")
    _dots(axes, points)


def _spans(axes: Any, points: Sequence[Point], spans: Sequence[tuple[float, float]], gid: str) -> None:
    if points:
        tones = [colour(_MARKERS[p.purpose][1]) for p in points]
        low, high = zip(*spans, strict=True)
        axes.vlines([p.x for p in points], low, high, colors=tones, linewidth=1.4, gid=gid)


def _dots(axes: Any, points: Sequence[Point]) -> None:
    for purpose, (marker, role, width) in _MARKERS.items():
        for on_slice in (False, True):
            chosen = [p for p in points if p.purpose == purpose and p.on_slice is on_slice]
            if not chosen:
                continue
            axes.plot(
                [p.x for p in chosen], [p.y for p in chosen], marker, linestyle="none", markersize=width,
                color=colour(role) if on_slice else colour("surface"), clip_on=False,
                markeredgecolor=colour("surface") if on_slice else colour(role), markeredgewidth=0.9,
                gid=f"points-{purpose}" + ("" if on_slice else "-off"),
                zorder=4 if purpose == "validation" else 3,
            )  # fmt: skip
