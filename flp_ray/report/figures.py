"""The figures of the evidence, section by section: panels, keys and captions that say what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flp_ray.report import chart, numbers
from flp_ray.report.content import ReportContent
from flp_ray.report.laws import (
    fitted_lines,
    followed_domain,
    law_lines,
    law_points,
    loss_score_points,
    thinned,
)
from flp_ray.report.series import Point, axis_source, final_predictions, predicted_points, target_of
from flp_ray.report.view import FigureView, Key, KeyMark, PanelView, nothing


def parity_figure(content: ReportContent) -> FigureView:
    """Predicted against measured, a panel for each task's score and each domain's loss."""
    title = "Predicted against measured"
    if content.surrogate is None:
        return nothing("parity", title, "No law has been fitted, so nothing is predicted.")
    said = final_predictions(content)
    panels: list[PanelView] = []
    everything: list[Point] = []
    for kind, names in (("performance", content.surrogate.tasks), ("domain_loss", content.surrogate.domains)):
        for i, name in enumerate(names):
            points = predicted_points(content, said, kind, name)
            if not points:
                continue
            everything += points
            unit, what = ("%", "score on") if kind == "performance" else ("nats per token", "loss on")
            label = f"Predicted against measured {what} {name}, {numbers.count(len(points), 'run')}."
            drawn = chart.parity_chart(f"parity-{kind.replace('_', '-')}-{i}", label, points, unit=unit)
            panels.append(PanelView(title=f"{what.capitalize()} {name}", svg=drawn, note=_parity_note(points)))
    if not panels:
        return nothing("parity", title, "No finished run has both a prediction and a measurement.")
    keys = [
        Key(mark="rule", text="prediction = measurement"),
        Key(mark="grid", text="sampling run (the fit has seen it)"),
    ]
    keys += [
        Key(mark=mark, text=text) for purpose, mark, text in _UNSEEN if any(p.purpose == purpose for p in everything)
    ]
    return FigureView(
        name="parity",
        title=title,
        caption=_parity_caption(everything),
        panels=tuple(panels),
        keys=tuple(keys),
    )


_UNSEEN: tuple[tuple[str, KeyMark, str], ...] = (
    ("validation", "validation", "validation run (never fitted on), 80 percent interval"),
    ("target", "target", "target run (never fitted on), 80 percent interval"),
)


def law_figure(content: ReportContent) -> FigureView:
    """Loss against FLOPs with the fitted law, a panel for each domain."""
    title, source, target = "Loss against FLOPs", axis_source(content), target_of(content)
    domains = content.records.domains
    if not domains or target is None:
        return nothing("laws", title, "No domain loss has been measured.")
    lines = law_lines(content, source, target.flops) if source is not None else {}
    panels = []
    low, high = _shades(content, source)
    fitted = {line.name: line for line in fitted_lines(content, "loss")}
    for i, domain in enumerate(domains):
        points = law_points(content, domain, source)
        if not points:
            continue
        label = f"Loss on {domain} against training FLOPs, {numbers.count(len(points), 'finished run')}."
        drawn = chart.law_chart(f"law-{i}", label, lines.get(domain, []), points, (low, high))
        law = fitted.get(domain)
        note = (
            "no law fitted"
            if law is None
            else f"error {numbers.percent(law.fit_error)} fitted, {_left_out(law.held_out_error)}"
        )
        panels.append(PanelView(title=f"Loss on {domain}", svg=drawn, note=note))
    if not panels:
        return nothing("laws", title, "No finished run has a domain loss yet.")
    keys = [Key(mark="grid", text="final loss of a run")]
    if lines:
        keys.insert(0, Key(mark="line", text="fitted law, one line a mixture"))
    if any(r.purpose == "validation" for r in content.records.runs):
        keys.append(Key(mark="outlined", text="validation run (never fitted on)"))
    if source is not None:
        keys.append(Key(mark="scale", text=f"{numbers.share(low)} to {numbers.share(high)} {source}"))
    caption = (
        "Both axes are logarithmic. Loss falls with compute; the distance between the lines is what "
        "the mixture does. A law can be trusted where the points lie on their own colour's line."
    )
    return FigureView(name="laws", title=title, caption=caption, panels=tuple(panels), keys=tuple(keys))


def loss_score_figure(content: ReportContent) -> FigureView:
    """Loss against score at every checkpoint, a panel for each task."""
    title = "Loss against score"
    panels, cut = [], False
    tasks = sorted({m.name for m in content.records.measurements if m.kind == "performance"})
    for i, task in enumerate(tasks):
        domain = followed_domain(content, task)
        if domain is None:
            continue
        points = loss_score_points(content, task, domain)
        emerged = sum(p.emerged for p in points)
        described = content.records.task(task)
        threshold = described.random_performance + described.emergence_margin
        note = f"{emerged} of {numbers.count(len(points), 'checkpoint')} emerged"
        label = f"Score on {task} against loss on {domain}: {note}."
        cut = cut or len(thinned(points)) < len(points)
        drawn = chart.loss_score_chart(
            f"emergence-{i}",
            label,
            thinned(points),
            domain=domain,
            random=described.random_performance,
            threshold=threshold,
        )
        panels.append(PanelView(title=task, svg=drawn, note=note))
    if not panels:
        return nothing("emergence", title, "Too few checkpoints with both a loss and a score have been measured.")
    keys = (
        Key(mark="filled", text="emerged: fitted on"),
        Key(mark="hollow", text="not emerged: left out"),
        Key(mark="dotted", text="random performance"),
        Key(mark="dashed", text="random performance + emergence margin"),
    )
    caption = (
        "Every measured checkpoint of the sampling runs, all sizes and mixtures, against the domain whose "
        "loss orders the scores best. Points of all sizes on one path mean that loss foretells the score; "
        "a cloud means that this loss alone does not."
    )
    if cut:
        caption += " Panels show an even selection of 800 points."
    return FigureView(name="emergence", title=title, caption=caption, panels=tuple(panels), keys=keys)


def _parity_note(points: Sequence[Point]) -> str:
    parts = [f"seen {numbers.percent(error)}" for error in [_relative(points, seen=True)] if error is not None]
    parts += [f"unseen {numbers.percent(error)}" for error in [_relative(points, seen=False)] if error is not None]
    return "error: " + ", ".join(parts) if parts else ""


def _parity_caption(points: Sequence[Point]) -> str:
    text = (
        "Over each panel: the mean relative error for runs that the fit has seen, and for those it has not. "
        "Scores are shown where the task has emerged; the laws hold only there."
    )
    unseen = [p for p in points if p.purpose != "sampling" and p.low is not None and p.high is not None]
    if not unseen:
        return text + " No unseen run has been trained yet, so the panels show the fit, not its foresight."
    inside = sum((p.low or 0.0) <= p.x <= (p.high or 0.0) for p in unseen)
    return (
        f"{text} Of {numbers.count(len(unseen), 'measured value')} of unseen runs, {inside} "
        f"{'lies' if inside == 1 else 'lie'} inside the 80 percent interval "
        f"({numbers.percent(inside / len(unseen))}). Well below 80 means that the laws are too sure."
    )


def _relative(points: Sequence[Point], *, seen: bool) -> float | None:
    errors = [abs(p.y - p.x) / p.x for p in points if (p.purpose == "sampling") is seen and p.x > 0]
    return math.fsum(errors) / len(errors) if errors else None


def _shades(content: ReportContent, source: str | None) -> tuple[float, float]:
    if source is None:
        return 0.0, 1.0
    ratios = [r.mixture.ratio(source) for r in content.records.runs if r.mixture is not None]
    return (min(ratios), max(ratios)) if ratios else (0.0, 1.0)


def _left_out(error: float | None) -> str:
    return "held-out error not measured" if error is None else f"{numbers.percent(error)} held out"
