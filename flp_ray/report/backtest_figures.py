"""The figures of a backtest: prediction beside measurement, from the overview to single tasks and domains.

They are those of Chen et al. 2024 for any records: scores and losses against FLOPs (Fig. 2 to 5, 7 to 9, 14 to
16), the optimum along a ratio (Fig. 6), loss against score (Fig. 10), relative errors by method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flp_ray.core.backtest import Backtest, MethodResult, ValueKind
from flp_ray.report import backtest_charts as charts
from flp_ray.report import backtest_errors as errors
from flp_ray.report import backtest_laws as laws
from flp_ray.report import numbers
from flp_ray.report.backtest_charts import Series
from flp_ray.report.backtest_series import (
    FEW_TARGETS,
    KINDS,
    POINTS,
    WORDS,
    Look,
    judged,
    kind_summary,
    looks,
    measured_targets,
    method_swatches,
    methods_in_order,
    names_of,
    spread,
    target_count,
)
from flp_ray.report.drawing import Drawing, Sheet, Swatch


def sheets(backtest: Backtest) -> tuple[Sheet, ...]:
    """All figures that can be drawn, in the order of the page; those without data are absent."""
    found = [
        errors.overview(backtest),
        *(against_flops(backtest, kind) for kind in KINDS),
        *(parity(backtest, kind) for kind in KINDS),
        *(pooled_parity(backtest, kind) for kind in KINDS),
        *(errors.relative_errors(backtest, kind) for kind in KINDS),
        laws.loss_against_score(backtest),
        *(laws.along_ratio(backtest, kind) for kind in KINDS),
        errors.rank_correlations(backtest),
        errors.coverage(backtest),
    ]
    return tuple(sheet for sheet in found if sheet is not None)


def against_flops(backtest: Backtest, kind: ValueKind) -> Sheet | None:
    """Score or loss against FLOPs with the methods' curves, a panel a task or domain; None without curves."""
    what = WORDS[kind][0]
    panels = (_flops_panel(backtest, kind, name) for name in names_of(backtest, kind))
    drawings = tuple(panel for panel in panels if panel is not None)
    if not drawings:
        return None
    swatches = [Swatch(text="fitted run, at its end", role="grid", marker="o")]
    if kind == "performance":
        swatches.append(Swatch(text="its checkpoints", role="grid", marker="o", opacity=0.35))
    swatches.append(Swatch(text="target, measured", role="target", marker="^"))
    swatches += method_swatches(backtest, kind, lines=True)
    if kind == "performance":
        swatches.append(Swatch(text="chance", role="muted", dash=(1, 2), width=1.2))
    return Sheet(
        name=f"{what}-against-flops",
        title=f"{what.capitalize()} against FLOPs",
        caption=f"Lines are predictions along growing compute, sizes and tokens growing together; the band is the "
        f"80 percent interval of {backtest.chosen}. Over each panel: its relative error on the targets. "
        + ("Both axes are logarithmic. " if kind == "domain_loss" else "")
        + "A method can be trusted where its line runs on to the triangles, which it has not seen.",
        drawings=drawings,
        swatches=tuple(swatches),
    )


def parity(backtest: Backtest, kind: ValueKind) -> Sheet | None:
    """Predicted against measured, a panel a task or domain; None where there are curves or nothing is measured."""
    if _has_curves(backtest, kind):
        return None
    what = WORDS[kind][0]
    many = _many_targets(backtest)
    panels = (_parity_panel(backtest, kind, name) for name in names_of(backtest, kind))
    drawings = tuple(panel for panel in panels if panel is not None)
    if not drawings:
        return None
    first = next(r.method for r in methods_in_order(backtest) if r.targets)
    caption = f"Points on the line were predicted as measured. Bars are the 80 percent intervals of {first}. "
    caption += "A cloud along the line but off it has the right order and the wrong level."
    if target_count(backtest) > POINTS:
        caption += f" Panels show an even selection of {POINTS} targets."
    swatches = method_swatches(backtest, kind, lines=False)[: 1 if many else None]
    return Sheet(
        name=f"{what}-predicted-against-measured",
        title=f"{what.capitalize()}: predicted against measured",
        caption=caption,
        drawings=drawings,
        swatches=(Swatch(text="prediction = measurement", role="muted", dash=(), width=1.0), *swatches),
    )


def pooled_parity(backtest: Backtest, kind: ValueKind) -> Sheet | None:
    """Predicted against measured over all tasks or domains, a panel a method; None where `parity` shows all."""
    if _has_curves(backtest, kind) or not _many_targets(backtest) or len(backtest.methods) < 2:
        return None
    styles, what = looks(backtest), WORDS[kind][0]
    unit = "%" if kind == "performance" else "nats per token"
    drawings = []
    for result in methods_in_order(backtest):
        one = _pairs(result, styles[result.method], kind, names_of(backtest, kind), spans=False)
        if one is None:
            continue
        error = kind_summary(result, kind).mean_relative_error
        drawings.append(
            Drawing(
                title=result.method,
                note=f"mean relative error {numbers.percent(error, 2)}",
                label=f"Predicted against measured {what} of {result.method}, everything together.",
                x_label=f"measured ({unit})",
                y_label=f"predicted ({unit})",
                draw=charts.parity([one], percent=kind == "performance", log=kind == "domain_loss"),
                size=(270, 256),
            )
        )
    if len(drawings) < 2:
        return None
    every = "tasks" if kind == "performance" else "domains"
    return Sheet(
        name=f"{what}-by-method",
        title=f"{what.capitalize()}: predicted against measured by method",
        caption=f"All {every} and targets together (an even selection where there are more than {POINTS} values).",
        drawings=tuple(drawings),
        swatches=(Swatch(text="prediction = measurement", role="muted", dash=(), width=1.0),),
    )


