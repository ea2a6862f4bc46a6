"""The figures of a backtest that judge: errors by method, by task and domain, order of the targets, coverage."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from flp_ray.core.backtest import Backtest, MethodResult, ValueKind
from flp_ray.core.backtest_summary import MEAN, summarise
from flp_ray.report.backtest_series import (
    FEW_TARGETS,
    KINDS,
    WORDS,
    Look,
    judged,
    kind_summary,
    looks,
    measured_targets,
    method_swatches,
    methods_in_order,
    names_of,
    roll_out_mean,
)
from flp_ray.report.dotplot import ROW, TIGHT_ROW, Row, error_rows, rank_rows, share_rows
from flp_ray.report.drawing import Drawing, Sheet, Swatch

NOMINAL = 0.8
"""Share of measured values that the intervals are made to hold."""


def overview(backtest: Backtest) -> Sheet | None:
    """Mean error of each method in the roll-outs and on the targets: scores, or losses where there are no tasks."""
    styles = looks(backtest)
    for kind in KINDS:
        rows = []
        for result in methods_in_order(backtest):
            error = kind_summary(result, kind).mean_relative_error
            look = styles[result.method]
            plain = Look(role="predicted" if look.role == "predicted" else "grid", dash=(), marker="o", featured=True)
            roll_out = roll_out_mean(backtest, result, kind)
            dots = [] if error is None else [(plain, error)]
            hollow = [] if roll_out is None else [(plain, roll_out)]
            if dots or hollow:
                rows.append(Row(name=result.method, dots=dots, hollow=hollow))
        if any(row.dots for row in rows):
            break
    else:
        return None
    what = WORDS[kind][0]
    drawing = Drawing(
        title=f"Mean relative error of the {what}",
        label=f"Mean relative error of the {what} by method, in the roll-outs and on the targets.",
        x_label="mean relative error (%)",
        y_label="",
        draw=error_rows(rows, beside=True),
        size=(430, TIGHT_ROW * len(rows) + 66),
        names=_names(rows),
    )
    return Sheet(
        name="errors-by-method",
        title=f"Mean relative error of the {what} by method",
        caption="",
        drawings=(drawing,),
        swatches=(
            Swatch(text="roll-outs within the fitted runs", role="grid", marker="o", hollow=True),
            Swatch(text="targets, never fitted on", role="grid", marker="o"),
            Swatch(text=f"the method to trust ({backtest.chosen})", role="predicted", marker="o"),
        ),
    )


def relative_errors(backtest: Backtest, kind: ValueKind) -> Sheet | None:
    """Relative error by task or domain and method: a panel a target, or their means where there are many."""
    styles, what = looks(backtest), WORDS[kind][0]
    targets = measured_targets(backtest)
    groups: list[tuple[str, Sequence[str]]] = [(t.run_id, [t.run_id]) for t in targets]
    if len(targets) > FEW_TARGETS:
        groups = [(f"Mean over {len(targets)} targets", [t.run_id for t in targets])]
    drawings = []
    for title, run_ids in groups:
        wanted = set(run_ids)
        rows = [
            Row(name=name, dots=dots)
            for name in names_of(backtest, kind)
            if (
                dots := [
                    (styles[r.method], error)
                    for r in methods_in_order(backtest)
                    if (error := _mean_error(r, kind, name, wanted)) is not None
                ]
            )
        ]
        if rows:
            drawings.append(
                Drawing(
                    title=title,
                    label=f"Relative error of the {what} by name and method, {title}.",
                    x_label="relative error (%)",
                    y_label="",
                    draw=error_rows(rows),
                    size=(320, _height(rows)),
                )
            )
    if not drawings:
        return None
    return Sheet(
        name=f"{what}-errors",
        title=f"Relative error of the {what}",
        caption="abs(predicted - measured) / measured on the targets, on a logarithmic axis: further left is "
        "better. Methods of equal error lie under each other.",
        drawings=tuple(drawings),
        swatches=tuple(method_swatches(backtest, kind, lines=False)),
    )


def rank_correlations(backtest: Backtest) -> Sheet | None:
    """Whether a method puts targets of one size in their measured order, by domain."""
    styles = looks(backtest)
    ranks = {r.method: summarise(r).domain_loss.spearman for r in methods_in_order(backtest)}
    names = [*(n for n in names_of(backtest, "domain_loss") if n != MEAN), MEAN]
    rows = [
        Row(name="mean over domains" if name == MEAN else name, dots=dots)
        for name in names
        if (dots := [(styles[m], own[name]) for m, own in ranks.items() if name in own])
    ]
    if not rows:
        return None
    drawing = Drawing(
        title="Spearman's rank correlation",
        label="Spearman's rank correlation of predicted and measured loss by domain and method.",
        x_label="rank correlation",
        y_label="",
        draw=rank_rows(rows),
        size=(320, _height(rows)),
    )
    return Sheet(
        name="loss-order",
        title="Order of the targets",
        caption="Rank correlation of predicted and measured loss among targets of equal parameters, mean over sizes: "
        "1 is the measured order. To choose a mixture the order matters, not the level.",
        drawings=(drawing,),
        swatches=tuple(method_swatches(backtest, "domain_loss", lines=False)),
    )


def coverage(backtest: Backtest) -> Sheet | None:
    """Share of measured values inside the intervals, by method."""
    styles = looks(backtest)
    drawings = []
    for kind in KINDS:
        rows = []
        for result in methods_in_order(backtest):
            share = kind_summary(result, kind).interval_coverage
            if share is not None:
                rows.append(Row(name=result.method, dots=[(styles[result.method], share)]))
        if rows:
            what = WORDS[kind][0]
            drawings.append(
                Drawing(
                    title=f"{what.capitalize()}: inside the interval",
                    label=f"Share of measured values of the {what} inside the 80 percent interval, by method.",
                    x_label="measured values inside (%)",
                    y_label="",
                    draw=share_rows(rows, NOMINAL),
                    size=(330, TIGHT_ROW * len(rows) + 66),
                    names=_names(rows),
                )
            )
    if not drawings:
        return None
    return Sheet(
        name="interval-coverage",
        title="Intervals",
        caption="Intervals are made to hold 80 percent of the measured values (dashed). Well left of it a method is "
        "too sure of itself; well right of it its intervals are wider than they need to be. Few targets tell little.",
        drawings=tuple(drawings),
        swatches=(Swatch(text="80 percent", role="ink", dash=(4, 2), width=1.2),),
    )


def _mean_error(result: MethodResult, kind: ValueKind, name: str, wanted: Collection[str]) -> float | None:
    known = [v.relative_error for t, v in judged(result, kind, name) if t.run_id in wanted]
    errors = [e for e in known if e is not None]
    return math.fsum(errors) / len(errors) if errors else None


def _names(rows: Sequence[Row]) -> int:
    """Room for names beside the rows."""
    return 12 + 7 * min(16, max(len(row.name) for row in rows))


def _height(rows: Sequence[Row]) -> int:
    return ROW * len(rows) + 66
