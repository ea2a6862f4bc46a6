"""The tuning of hyperparameters: trials as they go, and what they gave, on the console and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flp_ray.core.run import RunSpec
from flp_ray.core.tuning import Carried, Hyperparameter, Optimum, TrialReport, Tuning, hyperparameter
from flp_ray.report import numbers
from flp_ray.report.content import ReportContent
from flp_ray.report.tables import Column, TableView

if TYPE_CHECKING:
    from rich.console import Console

_CARRIED_HEADS = ("hyperparameter", "size", "tokens", "value", f"80{numbers.THIN}% interval", "stated", "")
_OPTIMUM_HEADS = ("hyperparameter", "size", "best", "give or take", "trials", "")


@dataclass(slots=True)
class TrialLines:
    """Follows tuning trials with a line an event.

    Attributes:
        trials: All trials.
        parameters: The hyperparameters that tell them apart.
        console: Where to print.
    """

    trials: Sequence[RunSpec]
    parameters: tuple[Hyperparameter, ...]
    console: Console

    def started(self, trial: RunSpec) -> None:
        """A trial has got its slot."""
        self._say(trial, "started")

    def reported(self, trial: RunSpec, report: TrialReport) -> None:
        """A trial was measured, was stopped or has diverged."""
        seen = f"{100 * report.tokens / trial.train_tokens:.0f} %"
        if report.event == "measured" and report.loss is not None:
            self._say(trial, f"loss {report.loss:.4f} at {seen}")
        elif report.event == "stopped":
            self._say(trial, f"stopped at {seen}: others were better there")
        else:
            self._say(trial, f"diverged: {report.reason}")

    def failed(self, trial: RunSpec, why: str, *, again: bool) -> None:
        """An attempt failed; `again` where the trial goes on from its last saved state."""
        self._say(trial, f"attempt failed{', tried again' if again else ''}: {why}")

    def _say(self, trial: RunSpec, what: str) -> None:
        line = f"{trial.size:>6} {settings_of(trial, self.parameters)}: {what}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def settings_of(trial: RunSpec, parameters: Sequence[Hyperparameter]) -> str:
    """The hyperparameters of a trial as text."""
    return ", ".join(f"{words_of(name)} {hyperparameter(trial, name):.3g}" for name in parameters)


def print_tuning(tuning: Tuning | None, console: Console) -> None:
    """Prints the optima of the tuned sizes and the values carried to every size; nothing before they are known.

    Args:
        tuning: The tuning; None where the study has none.
        console: Where to print.
    """
    from flp_ray.report.console import aligned_table, say

    if tuning is None or not tuning.optima:
        return
    rows = [_optimum_row(optimum) for optimum in tuning.optima]
    aligned_table(console, "Tuned sizes", _OPTIMUM_HEADS, rows, right={2, 3, 4}, missing="")
    rows = [_carried_row(carried) for carried in tuning.carried]
    aligned_table(console, "Hyperparameters of the study", _CARRIED_HEADS, rows, right={2, 3, 4, 5}, missing="None.")
    for parameter, formula in tuning.formulas:
        say(console, f"Law of the {words_of(parameter)}: {formula}")
    for note in tuning.notes:
        say(console, f"Note: {note}")
    say(console, "")


def tuning_tables(content: ReportContent) -> tuple[TableView, ...]:
    """The page's tables of the tuning: values, optima, trials; none for a study that does not tune."""
    tuning = content.tuning
    if tuning is None:
        return ()
    laws = "; ".join(f"{words_of(name)} {formula}" for name, formula in tuning.formulas)
    notes = " ".join(tuning.notes)
    return (
        TableView(
            name="hyperparameters",
            title="Hyperparameters",
            caption="What every size is trained with, as the laws through the tuned sizes give it, and where the "
            f"size's own optimum should lie with 80{numbers.THIN}% probability. Laws in N parameters without "
            f"embeddings and D tokens: {laws}. {notes}".rstrip(),
            columns=_columns(_CARRIED_HEADS),
            rows=tuple(_carried_row(carried) for carried in tuning.carried),
            missing="The trials have not ended; runs would be trained with the values as stated.",
        ),
        TableView(
            name="optima",
            title="Tuned sizes",
            caption="The lowest point of a parabola in the logarithms through the losses of a size's trials, give or "
            "take one standard error as a factor.",
            columns=_columns(_OPTIMUM_HEADS),
            rows=tuple(_optimum_row(optimum) for optimum in tuning.optima),
            missing="The trials have not ended.",
        ),
        _trial_table(tuning),
    )


