"""Score along the mixing ratio: the figure of the first screen, and a panel for every objective and task."""

from __future__ import annotations

from collections.abc import Sequence

from flp_ray.core.prediction import Proposal
from flp_ray.core.surrogate import SurrogatePrediction
from flp_ray.report import chart, numbers
from flp_ray.report.content import MEAN, ReportContent
from flp_ray.report.experiment import objective_name
from flp_ray.report.series import (
    Curve,
    Point,
    Target,
    axis_source,
    score_points,
    slice_predictions,
    sources_of,
    target_of,
)
from flp_ray.report.view import FigureView, Key, PanelView, nothing


def hero(content: ReportContent) -> FigureView | None:
    """The figure of the first screen, the main objective along the mixing ratio; None where there is none."""
    target, source, proposal = target_of(content), axis_source(content), content.main_proposal
    if target is None or source is None or proposal is None or content.surrogate is None:
        return None
    drawn = _ratio_panel(content, "hero", content.main_objective, source, target, size=(500, 380))
    if drawn is None:
        return None
    panel, points = drawn
    title = f"{objective_name(content.main_objective).capitalize()} at {target.size} along the share of {source}"
    return FigureView(name="hero", title=title, caption="", panels=(panel,), keys=_ratio_keys(content, points))


def ratio_figure(content: ReportContent) -> FigureView:
    """Score along the mixing ratio, a panel for each objective and task (and each source, beyond two)."""
    title, target, source = "Score along the mixing ratio", target_of(content), axis_source(content)
    if target is None or source is None:
        return nothing("ratio", title, "No mixing ratio was varied, so there is nothing to draw it along.")
    varied = sources_of(content) if len(sources_of(content)) > 2 else (source,)
    names = [t.task for t in content.records.tasks] or sorted(
        {m.name for m in content.records.measurements if m.kind == "performance"}
    )
    objectives = ([MEAN] if content.surrogate is not None and content.surrogate.tasks else []) + names
    panels: list[PanelView] = []
    seen: list[Point] = []
    for i, objective in enumerate(objectives):
        for j, along in enumerate(varied):
            drawn = _ratio_panel(content, f"ratio-{i}-{j}", objective, along, target)
            if drawn is not None:
                panels.append(drawn[0])
                seen += drawn[1]
    if not panels:
        return nothing("ratio", title, f"No score of a finished run of {target.size} has been measured.")
    caption = (
        f"Scores at {target.size}, {numbers.tokens(target.train_tokens)} tokens. "
        f"Blue is predicted by the laws; points were measured after training, with one standard error. "
        f"Where the band is as high as the line's rise and fall, the ratio hardly matters or cannot be told."
    )
    if len(varied) > 1:
        caption += " Each panel varies one source through the proposal and leaves the others in proportion."
    return FigureView(name="ratio", title=title, caption=caption, panels=tuple(panels), keys=_ratio_keys(content, seen))


def _ratio_panel(
    content: ReportContent,
    name: str,
    objective: str,
    source: str,
    target: Target,
    size: tuple[int, int] = (320, 250),
) -> tuple[PanelView, tuple[Point, ...]] | None:
    proposal = next((p for p in content.proposals if p.objective == objective), None)
    centre = proposal or content.main_proposal or next(iter(content.proposals), None)
    mixtures = [r.mixture for r in content.records.runs if r.mixture is not None]
    through = centre.mixture if centre is not None else next(iter(mixtures), None)
    if through is None:
        return None
    points = score_points(content, objective, source, target, through)
    x, predictions = slice_predictions(content, through, source, target)
    curve = _objective_curve(x, predictions, objective)
    if not points and curve is None:
        return None
    note = _ratio_note(content, objective, proposal, centre)
    what = objective_name(objective)
    seen = numbers.count(len(points), "measured point")
    label = f"{what} along the share of {source} at {target.size}: {seen}; {note}."
    drawn = chart.ratio_chart(
        name, label, curve, points, source=source, size=size,
        proposed=centre.mixture.ratio(source) if centre is not None else None,
    )  # fmt: skip
    title = what.capitalize() if objective == MEAN else objective
    if len(sources_of(content)) > 2:
        title = f"{title}, along {source}"
    return PanelView(title=title, svg=drawn, note=note), points


def _ratio_note(content: ReportContent, objective: str, own: Proposal | None, shown: Proposal | None) -> str:
    missing = content.surrogate.not_emerged.get(objective) if content.surrogate is not None else None
    if missing:
        return f"not predicted: {missing}"
    if own is not None:
        return f"proposed: {numbers.mixture(own.mixture)}, {numbers.score(own.expected.mean)}"
    if shown is None or objective not in shown.performance:
        return "no mixture was proposed for it"
    return f"at the main proposal: {numbers.score(shown.performance[objective].mean)}"


def _objective_curve(x: Sequence[float], predictions: Sequence[SurrogatePrediction], objective: str) -> Curve | None:
    if not predictions or (objective != MEAN and objective not in predictions[0].performance):
        return None
    return Curve.of(x, [p.objective if objective == MEAN else p.performance[objective] for p in predictions])


def _ratio_keys(content: ReportContent, points: Sequence[Point]) -> tuple[Key, ...]:
    keys = []
    if content.surrogate is not None:
        keys.append(Key(mark="band", text=f"predicted, 80{numbers.THIN}% interval"))
    if content.proposals:
        keys.append(Key(mark="upright", text="proposed"))
    if any(p.purpose == "sampling" for p in points):
        keys.append(Key(mark="grid", text="grid, trained (± 1 standard error)"))
    if any(p.purpose == "validation" for p in points):
        keys.append(Key(mark="validation", text="proposal, trained"))
    if any(p.purpose == "target" for p in points):
        keys.append(Key(mark="target", text="target run"))
    if any(not p.on_slice for p in points):
        keys.append(Key(mark="off", text="hollow: other sources in another proportion"))
    return tuple(keys)
