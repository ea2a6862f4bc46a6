"""The tables of the validation: proposals put to the test, and every prediction with its hit or miss."""

from __future__ import annotations

from flp_ray.core.prediction import Comparison
from flp_ray.report import numbers
from flp_ray.report.content import ReportContent
from flp_ray.report.experiment import hit_or_miss, interval, measured, objective_name, p_value, predicted
from flp_ray.report.tables import Column, TableView

_KINDS = {"objective": "score", "performance": "score", "domain_loss": "loss"}


def comparison_table(content: ReportContent) -> TableView:
    """What training at the proposals gave, beside the best known mixture."""
    return TableView(
        name="comparison",
        title="Proposals put to the test",
        caption="Measured values with one standard error. Regret is the best known mixture less the proposal: "
        "negative where the proposal won. The verdict asks whether the difference is outside its own "
        f"80{numbers.THIN}% interval, which knows the scatter between seeds and the evaluation noise. The best known "
        "mixture is the one of those sampled that is predicted highest.",
        columns=(
            Column(head="Objective"),
            Column(head="Proposed"),
            Column(head="Predicted", numeric=True),
            Column(head="Measured", numeric=True),
            Column(head="Prediction"),
            Column(head="Error", numeric=True),
            Column(head="Best known"),
            Column(head="Measured there", numeric=True),
            Column(head="Trainings", numeric=True),
            Column(head="Regret", numeric=True),
            Column(head="Difference", numeric=True),
            Column(head="By chance", numeric=True),
            Column(head="Proposal is"),
            Column(head="Run", code=True),
        ),
        rows=tuple(_comparison_row(c) for c in content.comparisons),
        missing="No proposal has been trained yet.",
    )


def outcome_table(content: ReportContent) -> TableView:
    """Every prediction of the trained proposals beside its measurement."""
    rows = [
        (
            objective_name(c.proposal.objective),
            f"{_KINDS[o.kind]}, {objective_name(o.name)}" if o.kind != "objective" else objective_name(o.name),
            predicted(o),
            measured(o),
            hit_or_miss(o.hit),
            f"{o.inside} of {o.runs}",
        )
        for c in content.comparisons
        for o in c.outcomes
    ]
    return TableView(
        name="outcomes",
        title="Hit or miss",
        caption=f"Predictions with 80{numbers.THIN}% intervals, written down before training began, beside the mean "
        f"over the trainings. The intervals are those of a single training: of the last column 80{numbers.THIN}% "
        "should lie inside; the values of one training are not independent of each other. Losses in nats per token.",
        columns=(
            Column(head="Proposed for"),
            Column(head="Predicted value"),
            Column(head="Predicted", numeric=True),
            Column(head="Measured", numeric=True),
            Column(head="Prediction"),
            Column(head="Trainings inside", numeric=True),
        ),
        rows=tuple(rows),
        missing="No prediction has been put to the test yet.",
    )


def _comparison_row(comparison: Comparison) -> tuple[str, ...]:
    expected = comparison.proposal.expected
    return (
        objective_name(comparison.proposal.objective),
        numbers.mixture(comparison.proposal.mixture),
        f"{numbers.score(expected.mean)} ({numbers.score_interval(expected)})",
        numbers.score(comparison.measured, comparison.measured_stderr),
        hit_or_miss(comparison.inside_interval),
        numbers.percent(comparison.relative_error),
        numbers.mixture(comparison.best_known),
        numbers.score(comparison.best_known_measured, comparison.best_known_stderr),
        f"{comparison.runs} and {comparison.best_known_runs}",
        numbers.points(comparison.regret),
        interval(comparison.test),
        p_value(comparison.test),
        comparison.verdict,
        comparison.run_id.replace(",", ", "),
    )
