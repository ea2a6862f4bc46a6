"""The tables: rows of text, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flp_ray.core.prediction import Prediction
from flp_ray.core.records import Checkpoint, Run
from flp_ray.core.run import RunSpec
from flp_ray.report import numbers
from flp_ray.report.content import ReportContent, RunRow
from flp_ray.report.experiment import objective_name
from flp_ray.report.series import end_checkpoints

_PURPOSES = {"sampling": 0, "target": 1, "validation": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's heading; `numeric` columns are set flush right, `code` columns in a fixed-width face."""

    head: str
    numeric: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """One table of the page.

    Attributes:
        name: Anchor on the page.
        title: Heading.
        caption: What the columns mean, where they do not say it themselves.
        columns: Headings; the first one heads the rows.
        rows: Cells as text, one a column.
        missing: What is said instead of an empty table.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    missing: str


def law_table(content: ReportContent) -> TableView:
    """Every fitted law with its formula, parameters and errors."""
    rows = [
        (
            line.name,
            line.stage,
            line.method,
            line.formula,
            ", ".join(f"{name} = {numbers.significant(value)}" for name, value in line.parameters.items())
            or numbers.MISSING,
            f"{line.observations:,}",
            numbers.percent(line.fit_error),
            numbers.percent(line.held_out_error),
            line.note or numbers.MISSING,
        )
        for line in content.lines
    ]
    return TableView(
        name="law-table",
        title="Fitted laws",
        caption="Mean relative errors, on the points fitted and on runs left out (– where not measured). "
        "Stage loss leads from FLOPs to a domain's loss, stage performance on to a task's score. "
        "Methods flp and fp are the baselines that ignore the mixture.",
        columns=(
            Column(head="Domain or task"),
            Column(head="Stage"),
            Column(head="Method"),
            Column(head="Formula", code=True),
            Column(head="Parameters", code=True),
            Column(head="Points", numeric=True),
            Column(head="Fit error", numeric=True),
            Column(head="Held-out error", numeric=True),
            Column(head="Note"),
        ),
        rows=tuple(rows),
        missing="No law has been fitted.",
    )


def proposal_table(content: ReportContent) -> TableView:
    """Proposed mixtures with what is expected of them, a column each."""
    proposals = content.proposals
    tasks = sorted({task for p in proposals for task in p.performance})
    domains = sorted({domain for p in proposals for domain in p.domain_loss})
    rows = [
        ("mixture", *(numbers.mixture(p.mixture) for p in proposals)),
        ("size", *(p.size for p in proposals)),
        ("tokens", *(numbers.tokens(p.train_tokens) for p in proposals)),
        ("FLOPs", *(numbers.power(p.flops) for p in proposals)),
        ("expected", *(_score(p.expected) for p in proposals)),
        ("extrapolated", *("yes" if p.expected.extrapolated else "no" for p in proposals)),
        *((f"score, {t}", *(_score(p.performance.get(t)) for p in proposals)) for t in tasks),
        *((f"loss, {d}", *(_loss(p.domain_loss.get(d)) for p in proposals)) for d in domains),
    ]
    return TableView(
        name="proposals",
        title="Proposed mixtures",
        caption=f"A column for each objective, with 80{numbers.THIN}% intervals; losses in nats per token.",
        columns=(Column(head="For the best"), *(Column(head=objective_name(p.objective)) for p in proposals)),
        rows=tuple(rows) if proposals else (),
        missing="No mixture has been proposed.",
    )


def run_table(content: ReportContent) -> TableView:
    """Every run, planned or measured, with how it stands and what it ended at."""
    specs = {s.run_id: s for s in content.specs}
    runs = {r.run_id: r for r in content.records.runs}
    states = {r.run_id: r for r in content.run_states}
    ends = {c.run.run_id: c for c in end_checkpoints(content.records)}
    tasks = sorted({m.name for m in content.records.measurements if m.kind == "performance"})
    domains = content.records.domains
    rows = [
        _run_row(run_id, specs.get(run_id), runs.get(run_id), states.get(run_id), ends.get(run_id), domains, tasks)
        for run_id in {**specs, **runs}
    ]
    rows.sort(key=lambda row: row[0])
    return TableView(
        name="runs",
        title="Runs",
        caption="Losses (nats per token) and scores at the last measured checkpoint of finished runs; "
        "– where not measured. MFU: share of the accelerator's peak FLOP/s that the training reached.",
        columns=(
            Column(head="Run", code=True),
            Column(head="State"),
            Column(head="Purpose"),
            Column(head="Size"),
            Column(head="Mixture"),
            Column(head="Tokens", numeric=True),
            Column(head="FLOPs", numeric=True),
            *(Column(head=f"loss, {d}", numeric=True) for d in domains),
            *(Column(head=t, numeric=True) for t in tasks),
            Column(head="Training", numeric=True),
            Column(head="Measuring", numeric=True),
            Column(head="MFU", numeric=True),
        ),
        rows=tuple(cells for _, cells in rows),
        missing="No run is planned.",
    )


def text_tables(content: ReportContent) -> tuple[TableView, ...]:
    """Tokens and epochs by source, and documents removed by reason."""
    text = content.text
    sources = sorted({*text.tokens, *text.epochs}) if text is not None else []
    removed = sorted(text.removed.items()) if text is not None else []
    return (
        TableView(
            name="text",
            title="Text",
            caption="Epochs: how often the largest run reads the source; above 1 it repeats text.",
            columns=(
                Column(head="Source"),
                Column(head="Tokens", numeric=True),
                Column(head="Epochs", numeric=True),
            ),
            rows=tuple(
                (s, numbers.tokens(text.tokens.get(s)), numbers.significant(text.epochs.get(s))) for s in sources
            )
            if text is not None
            else (),
            missing="The text has not been prepared.",
        ),
        TableView(
            name="removed",
            title="Documents removed",
            caption="",
            columns=(Column(head="Reason"), Column(head="Documents", numeric=True)),
            rows=tuple((reason, f"{n:,}") for reason, n in removed),
            missing="No removed document is on record.",
        ),
    )


def time_table(content: ReportContent) -> TableView:
    """Wall time of each stage."""
    return TableView(
        name="time",
        title="Time of each stage",
        caption="Wall time.",
        columns=(Column(head="Stage"), Column(head="Time", numeric=True)),
        rows=tuple((stage, numbers.seconds(value)) for stage, value in content.stage_seconds),
        missing="No stage has been timed.",
    )


def version_table(content: ReportContent) -> TableView:
    """Versions of the packages that took part."""
    return TableView(
        name="versions",
        title="Versions",
        caption="",
        columns=(Column(head="Package"), Column(head="Version", code=True)),
        rows=tuple(sorted(content.versions.items())),
        missing="No version is on record.",
    )


def _run_row(
    run_id: str,
    spec: RunSpec | None,
    run: Run | None,
    state: RunRow | None,
    end: Checkpoint | None,
    domains: Iterable[str],
    tasks: Iterable[str],
) -> tuple[tuple[int, float, tuple[float, ...], str], tuple[str, ...]]:
    purpose = spec.purpose if spec is not None else run.purpose if run is not None else "sampling"
    mixture = spec.mixture if spec is not None else run.mixture if run is not None else None
    flops = spec.flops if spec is not None else end.flops if end is not None else None
    train_tokens = spec.train_tokens if spec is not None else run.train_tokens if run is not None else None
    size = spec.size if spec is not None else run.size if run is not None else None
    word = state.state if state is not None else "measured" if end is not None else "not started"
    losses = end.domain_loss if end is not None else {}
    scores = end.performance if end is not None else {}
    errors = end.stderr if end is not None else {}
    cells = (
        run_id,
        f"{word}: {state.reason}" if state is not None and state.reason else word,
        purpose,
        size or numbers.MISSING,
        numbers.mixture(mixture),
        numbers.tokens(train_tokens),
        numbers.power(flops),
        *(numbers.significant(losses.get(d)) for d in domains),
        *(numbers.score(scores.get(t), errors.get(("performance", t))) for t in tasks),
        numbers.seconds(state.train_seconds if state is not None else None),
        numbers.seconds(state.measure_seconds if state is not None else None),
        numbers.percent(state.mfu if state is not None else None),
    )
    ratios = mixture.ratios if mixture is not None else ()
    return (_PURPOSES[purpose], flops or 0.0, ratios, run_id), cells


def _score(prediction: Prediction | None) -> str:
    if prediction is None:
        return numbers.MISSING
    return f"{numbers.score(prediction.mean)} ({numbers.score_interval(prediction)})"


def _loss(prediction: Prediction | None) -> str:
    if prediction is None:
        return numbers.MISSING
    return f"{numbers.significant(prediction.mean)} ({numbers.loss_interval(prediction)})"
