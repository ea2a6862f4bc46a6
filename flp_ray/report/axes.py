"""Axes in the page's style: spines and grid, ticks in percent, in powers of ten, in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flp_ray.report.numbers import power

Paint = Callable[[str], str]
"""Role of a colour (see `flp_ray.report.svg.ROLES`) -> the colour."""


def styled(axes: Any, x_label: str, y_label: str, pad: float, paint: Paint) -> None:
    """Gives axes the page's style.

    Args:
        axes: Matplotlib axes.
        x_label: Quantity and unit.
        y_label: Quantity and unit.
        pad: Points between numbers and label.
        paint: Colours by role.
    """
    axes.set_xlabel(x_label, color=paint("muted"), fontsize=11, labelpad=pad)
    axes.set_ylabel(y_label, color=paint("muted"), fontsize=11, labelpad=pad)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(paint("muted"))
        spine.set_linewidth(0.8)
    axes.tick_params(colors=paint("muted"), labelsize=10.5, length=3, width=0.8, which="both")
    axes.tick_params(axis="y", length=0, which="both")
    axes.grid(axis="y", color=paint("rule"), linewidth=0.8)
    axes.set_axisbelow(True)


def percent_axis(axis: Any, ticks: int = 5) -> None:
    """Fractions as percent, at about `ticks` round values."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{round(100 * v, 4):g}".replace("-", "−")))


def plain_axis(axis: Any) -> None:
    """Plain numbers with up to four digits."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}".replace("-", "−")))


def flops_axis(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic horizontal axis of FLOPs that spans the values."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if not values:
        return
    low, high = min(values) / 1.15, max(values) * 1.15
    decades = math.log10(high / low)
    steps = (1,) if decades > 2 else (1, 3) if decades > 1.2 else (1, 2, 5)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**e for e in exponents for m in steps if low <= m * 10.0**e <= high]
    if len(ticks) > 6:
        ticks = ticks[:: -(-len(ticks) // 6)]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: power(v, 1).replace("\u202f", "").removeprefix("1×")))


def plain_log_axis(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic vertical axis that spans the values, with plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    if not values:
        return
    low, high = min(values) / 1.03, max(values) * 1.03
    ticks = [t for t in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= t <= high]
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))


def few_log_ticks(axis: Any, low: float, high: float, *, percent: bool = False) -> None:
    """Ticks of a logarithmic axis from `low` to `high`: decades, or 1, 2, 3, 5, 7 where it spans little."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    decades = math.log10(high / low)
    steps = (1,) if decades > 2.5 else (1, 3) if decades > 1.3 else (1, 2, 3, 5, 7)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**e for e in exponents for m in steps if low <= m * 10.0**e <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v if percent else v:.3g}"))
