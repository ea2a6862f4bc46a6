"""The figures of a backtest that look behind the predictions: loss against score, the optimum along a ratio."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from flp_ray.core.backtest import Backtest, RatioCurve, ValueKind
from flp_ray.report import backtest_charts as charts
from flp_ray.report import numbers
from flp_ray.report.backtest_series import (
    POINTS,
    WORDS,
    Measured,
    looks,
    measured_targets,
    method_swatches,
    methods_in_order,
    names_of,
    spread,
)
from flp_ray.report.drawing import Drawing, Sheet, Swatch
from flp_ray.report.svg import SHADES

_FEWEST = 3
"""Checkpoints that a panel needs."""


def loss_against_score(backtest: Backtest) -> Sheet | None:
    """Mean domain loss against score, every checkpoint of the fitted runs in the colour of its run's size."""
    whole = _whole_targets(backtest)
    sizes = sorted({run.params for run in backtest.fitted})
    roles = {p: f"s{round((SHADES - 1) * i / max(len(sizes) - 1, 1))}" for i, p in enumerate(sizes)}
    panels = (_link_panel(backtest, task, roles, whole) for task in names_of(backtest, "performance"))
    drawings = tuple(panel for panel in panels if panel is not None)
    if not drawings:
        return None
    shown = sizes if len(sizes) <= 6 else [sizes[0], sizes[-1]]
    return Sheet(
        name="loss-against-score",
        title="Loss against score",
        caption="Checkpoints of the fitted runs, evenly thinned where there are many. Points of all sizes on one "
        "path mean that the loss foretells the score; the path must not bend before it reaches the targets.",
        drawings=drawings,
        swatches=(
            *(Swatch(text=f"{numbers.tokens(p)} parameters", role=roles[p], marker="o") for p in shown),
            *((Swatch(text="target, measured", role="target", marker="^"),) if whole else ()),
            Swatch(text="chance", role="muted", dash=(1, 2), width=1.2),
        ),
    )


def along_ratio(backtest: Backtest, kind: ValueKind) -> Sheet | None:
    """Predictions along the ratio of one of two sources, the optimum marked; None without such curves."""
    styles, what = looks(backtest), WORDS[kind][0]
    groups: defaultdict[tuple[str, str, int, float], list[tuple[str, RatioCurve]]] = defaultdict(list)
    for result in methods_in_order(backtest):
        for curve in result.ratio_curves:
            if curve.kind == kind:
                groups[curve.name, curve.source, curve.params, curve.tokens].append((result.method, curve))
    drawings = []
    for (name, source, params, tokens), curves in groups.items():
        method, first = curves[0]
        best = charts.optimum(first)
        value = numbers.score(first.mean[best]) if kind == "performance" else numbers.significant(first.mean[best], 4)
        size = f"{numbers.tokens(params)}, {numbers.tokens(tokens)} tokens"
        drawings.append(
            Drawing(
                title=name,
                note=f"{method}: best at {numbers.share(first.ratio[best])} {source}, {value} · {size}",
                label=f"Predicted {what} on {name} along the share of {source}, {size}.",
                x_label=f"share of {source} (%)",
                y_label=WORDS[kind][1],
                draw=charts.along_ratio([(styles[m], c) for m, c in curves]),
            )
        )
    if not drawings:
        return None
    return Sheet(
        name=f"{what}-along-ratio",
        title=f"{what.capitalize()} along the mixing ratio",
        caption="Each line's best ratio is marked. Where the band is as high as the line's rise and fall, "
        "the ratio hardly matters or cannot be told.",
        drawings=tuple(drawings),
        swatches=(*method_swatches(backtest, kind, lines=True), Swatch(text="optimum", role="grid", marker="D")),
    )


def _whole_targets(backtest: Backtest) -> list[Measured]:
    """Targets with all domains: a mean over other domains would be another quantity."""
    domains = set(names_of(backtest, "domain_loss"))
    return [t for t in measured_targets(backtest) if domains and domains <= set(t.values["domain_loss"])]


def _link_panel(backtest: Backtest, task: str, roles: dict[int, str], whole: Sequence[Measured]) -> Drawing | None:
    by_size: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for run in backtest.fitted:
        for loss, score in zip(run.mean_loss, run.performance.get(task, ()), strict=False):
            if loss is not None and score is not None:
                by_size[run.params].append((loss, score))
    total = sum(len(points) for points in by_size.values())
    if total < _FEWEST:
        return None
    groups = [(roles[p], spread(by_size[p], POINTS // len(roles) + 2)) for p in roles if by_size[p]]
    ends = [
        (math.fsum(t.values["domain_loss"].values()) / len(t.values["domain_loss"]), t.values["performance"][task])
        for t in whole
        if task in t.values["performance"]
    ]
    return Drawing(
        title=task,
        label=f"Score on {task} against the mean domain loss: {numbers.count(total, 'checkpoint')}.",
        x_label="mean domain loss (nats per token)",
        y_label="score (%)",
        draw=charts.loss_against_score(groups, ends, chance=backtest.random_performance.get(task)),
    )
