"""The Pareto front: a scatter with bars for two objectives, rows for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flp_ray.report import numbers, parallel
from flp_ray.report.axes import Paint, percent_axis
from flp_ray.report.drawing import Drawing, Sheet, Swatch
from flp_ray.report.experiment import objective_name

if TYPE_CHECKING:
    from flp_ray.core.search import FrontPoint, SearchView

_NUMBERED = 15
"""Points that are numbered in the scatter; more would cover each other."""


def front_points(view: SearchView) -> tuple[FrontPoint, ...]:
    """The front's points that have a prediction for every objective, by the first objective, best first."""
    names = view.front_objectives
    whole = [p for p in view.front if names and all(o in p.expected for o in names)]
    return tuple(sorted(whole, key=lambda p: -p.expected[names[0]].mean))


def front_sheet(view: SearchView) -> Sheet | None:
    """The front's figure; None where there are not two objectives or no points."""
    points, names = front_points(view), view.front_objectives
    if len(names) < 2 or not points:
        return None
    *rest, last = (objective_name(o) for o in names)
    title = f"Pareto front of {', '.join(rest)} and {last}"
    return _pair_sheet(view, points, title) if len(names) == 2 else _row_sheet(view, points, title)


def _pair_sheet(view: SearchView, points: tuple[FrontPoint, ...], title: str) -> Sheet:
    present, (first, second) = _present(view), (objective_name(o) for o in view.front_objectives)
    drawing = Drawing(
        title="What the one costs the other",
        note=numbers.count(len(points), "mixture"),
        label=f"{title}, {numbers.count(len(points), 'mixture')}.",
        x_label=f"{first} (%)",
        y_label=f"{second} (%)",
        draw=_scatter(view, points, present),
        size=(480, 340),
    )
    swatches = [Swatch(text="mixture of the front", role="predicted", marker="o")]
    if present is not None:
        swatches.append(Swatch(text="in use now", role="ink", marker="s"))
    return Sheet(
        name="front",
        title=title,
        caption="Predictions at the target with 80 percent intervals; no mixture beats another in both. Numbers are "
        "those of the table. Where the bars are longer than the front, the objectives hardly conflict or it cannot be "
        "told.",
        drawings=(drawing,),
        swatches=tuple(swatches),
    )


def _row_sheet(view: SearchView, points: tuple[FrontPoint, ...], title: str) -> Sheet:
    names, present = view.front_objectives, _present(view)
    values = np.array([[p.expected[o].mean for o in names] for p in points])
    dashed = [] if present is None else [parallel.Featured(values=present, role="ink", dashed=True, gid="present")]
    drawing = Drawing(
        title="One line a mixture",
        note=f"coloured by {objective_name(names[0])}: purple is low, yellow is high",
        label=f"{title}, {numbers.count(len(points), 'mixture')}.",
        x_label="",
        y_label="",
        draw=parallel.scaled_rows([objective_name(o) for o in names], values, dashed),
        size=(430, parallel.height(len(names), scales=True)),
        names=parallel.NAMES,
    )
    return Sheet(
        name="front",
        title=title,
        caption="Predictions at the target; each row has its own scale, from the least to the largest value. Lines "
        "that cross between two rows are what one objective costs the other. The intervals are in the table.",
        drawings=(drawing,),
        swatches=() if present is None else (Swatch(text="in use now", role="ink", dash=(3, 2), width=2.2),),
    )


def _present(view: SearchView) -> list[float] | None:
    """Scores of the mixture in use, by objective of the front; None where one is not known."""
    known = {a.objective: a.present_expected for a in view.answers if a.present_expected is not None}
    if not all(o in known for o in view.front_objectives):
        return None
    return [known[o].mean for o in view.front_objectives]


def _scatter(view: SearchView, points: tuple[FrontPoint, ...], present: list[float] | None) -> Any:
    first, second = view.front_objectives

    def draw(axes: Any, paint: Paint) -> None:
        across, up = [p.expected[first] for p in points], [p.expected[second] for p in points]
        x, y = [e.mean for e in across], [e.mean for e in up]
        bars = {"colors": paint("predicted"), "linewidth": 1.0, "alpha": 0.45}
        axes.hlines(y, [e.low for e in across], [e.high for e in across], gid="across", **bars)
        axes.vlines(x, [e.low for e in up], [e.high for e in up], gid="up", **bars)
        axes.plot(x, y, color=paint("predicted"), linewidth=1.0, linestyle=(0, (2, 2)), gid="front")
        axes.plot(
            x, y, "o", linestyle="none", markersize=7, color=paint("predicted"), markeredgecolor=paint("surface"),
            markeredgewidth=0.9, zorder=4, gid="points",
        )  # fmt: skip
        if len(points) <= _NUMBERED:
            for i, at in enumerate(zip(x, y, strict=True), start=1):
                axes.annotate(
                    str(i), at, xytext=(5, 5), textcoords="offset points", fontsize=9.5, color=paint("ink")
                )  # fmt: skip
        if present is not None:
            axes.plot(
                [present[0]], [present[1]], "s", markersize=8, color=paint("ink"), markeredgecolor=paint("surface"),
                zorder=5, gid="present",
            )  # fmt: skip
        axes.grid(axis="x", color=paint("rule"), linewidth=0.8)
        axes.margins(x=0.05, y=0.08)
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis, ticks=7)

    return draw
