"""The tables of a search: its answers, its decisions, its Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.report import numbers
from flp_ray.report.experiment import objective_name
from flp_ray.report.search_words import lost, short_mixture
from flp_ray.report.tables import Column, TableView

if TYPE_CHECKING:
    from flp_ray.core.search import Decision, FrontPoint, SearchAnswer, SearchView


def answer_table(view: SearchView) -> TableView:
    """The mixture found for each objective, beside the one in use and the best without constraints."""
    return TableView(
        name="search-answers",
        title="Mixtures side by side",
        caption="Predictions at the target. The expected loss is against the best mixture that keeps the constraints.",
        columns=(
            Column(head="Objective"),
            Column(head="Which"),
            Column(head="Mixture"),
            Column(head="Expected", numeric=True),
            Column(head=f"80{numbers.THIN}% interval", numeric=True),
            Column(head="Difference", numeric=True),
            Column(head="Expected loss", numeric=True),
        ),
        rows=tuple(row for answer in view.answers for row in _answer_rows(answer)),
        missing="Nothing can be predicted yet.",
    )


def decision_table(view: SearchView) -> TableView:
    """Every decision with its reason."""
    return TableView(
        name="decisions",
        title="Every decision and its reason",
        caption="Expected regret: what taking the best mixture as known before the run is expected to lose at the "
        "target, summed over the objectives. Gain: what the run is expected to take off it.",
        columns=(
            Column(head="No.", numeric=True),
            Column(head="Kind"),
            Column(head="Size"),
            Column(head="Mixture"),
            Column(head="Cost (FLOPs)", numeric=True),
            Column(head="Expected regret before", numeric=True),
            Column(head="Gain", numeric=True),
            Column(head="Reason"),
        ),
        rows=tuple(_decision_row(d) for d in view.decisions),
        missing="Nothing has been decided yet.",
    )


def front_table(view: SearchView, points: tuple[FrontPoint, ...]) -> TableView:
    """The mixtures of the Pareto front.

    Args:
        view: Names the objectives.
        points: The front, in the order of the figure.
    """
    return TableView(
        name="front-table",
        title="Mixtures of the front",
        caption=f"Predictions at the target with 80{numbers.THIN}% intervals.",
        columns=(
            Column(head="No.", numeric=True),
            *(Column(head=objective_name(o), numeric=True) for o in view.front_objectives),
            Column(head="Mixture"),
        ),
        rows=tuple(
            (
                str(i),
                *(_with_interval(p.expected.get(o)) for o in view.front_objectives),
                numbers.mixture(p.mixture),
            )
            for i, p in enumerate(points, start=1)
        ),
        missing="No Pareto front was asked for.",
    )


def _answer_rows(answer: SearchAnswer) -> list[tuple[str, ...]]:
    name = objective_name(answer.objective)
    found: list[tuple[str, Mixture, Prediction | None]] = [("found", answer.mixture, answer.expected)]
    if answer.present is not None:
        found.append(("in use now", answer.present, answer.present_expected))
    if answer.free_mixture is not None:
        found.append(("without the constraints", answer.free_mixture, answer.free_expected))
    return [
        (
            name,
            which,
            numbers.mixture(mixture),
            numbers.score(None if expected is None else expected.mean),
            numbers.MISSING if expected is None else numbers.score_interval(expected),
            numbers.MISSING
            if expected is None or which == "found"
            else numbers.points(expected.mean - answer.expected.mean),
            lost(answer.expected_regret) if which == "found" else numbers.MISSING,
        )
        for which, mixture, expected in found
    ]


def _decision_row(decision: Decision) -> tuple[str, ...]:
    kind = f"{decision.kind}, run {decision.repeat + 1} there" if decision.repeat else decision.kind
    runs = decision.kind != "stop"
    return (
        str(decision.number),
        kind,
        decision.size or numbers.MISSING,
        short_mixture(decision.mixture),
        numbers.power(decision.flops) if runs else numbers.MISSING,
        lost(decision.expected_regret),
        lost(decision.gain),
        decision.reason,
    )


def _with_interval(prediction: Prediction | None) -> str:
    if prediction is None:
        return numbers.MISSING
    return f"{numbers.score(prediction.mean)} ({numbers.score_interval(prediction)})"
