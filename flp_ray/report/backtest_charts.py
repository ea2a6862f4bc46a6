"""The panels of a backtest: what goes on one set of axes, in the page's or in paper's colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flp_ray.core.backtest import Curve, RatioCurve
from flp_ray.report.axes import Paint, few_log_ticks, flops_axis, percent_axis, plain_axis, plain_log_axis
from flp_ray.report.backtest_series import Look
from flp_ray.report.dotplot import Draw, Pairs, dots, letters


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One method in a panel.

    Attributes:
        look: How it is drawn.
        points: Horizontal and vertical values.
        spans: Lower and upper ends of the intervals, beside `points`; empty for none.
    """

    look: Look
    points: Pairs
    spans: Pairs = ()


def against_flops(
    curves: Sequence[tuple[Look, Curve]], faint: Pairs, ends: Pairs, targets: Pairs, *, chance: float | None, log: bool
) -> Draw:
    """Score or loss along compute.

    Args:
        curves: The methods' predictions; the first one has its band drawn.
        faint: Checkpoints on the way.
        ends: Ends of the fitted runs.
        targets: Measured values of the targets.
        chance: Chance level, a dotted line; None for none.
        log: Whether the vertical axis is logarithmic (losses) or in percent (scores).
    """

    def draw(axes: Any, paint: Paint) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log" if log else "linear")
        if chance is not None:
            axes.axhline(chance, color=paint("muted"), linewidth=1.2, linestyle=(0, (1, 2)), gid="chance")
        for i, (look, curve) in reversed([*enumerate(curves)]):
            tone = paint(look.role)
            if i == 0:
                axes.fill_between(curve.flops, curve.low, curve.high, color=tone, alpha=0.16, linewidth=0, gid="band")
            _line(axes, curve.flops, curve.mean, look, tone, gid="curve-" + letters(i))
        dots(axes, faint, "o", paint("grid"), 2.6, alpha=0.3, gid="checkpoints")
        dots(axes, ends, "o", paint("grid"), 5.5, edge=paint("surface"), gid="ends")
        dots(axes, targets, "^", paint("target"), 8.5, edge=paint("surface"), gid="targets")
        _limits(axes, curves, [*faint, *ends, *targets], log=log)

    return draw


def parity(series: Sequence[Series], *, percent: bool, log: bool = False) -> Draw:
    """Measured (horizontal) against predicted (vertical) with the diagonal.

    Args:
        series: The methods.
        percent: Whether values are scores.
        log: Logarithmic axes, for losses of unlike domains together.
    """
    # Intervals are left out of the limits: a vague one must not press the points together.
    values = [v for s in series for point in s.points for v in point]
    low, high = min(values), max(values)
    pad = 0.07 * ((high - low) or abs(high) or 1.0)
    ends = (low / 1.06, high * 1.06) if log else (low - pad, high + pad)

    def draw(axes: Any, paint: Paint) -> None:
        if log:
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.plot(ends, ends, color=paint("muted"), linewidth=1, gid="diagonal")
        for i, one in reversed([*enumerate(series)]):
            tone, many = paint(one.look.role), len(one.points) > 40
            gid = "method-" + letters(i)
            if one.spans:
                lower, upper = zip(*one.spans, strict=True)
                width, alpha = (0.8, 0.25) if many else (1.4, 0.6)
                x = [p[0] for p in one.points]
                axes.vlines(x, lower, upper, colors=tone, linewidth=width, alpha=alpha, gid="intervals-" + letters(i))
            dots(
                axes, one.points, one.look.marker, tone, 3.4 if many else 6, edge=paint("surface"),
                alpha=0.75 if many else 1.0, gid=gid,
            )  # fmt: skip
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        for axis in (axes.xaxis, axes.yaxis):
            if log:
                few_log_ticks(axis, *ends)
            elif percent:
                percent_axis(axis)
            else:
                plain_axis(axis)

    return draw


def loss_against_score(groups: Sequence[tuple[str, Pairs]], targets: Pairs, *, chance: float | None) -> Draw:
    """Mean loss (horizontal) against a score, checkpoints in the colour of their run's size.

    Args:
        groups: Role of the colour and checkpoints, by size.
        targets: Measured values of the targets.
        chance: Chance level, a dotted line; None for none.
    """

    def draw(axes: Any, paint: Paint) -> None:
        if chance is not None:
            axes.axhline(chance, color=paint("muted"), linewidth=1.2, linestyle=(0, (1, 2)), gid="chance")
        for i, (role, points) in enumerate(groups):
            gid = "size-" + letters(i)
            dots(axes, points, "o", paint(role), 4.2, alpha=0.75, edge=paint("surface"), gid=gid)
        dots(axes, targets, "^", paint("target"), 8.5, edge=paint("surface"), gid="targets")
        plain_axis(axes.xaxis)
        percent_axis(axes.yaxis, ticks=6)
        axes.margins(x=0.05, y=0.08)

    return draw


def along_ratio(curves: Sequence[tuple[Look, RatioCurve]]) -> Draw:
    """Predictions along one source's ratio, each method's optimum marked.

    Args:
        curves: The methods; the first one has its band drawn.
    """

    def draw(axes: Any, paint: Paint) -> None:
        for i, (look, curve) in reversed([*enumerate(curves)]):
            tone = paint(look.role)
            if i == 0:
                axes.fill_between(curve.ratio, curve.low, curve.high, color=tone, alpha=0.16, linewidth=0, gid="band")
            _line(axes, curve.ratio, curve.mean, look, tone, gid="curve-" + letters(i))
            best = optimum(curve)
            dots(
                axes,
                [(curve.ratio[best], curve.mean[best])],
                "D",
                tone,
                7,
                edge=paint("surface"),
                gid="optimum-" + letters(i),
            )
        percent_axis(axes.xaxis, ticks=6)
        if curves[0][1].kind == "performance":
            percent_axis(axes.yaxis, ticks=6)
        else:
            plain_axis(axes.yaxis)
        axes.margins(x=0.04, y=0.08)

    return draw


def optimum(curve: RatioCurve) -> int:
    """Where a curve is best: the highest score or the lowest loss."""
    best = max if curve.kind == "performance" else min
    return curve.mean.index(best(curve.mean))


def _line(axes: Any, x: Sequence[float], y: Sequence[float], look: Look, tone: str, gid: str) -> None:
    width = 2.2 if look.role == "predicted" else 1.6 if look.featured else 0.9
    alpha = 1.0 if look.featured else 0.5
    style = (0, look.dash) if look.dash else "-"
    axes.plot(x, y, color=tone, linewidth=width, linestyle=style, alpha=alpha, gid=gid)


def _limits(axes: Any, curves: Sequence[tuple[Look, Curve]], points: Pairs, *, log: bool) -> None:
    """Limits follow the measured values and the first method's line; a wild other method leaves the panel."""
    first = curves[0][1] if curves else None
    seen = [p[1] for p in points] + [*(first.mean if first else ())]
    if not seen:
        return
    x = [p[0] for p in points] + [v for _, c in curves for v in c.flops]
    flops_axis(axes, [*x, 1.4 * max(x)])
    low, high = min(seen), max(seen)
    reach = 0.35 * ((high - low) or abs(high) or 1.0)
    band = [v for v in (*first.low, *first.high) if low - reach <= v <= high + reach] if first else []
    if log:
        plain_log_axis(axes, [v for v in (*seen, *band) if v > 0])
        return
    low, high = min([low, *band]), max([high, *band])
    pad = 0.06 * ((high - low) or 1.0)
    axes.set_ylim(low - pad, high + pad)
    percent_axis(axes.yaxis, ticks=6)
