"""The figures of the mixture surface: a line for two sources, triangles for three, slices and rows above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flp_ray.report import numbers, parallel, slices, ternary
from flp_ray.report.content import MEAN
from flp_ray.report.drawing import Drawing, Sheet, Swatch
from flp_ray.report.experiment import objective_name
from flp_ray.report.search_marks import Place, places, run_ratios, varying
from flp_ray.report.search_words import lost

if TYPE_CHECKING:
    from flp_ray.core.search import MixtureSurface, SearchAnswer
    from flp_ray.report.content import ReportContent

_LINES = 40
"""Mixtures drawn in parallel coordinates."""

_FEWEST_LINES = 20

_RUNS = Swatch(text="mixture of a run", role="ink", marker="|")
_RUN_DOTS = Swatch(text="mixture of a run", role="ink", marker="o")
_OUTSIDE = Swatch(text="outside the constraints", role="muted", band=True)
_BAND = Swatch(
    text=f"predicted, 80{numbers.THIN}% interval of the law", role="predicted", dash=(), width=2.0, band=True
)
_FREE = Swatch(text="predicted without the constraints", role="predicted", dash=(3, 2), width=1.2)


def surface_sheets(content: ReportContent) -> tuple[Sheet, ...]:
    """The surface of every objective; those over no mixture that can be drawn are absent."""
    search = content.search
    if search is None:
        return ()
    answers = {a.objective: a for a in search.answers}
    found: list[Sheet] = []
    for i, surface in enumerate(search.surfaces):
        if len(surface.ratios):
            found += _sheets(content, surface, answers.get(surface.objective), f"surface-{i}")
    return tuple(found)


def _sheets(
    content: ReportContent, surface: MixtureSurface, answer: SearchAnswer | None, name: str
) -> tuple[Sheet, ...]:
    axes = varying(surface)
    if not axes:
        return ()
    if len(axes) == 2:
        return (_line_sheet(content, surface, answer, name),)
    if len(axes) == 3 and ternary.spans_plane(surface.ratios[:, axes]):
        return (_ternary_sheet(content, surface, answer, name),)
    return (_slice_sheet(content, surface, answer, name), _parallel_sheet(surface, answer, f"{name}-best"))


def _line_sheet(content: ReportContent, surface: MixtureSurface, answer: SearchAnswer | None, name: str) -> Sheet:
    first, second = varying(surface)
    # The source with the lesser share is the one that people ask about.
    shares = surface.ratios[:, [first, second]] if answer is None else _point(answer, surface)[None, [first, second]]
    along = first if shares[:, 0].mean() < shares[:, 1].mean() else second
    other = surface.sources[first if along == second else second]
    drawing = _profile_drawing(content, surface, answer, along, size=(560, 320))
    return Sheet(
        name=name,
        title=f"{_heading(surface)} along the share of {surface.sources[along]}",
        caption=f"At the target; {other} is the rest. Where the band is as high as the line's rise and fall, the share "
        "hardly matters or cannot be told.",
        drawings=(drawing,),
        swatches=_profile_swatches(surface, places(answer)),
    )


def _slice_sheet(content: ReportContent, surface: MixtureSurface, answer: SearchAnswer | None, name: str) -> Sheet:
    drawings = [_profile_drawing(content, surface, answer, along, size=(270, 226)) for along in varying(surface)]
    return Sheet(
        name=name,
        title=f"{_heading(surface)} along each source's share",
        caption="Each panel holds one source's share and takes the best of the others at the target, among the "
        "mixtures reckoned. Where a line is flat, that share hardly matters; where the band is as high as the line's "
        "rise and fall, it cannot be told.",
        drawings=tuple(drawings),
        swatches=_profile_swatches(surface, places(answer)),
    )


def _profile_drawing(
    content: ReportContent,
    surface: MixtureSurface,
    answer: SearchAnswer | None,
    along: int,
    size: tuple[int, int],
) -> Drawing:
    source, share = surface.sources[along], surface.ratios[:, along]
    values = (share, surface.mean, surface.low, surface.high)
    everything = np.ones(len(share), dtype=bool)
    every = len(varying(surface)) == 2
    inside = slices.best_at_each_share(*values, surface.feasible, every=every)
    free = slices.best_at_each_share(*values, everything if not surface.feasible.all() else ~everything, every=every)
    outside = slices.gaps(share, surface.feasible, every=every)
    what = objective_name(surface.objective)
    note = _profile_note(inside)
    runs = np.unique(run_ratios(content, surface)[:, along])
    return Drawing(
        title=source,
        note=note,
        label=f"Predicted {what} along the share of {source}: {note}; {numbers.count(len(runs), 'share')} in runs.",
        x_label=f"share of {source} (%)",
        y_label=f"{what} (%)" if size[0] > 300 else "score (%)",
        draw=slices.profile_chart(
            inside, free, outside, runs, _profile_marks(answer, source), ticks=max(5, size[0] // 60)
        ),
        size=size,
    )


def _profile_marks(answer: SearchAnswer | None, source: str) -> list[tuple[Place, float, float]]:
    if answer is None:
        return []
    worth = {"present": answer.present_expected, "free": answer.free_expected, "optimum": answer.expected}
    return [
        (place, place.mixture.ratio(source), expected.mean)
        for place in places(answer)
        if (expected := worth[place.gid]) is not None
    ]


def _profile_note(inside: slices.Profile) -> str:
    if not len(inside.share):
        return "no mixture keeps the constraints"
    best = int(np.argmax(inside.mean))
    spread = float(np.ptp(inside.mean))
    return f"best at {numbers.share(float(inside.share[best]))}; {lost(spread)} to the worst"


def _profile_swatches(surface: MixtureSurface, marks: Sequence[Place]) -> tuple[Swatch, ...]:
    bound = not surface.feasible.all()
    found = [_BAND, *([_FREE, _OUTSIDE] if bound else []), *(m.swatch() for m in reversed(marks)), _RUNS]
    return tuple(found)


def _ternary_sheet(content: ReportContent, surface: MixtureSurface, answer: SearchAnswer | None, name: str) -> Sheet:
    axes, what = list(varying(surface)), objective_name(surface.objective)
    marks = places(answer)
    triangle = ternary.Triangle(
        sources=tuple(surface.sources[i] for i in axes),
        ratios=surface.ratios[:, axes],
        feasible=surface.feasible,
        runs=_distinct_points(run_ratios(content, surface)[:, axes]),
        marks=marks,
    )
    pinned = 1 - triangle.total
    alone = "" if pinned < 1e-6 else f", beside the {numbers.share(pinned)} of the pinned ones"
    width = f"Width of the 80{numbers.THIN}% interval"
    drawings = (
        _triangle_drawing("Predicted", "purple is low, yellow is high", what, triangle, surface.mean, _percent),
        _triangle_drawing(
            width, "purple is sure, yellow is not", what, triangle, surface.high - surface.low, _points_wide
        ),
    )
    swatches = [*(m.swatch() for m in reversed(marks)), _RUN_DOTS]
    if not surface.feasible.all():
        swatches.append(_OUTSIDE)
    return Sheet(
        name=name,
        title=f"{_heading(surface)} over the mixtures",
        caption=f"At the target. A corner is a mixture of one source alone{alone}; numbers on an edge are shares in "
        "percent of the source whose corner lies clockwise along it. The second triangle shows where the first one can "
        "be trusted.",
        drawings=drawings,
        swatches=tuple(swatches),
    )


def _triangle_drawing(
    title: str, note: str, what: str, triangle: ternary.Triangle, values: Any, ends: Callable[[float], str]
) -> Drawing:
    shown = values[triangle.feasible] if triangle.feasible.any() else values
    corners = ", ".join(triangle.sources)
    return Drawing(
        title=title,
        note=note,
        label=f"{title}, {what}, over the mixtures of {corners}: {ends(float(shown.min()))} to "
        f"{ends(float(shown.max()))} within the constraints.",
        x_label="",
        y_label="",
        draw=ternary.contours(triangle, values, ends),
        size=(340, 356),
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%".replace("-", "−")


def _points_wide(value: float) -> str:
    return f"{numbers.significant(100 * value, 2)} pt"


def _parallel_sheet(surface: MixtureSurface, answer: SearchAnswer | None, name: str) -> Sheet:
    chosen = _good_mixtures(surface)
    worth, what = surface.mean[chosen], objective_name(surface.objective)
    featured = [
        parallel.Featured(values=place.ratios(surface.sources), role=place.role, dashed=place.hollow, gid=place.gid)
        for place in places(answer)
    ]
    low, high = (numbers.score(float(v)) for v in (worth.min(), worth.max()))
    drawing = Drawing(
        title=f"{len(chosen)} good mixtures",
        note=f"{low} (purple) to {high} (yellow)",
        label=f"Shares of each source in {len(chosen)} good mixtures for {what}, {low} to {high}.",
        x_label="share in the mixture (%)",
        y_label="",
        draw=parallel.share_rows(surface.sources, surface.ratios[chosen], worth, featured),
        size=(430, parallel.height(len(surface.sources))),
        names=parallel.NAMES,
    )
    return Sheet(
        name=name,
        title=f"Good mixtures for {what}",
        caption="One line a mixture that keeps the constraints and is predicted above the lower end of the best one's "
        f"interval, and never fewer than the best {_FEWEST_LINES}. What all lines share is settled, where "
        "they part there is a choice.",
        drawings=(drawing,),
        swatches=tuple(
            Swatch(text=p.text, role=p.role, dash=(3, 2) if p.hollow else (), width=2.2)
            for p in reversed(places(answer))
        ),
    )


def _good_mixtures(surface: MixtureSurface) -> Any:
    """Feasible mixtures above the lower end of the best one's interval, evenly thinned by rank."""
    allowed = np.flatnonzero(surface.feasible) if surface.feasible.any() else np.arange(len(surface.mean))
    ranked = allowed[np.argsort(-surface.mean[allowed], kind="stable")]
    good = int(np.sum(surface.mean[ranked] >= surface.low[ranked[0]]))
    good = min(max(good, _FEWEST_LINES), len(ranked))
    return ranked[np.unique(np.linspace(0, good - 1, min(good, _LINES)).round().astype(int))]


def _heading(surface: MixtureSurface) -> str:
    # Only our own words get a capital letter; a task is written as its owners write it.
    return "Mean score" if surface.objective == MEAN else surface.objective


def _point(answer: SearchAnswer, surface: MixtureSurface) -> Any:
    return np.array([answer.mixture.ratio(s) for s in surface.sources])


def _distinct_points(ratios: Any) -> Any:
    return np.unique(ratios[ratios.sum(axis=1) > 0], axis=0)
