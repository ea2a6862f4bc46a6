"""The expected regret against the FLOPs spent: how the search came down, and by which decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flp_ray.report import numbers
from flp_ray.report.axes import Paint, few_log_ticks, plain_axis
from flp_ray.report.dotplot import dots
from flp_ray.report.drawing import Drawing, Sheet, Swatch
from flp_ray.report.search_words import KIND_WORDS, lost, present_regret

if TYPE_CHECKING:
    from flp_ray.core.search import Decision, DecisionKind, SearchView

_LOOKS: dict[DecisionKind, tuple[str, str, bool]] = {
    "start": ("o", "grid", False),
    "emergence": ("^", "target", False),
    "value": ("o", "predicted", False),
    "repeat": ("o", "predicted", True),
    "check": ("s", "validation", False),
    "stop": ("D", "ink", False),
}
"""Marker, colour and whether it is hollow, by kind of decision."""

_LOWEST_REGRET = 1e-6
"""Smaller regrets are drawn here: the axis is logarithmic, and a ten-thousandth of a point is none."""


def regret_sheet(view: SearchView) -> Sheet | None:
    """The expected regret at every decision; None as long as nothing can be predicted."""
    known = [d for d in view.decisions if d.expected_regret is not None]
    if not known:
        return None
    unit = _unit(max(view.budget_flops, view.spent_flops))
    kinds = [kind for kind in _LOOKS if any(d.kind == kind for d in view.decisions)]
    swatches = [
        Swatch(text=f"{kind}: {KIND_WORDS[kind]}", marker=_LOOKS[kind][0], role=_LOOKS[kind][1], hollow=_LOOKS[kind][2])
        for kind in kinds
    ]
    swatches.append(Swatch(text="tolerance: the search ends below", role="validation", dash=(4, 2), width=1.2))
    if view.reserved_flops > 0:
        swatches.append(Swatch(text="kept for validation", role="muted", band=True))
    now, blind = lost(present_regret(view)), len(known) < len(view.decisions)
    label = f"Expected regret against FLOPs spent, {numbers.count(len(view.decisions), 'decision')}; now {now}."
    drawing = Drawing(
        title="Expected regret against FLOPs spent",
        note=f"now {now}",
        label=label,
        x_label=f"FLOPs spent (10{_superscript(unit)})",
        y_label="expected regret (points)",
        draw=_draw(view, 10.0**unit),
        size=(660, 290),
    )
    return Sheet(
        name="regret",
        title="How the search came down",
        caption="One mark a decision, where it stood when it was made; the vertical axis is logarithmic. "
        + ("Marks on the bottom line were decided before anything could be predicted. " if blind else "")
        + "The expected regret may rise when a run contradicts what was believed.",
        drawings=(drawing,),
        swatches=tuple(swatches),
    )


def _draw(view: SearchView, unit: float) -> Any:
    known = [d for d in view.decisions if d.expected_regret is not None]
    blind = [d for d in view.decisions if d.expected_regret is None]

    def draw(axes: Any, paint: Paint) -> None:
        right = max(view.budget_flops, view.spent_flops) / unit
        axes.set_xlim(-0.015 * right, right)
        plain_axis(axes.xaxis)
        if view.reserved_flops > 0:
            start = max(view.budget_flops - view.reserved_flops, 0.0) / unit
            axes.axvspan(start, view.budget_flops / unit, color=paint("muted"), alpha=0.14, linewidth=0, gid="reserved")
        values = [_shown(d) for d in known]
        tolerance = max(view.tolerance, _LOWEST_REGRET)
        low, high = min(*values, tolerance) / 1.5, max(*values, tolerance) * 1.5
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        few_log_ticks(axes.yaxis, low, high, percent=True)
        axes.axhline(tolerance, color=paint("validation"), linewidth=1.2, linestyle=(0, (4, 2)), gid="tolerance")
        axes.plot(
            [d.spent_flops / unit for d in known], values, color=paint("muted"), linewidth=1.1, zorder=2, gid="history"
        )
        _kinds(axes, paint, known, unit, blind=False)
        _kinds(axes, paint, blind, unit, blind=True)
        for line in axes.lines:
            # Marks on the frame are drawn whole.
            line.set_clip_on(line.get_linestyle() != "None")

    return draw


def _kinds(axes: Any, paint: Paint, decisions: Sequence[Decision], unit: float, *, blind: bool) -> None:
    for kind, (marker, role, hollow) in _LOOKS.items():
        chosen = [d for d in decisions if d.kind == kind]
        size = 8.0 if kind in ("stop", "check") else 6.5
        tone, edge = ("surface", role) if hollow else (role, "surface")
        bottom = axes.get_ylim()[0]
        pairs = [(d.spent_flops / unit, bottom if blind else _shown(d)) for d in chosen]
        gid = f"blind-{kind}" if blind else f"decided-{kind}"
        dots(axes, pairs, marker, paint(tone), size, edge=paint(edge), edge_width=1.5 if hollow else 0.9, gid=gid)


def _shown(decision: Decision) -> float:
    return max(decision.expected_regret or 0.0, _LOWEST_REGRET)


def _unit(flops: float) -> int:
    return math.floor(math.log10(flops)) if flops > 0 else 0


def _superscript(exponent: int) -> str:
    return numbers.power(10.0**exponent, 1).split("10", 1)[1]