def _flops_panel(backtest: Backtest, kind: ValueKind, name: str) -> Drawing | None:
    styles = looks(backtest)
    what, y_label = WORDS[kind]
    curves = [
        (styles[result.method], curve)
        for result in methods_in_order(backtest)
        for curve in result.curves
        if curve.kind == kind and curve.name == name
    ]
    if not curves:
        return None
    faint, ends = _observed(backtest, kind, name)
    actual = [(t.flops, t.values[kind][name]) for t in measured_targets(backtest) if name in t.values[kind]]
    runs, methods = numbers.count(len(ends), "fitted run"), numbers.count(len(curves), "method")
    measured = numbers.count(len(actual), "measured target")
    return Drawing(
        title=name,
        note=_errors_note(backtest, kind, name),
        label=f"{what.capitalize()} on {name} against training FLOPs: {runs}, {methods}, {measured}.",
        x_label="training FLOPs",
        y_label=y_label,
        draw=charts.against_flops(
            curves,
            spread(faint, POINTS),
            ends,
            actual,
            chance=backtest.random_performance.get(name) if kind == "performance" else None,
            log=kind == "domain_loss",
        ),
    )


def _parity_panel(backtest: Backtest, kind: ValueKind, name: str) -> Drawing | None:
    styles, what = looks(backtest), WORDS[kind][0]
    unit = "%" if kind == "performance" else "nats per token"
    shown = [r for r in methods_in_order(backtest) if r.targets][: 1 if _many_targets(backtest) else None]
    made = (_pairs(r, styles[r.method], kind, [name], spans=r is shown[0]) for r in shown)
    series = [one for one in made if one is not None]
    if not series:
        return None
    targets = numbers.count(len(series[0].points), "target")
    return Drawing(
        title=name,
        note=_errors_note(backtest, kind, name),
        label=f"Predicted against measured {what} on {name}, {targets}.",
        x_label=f"measured ({unit})",
        y_label=f"predicted ({unit})",
        draw=charts.parity(series, percent=kind == "performance"),
        size=(270, 256),
    )


def _many_targets(backtest: Backtest) -> bool:
    """Whether panels of all methods together would be a cloud."""
    return target_count(backtest) > 2 * FEW_TARGETS


def _has_curves(backtest: Backtest, kind: ValueKind) -> bool:
    return any(curve.kind == kind for result in backtest.methods.values() for curve in result.curves)


def _observed(
    backtest: Backtest, kind: ValueKind, name: str
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Checkpoints on the way and ends of the fitted runs: FLOPs and value."""
    faint, ends = [], []
    for run in backtest.fitted:
        if kind == "domain_loss":
            known = [(run.flops[-1], run.domain_loss[name])] if name in run.domain_loss and run.flops else []
        else:
            both = zip(run.flops, run.performance.get(name, ()), strict=False)
            known = [(flops, value) for flops, value in both if value is not None]
        # A run without a last measurement ends nowhere.
        ends += [point for point in known if point[0] == run.flops[-1]]
        faint += [point for point in known if point[0] != run.flops[-1]]
    return faint, ends


def _errors_note(backtest: Backtest, kind: ValueKind, name: str) -> str:
    """The chosen method's errors on one task or domain: target by target where they are few."""
    result = backtest.methods[backtest.chosen]
    known = [(t.run_id, v.relative_error) for t, v in judged(result, kind, name) if v.relative_error is not None]
    if not known:
        reason = result.not_predicted.get(name)
        return f"{result.method} does not predict it: {reason}" if reason else ""
    if len(known) <= 3:
        return f"{result.method}: " + ", ".join(f"{run_id} {numbers.percent(error, 2)}" for run_id, error in known)
    mean = math.fsum(error for _, error in known) / len(known)
    return f"{result.method}: {numbers.percent(mean, 2)} on average"


def _pairs(result: MethodResult, look: Look, kind: ValueKind, names: Sequence[str], *, spans: bool) -> Series | None:
    known = [v for name in names for _, v in judged(result, kind, name) if v.actual is not None]
    if kind == "domain_loss":
        known = [v for v in known if v.predicted > 0 and v.actual]
    known = spread(known, POINTS)
    points = [(v.actual, v.predicted) for v in known if v.actual is not None]
    return Series(look=look, points=points, spans=[(v.low, v.high) for v in known] if spans else ()) if points else None