def _trial_table(tuning: Tuning) -> TableView:
    parameters = tuple(name for name, _ in tuning.formulas) or ("learning_rate",)
    last: dict[str, TrialReport] = {}
    for report in sorted(tuning.reports, key=lambda r: (r.tokens, r.event != "measured")):
        if report.loss is None and report.run_id in last:
            report = _ended(last[report.run_id], report)
        last[report.run_id] = report
    order = {size: i for i, size in enumerate(dict.fromkeys(trial.size for trial in tuning.trials))}
    trials = sorted(tuning.trials, key=lambda t: (order[t.size], *(hyperparameter(t, name) for name in parameters)))
    return TableView(
        name="trials",
        title="Tuning trials",
        caption="Mean validation loss over the domains where the trial was measured last, nats per token. Trials of a "
        "size share their first weights and their text. ASHA stops a trial that is behind the others at a rung.",
        columns=(
            Column(head="Size"),
            *(Column(head=words_of(name).capitalize(), numeric=True) for name in parameters),
            Column(head="Trained", numeric=True),
            Column(head="Loss", numeric=True),
            Column(head="Trial"),
            Column(head="Run", code=True),
        ),
        rows=tuple(_trial_row(trial, last.get(trial.run_id), parameters) for trial in trials),
        missing="No trial is planned.",
    )


def _ended(measured: TrialReport, end: TrialReport) -> TrialReport:
    """The end of a trial with the loss that it was measured at last."""
    return TrialReport(
        run_id=end.run_id, size=end.size, tokens=end.tokens, event=end.event, loss=measured.loss, reason=end.reason
    )


def _trial_row(trial: RunSpec, report: TrialReport | None, parameters: Sequence[Hyperparameter]) -> tuple[str, ...]:
    state = "planned"
    if report is not None:
        state = "finished" if report.event == "measured" else report.event
        state = state if report.ends(trial.train_tokens) else "begun"
    return (
        trial.size,
        *(numbers.significant(hyperparameter(trial, name)) for name in parameters),
        numbers.share(report.tokens / trial.train_tokens) if report else numbers.MISSING,
        numbers.significant(report.loss if report else None, 5),
        state,
        trial.run_id,
    )


def _carried_row(carried: Carried) -> tuple[str, ...]:
    return (
        words_of(carried.parameter),
        carried.size,
        numbers.tokens(carried.train_tokens),
        numbers.significant(carried.value),
        f"{numbers.significant(carried.low)} to {numbers.significant(carried.high)}",
        numbers.significant(carried.stated),
        "tuned" if carried.tuned else "carried",
    )


def _optimum_row(optimum: Optimum) -> tuple[str, ...]:
    remarks = [f"at the {optimum.edge} end of its range"] if optimum.edge else []
    remarks += [f"{optimum.diverged} diverged"] if optimum.diverged else []
    return (
        words_of(optimum.parameter),
        optimum.size,
        numbers.significant(optimum.value),
        f"{100 * optimum.log_stderr:.0f}{numbers.THIN}%",
        str(optimum.trials),
        ", ".join(remarks),
    )


def _columns(heads: Sequence[str]) -> tuple[Column, ...]:
    return tuple(
        Column(head=head.capitalize() or "Remark", numeric=2 <= i < len(heads) - 1) for i, head in enumerate(heads)
    )


def words_of(parameter: str) -> str:
    """The name of a hyperparameter as a reader says it."""
    return {"batch_sequences": "batch", "warmup_fraction": "warm-up"}.get(parameter, parameter.replace("_", " "))
