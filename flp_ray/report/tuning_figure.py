"""The figure of the tuning: losses of the trials at each tuned size, and the values carried to every size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from flp_ray.core.tuning import Hyperparameter, Optimum, Tuning, hyperparameter
from flp_ray.report.axes import few_log_ticks, plain_axis
from flp_ray.report.chart import panel
from flp_ray.report.content import ReportContent
from flp_ray.report.svg import colour
from flp_ray.report.tuning_view import words_of
from flp_ray.report.view import FigureView, Key, PanelView, nothing

_SIZE = (320, 230)
_Z = 1.2816
"""Half width of an 80 percent interval in standard errors."""


def tuning_figures(content: ReportContent) -> tuple[FigureView, ...]:
    """The figure, or a word why it cannot be drawn; none for a study that does not tune."""
    tuning = content.tuning
    if tuning is None:
        return ()
    title = "Tuning"
    if not tuning.optima:
        return (nothing("tuning", title, "The trials have not ended."),)
    panels = [*_trial_panels(tuning), *_carried_panels(tuning)]
    keys = (
        Key(mark="grid", text="trained to the end"),
        Key(mark="hollow", text="stopped early, at its last loss"),
        Key(mark="rule", text="optimum, or the value carried"),
        Key(mark="band", text="its 80 percent interval"),
    )
    caption = (
        "Losses are means over the domains. The optimum rests on the trials that were stopped as well: how far they "
        "were behind the others when they stopped is counted, not the loss shown. The last panel shows what every size "
        "is trained with; the interval widens where nothing was tuned."
    )
    return (FigureView(name="tuning", title=title, caption=caption, panels=tuple(panels), keys=keys),)


def _trial_panels(tuning: Tuning) -> Iterator[PanelView]:
    for i, optimum in enumerate(tuning.optima):
        points = list(_points(tuning, optimum))
        if points:
            name = f"{words_of(optimum.parameter)} of size {optimum.size}"
            note = f"best {optimum.value:.3g}, give or take {100 * optimum.log_stderr:.0f} percent"
            yield PanelView(title=name.capitalize(), svg=_losses(f"tuning-{i}", name, optimum, points), note=note)


def _points(tuning: Tuning, optimum: Optimum) -> Iterator[tuple[float, float, bool]]:
    """Value, last loss and whether it was trained to the end, of the size's trials."""
    for trial in tuning.trials:
        seen = [r for r in tuning.reports if r.run_id == trial.run_id and r.loss is not None]
        if trial.size == optimum.size and seen:
            last = max(seen, key=lambda report: report.tokens)
            ended = last.tokens >= trial.train_tokens
            yield hyperparameter(trial, optimum.parameter), last.loss or 0.0, ended


def _losses(name: str, label: str, optimum: Optimum, points: Sequence[tuple[float, float, bool]]) -> str:
    factor = math.exp(_Z * optimum.log_stderr)
    with panel(name, f"Loss against {label}", words_of(optimum.parameter), "loss (nats per token)", _SIZE) as drawn:
        axes = drawn.axes
        axes.set_xscale("log")
        axes.axvspan(optimum.value / factor, optimum.value * factor, color=colour("predicted"), alpha=0.16, linewidth=0)
        axes.axvline(optimum.value, color=colour("predicted"), linewidth=1.6, gid="optimum")
        for ended in (False, True):
            chosen = [(x, y) for x, y, full in points if full is ended]
            face = colour("grid") if ended else colour("surface")
            axes.plot(
                [x for x, _ in chosen], [y for _, y in chosen], "o", markersize=6, color=face,
                markeredgecolor=colour("surface") if ended else colour("grid"), markeredgewidth=0.9,
                gid="finished" if ended else "stopped",
            )  # fmt: skip
        values = [x for x, _, _ in points]
        few_log_ticks(axes.xaxis, min(values), max(values))
        plain_axis(axes.yaxis)
    return drawn.svg


def _carried_panels(tuning: Tuning) -> Iterator[PanelView]:
    for i, (parameter, _) in enumerate(tuning.formulas):
        if any(carried.parameter == parameter for carried in tuning.carried):
            title = f"{words_of(parameter).capitalize()} of every size"
            yield PanelView(title=title, svg=_carried(f"carried-{i}", title, parameter, tuning))


def _carried(name: str, label: str, parameter: Hyperparameter, tuning: Tuning) -> str:
    rows = [carried for carried in tuning.carried if carried.parameter == parameter]
    places = range(len(rows))
    with panel(name, label, "size", words_of(parameter), _SIZE, left=52) as drawn:
        axes = drawn.axes
        axes.set_yscale("log")
        low, high = min(c.low for c in rows) / 1.2, max(c.high for c in rows) * 1.2
        axes.set_ylim(low, high)
        axes.vlines(
            places, [c.low for c in rows], [c.high for c in rows], color=colour("predicted"), linewidth=6, alpha=0.3
        )
        axes.plot(places, [c.value for c in rows], "_", markersize=14, markeredgewidth=2, color=colour("predicted"))
        axes.set_xticks(list(places), [c.size for c in rows])
        axes.set_xlim(-0.6, len(rows) - 0.4)
        few_log_ticks(axes.yaxis, low, high)
    return drawn.svg
