"""A study from top to bottom: the only file that knows every stage.

    plan -> data -> train -> measure -> store -> fit -> propose -> validate -> report

Each stage leaves its result in the study's folder and begins by looking whether it is there. So the same command
goes on wherever an earlier call was stopped, and trains nothing when everything is trained.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flp_ray.config import StudyConfig, save_config
from flp_ray.core.prediction import Comparison, Proposal
from flp_ray.core.records import Records
from flp_ray.core.run import RunSpec
from flp_ray.core.text import PreparedText
from flp_ray.data import load_text, prepare_text
from flp_ray.distributed.context import Question, stream_of
from flp_ray.doctor import versions
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit import FitSettings
from flp_ray.measure import check_tasks, task_records
from flp_ray.plan import check_budget
from flp_ray.report import ReportContent, RunRow, TextSummary, print_plan, print_summary, write_report
from flp_ray.session import Session, check_disk
from flp_ray.store import (
    comparison_rows,
    finished_runs,
    fit_row,
    load_comparisons,
    load_fits,
    load_proposals,
    load_records,
    load_stages,
    load_tasks,
    proposal_rows,
    run_rows,
    run_states,
    task_rows,
)
from flp_ray.study import StudyPlan, check_unchanged, make_plan, pin, pinned_text
from flp_ray.validate import compare

if TYPE_CHECKING:
    from flp_ray.fit import FittedSurrogate

PART_DONE = 3
REPORT = "report.html"
JOURNAL = "optuna.journal"


def run_study(config: StudyConfig, study_dir: Path, console: Console) -> int:
    """The whole study; goes on where an earlier call stopped.

    Args:
        config: The study.
        study_dir: Its folder.
        console: Where to print.

    Returns:
        0 when everything is done, 3 when runs are missing or no task can be predicted.

    Raises:
        InputError: Something that was given is wrong.
        KeyboardInterrupt: Interrupted; everything measured is stored.
    """
    plan = make_plan(config, study_dir)
    check_unchanged(config, study_dir)
    check_budget(plan.total, plan.to_do, config.budget)
    check_disk(study_dir, plan.to_do.disk_bytes)
    check_tasks(config.measure, None)
    print_plan(plan.specs, plan.totals, plan.finished, console)
    with Session(config, study_dir, console) as session:
        save_config(config, study_dir)
        session.append("runs", run_rows(plan.specs))
        tasks = task_records(config.measure)
        if not set(tasks) <= set(load_tasks(study_dir)):
            session.append("tasks", task_rows(tasks, recorded=time.time()))
        failures = _train(session, plan, plan.sampling, "train the grid")
        surrogate: FittedSurrogate | None = None
        try:
            with session.stage("fit"):
                surrogate = fit_stage(plan, study_dir)
                session.append("fits", stored_fit(surrogate))
            with session.stage("propose"):
                proposals = propose_stage(plan, surrogate, study_dir, journal=True)
                session.append("proposals", proposal_rows(proposals))
        except NotEnoughDataError as error:
            console.print(f"No mixture can be proposed: {error}", highlight=False, soft_wrap=True)
            proposals = ()
        validation = plan.validation(proposals)
        session.append("runs", run_rows(validation))
        failures |= _train(session, plan, (*validation, *plan.targets), "train the proposals")
        comparisons = validate_stage(plan, study_dir, proposals)
        session.append("comparisons", comparison_rows(comparisons))
        with session.stage("report"):
            content = report_content(plan, study_dir, surrogate, proposals, comparisons)
            path = write_report(study_dir / REPORT, content)
    print_summary(content, console, path)
    for run_id, reason in failures.items():
        console.print(f"Run {run_id} failed: {reason}", highlight=False, markup=False, soft_wrap=True)
    wanted = set(config.search.objectives)
    compared = {c.proposal.objective for c in comparisons} if config.validation.enabled else wanted
    return 0 if not failures and wanted == {p.objective for p in proposals} == compared else PART_DONE


def _train(session: Session, plan: StudyPlan, specs: Sequence[RunSpec], stage: str) -> dict[str, str]:
    """Trains and measures those runs that are not finished; returns why the others failed."""
    missing = plan.missing(specs, finished_runs(session.study_dir))
    if not missing:
        return {}
    with session.stage(f"{stage}: Ray"):
        session.connect()
    with session.stage(f"{stage}: text"):
        text = _prepare(session)
        for spec in missing:  # a source that is too short is refused before anything is trained
            stream_of(spec, text, plan.config.text.max_epochs)
    question = Question(
        run_ids=frozenset(s.run_id for s in plan.sampling),
        mixtures=plan.mixtures,
        flops=plan.target_flops,
        settings=_fit_settings(plan.config),
    )
    with session.stage(stage):
        return session.train(missing, text, earlier=len(specs) - len(missing), question=question)


def _prepare(session: Session) -> PreparedText:
    """The study's text: what its earlier runs were trained on, or prepared now."""
    config, study_dir = session.config, session.study_dir
    text = pinned_text(study_dir) or prepare_text(
        config.text,
        config.item_sets(),
        study_dir / "text",
        seed=config.seed,
        progress=lambda line: session.console.print(line, highlight=False, soft_wrap=True),
    )
    pin(config, study_dir, text)
    return text


def _fit_settings(config: StudyConfig) -> FitSettings:
    return replace(config.fit, weights=config.task_weights(), seed=config.seed)


def fit_stage(plan: StudyPlan, study_dir: Path) -> FittedSurrogate:
    """The laws fitted to the finished sampling runs; a fit that is stored already is not made again."""
    from flp_ray.fit import FittedSurrogate, fit_identity, fit_surrogate  # scipy, which a plan does without

    records = _records(plan, study_dir, plan.sampling)
    if not records.runs:
        raise NotEnoughDataError(f"No sampling run is finished in {study_dir}. Train them first: flp-ray run STUDY.")
    settings = _fit_settings(plan.config)
    identity = fit_identity(records, settings)
    stored = next((fit for fit in load_fits(study_dir) if fit.fit_id == identity), None)
    return FittedSurrogate.from_dict(stored.payload) if stored else fit_surrogate(records, settings)


def stored_fit(surrogate: FittedSurrogate) -> Any:
    """The fit's row of the table `fits`."""
    return fit_row(
        fit_id=surrogate.fit_id,
        method="flp-m",
        observations=max((line.observations for line in surrogate.lines()), default=0),
        payload=surrogate.to_dict(),
        created=time.time(),
    )


def propose_stage(
    plan: StudyPlan, surrogate: FittedSurrogate, study_dir: Path, *, journal: bool = False
) -> tuple[Proposal, ...]:
    """The proposals of this fit; the same with or without the journal.

    Args:
        plan: The study.
        surrogate: The fit.
        study_dir: The study's folder.
        journal: Keep the search in the study's Optuna journal, and go on with what it holds; for one writer at a time.
    """
    from flp_ray.propose import propose  # Optuna, likewise

    proposals = propose(
        surrogate,
        sources=plan.config.sources,
        size=plan.target.size,
        train_tokens=plan.target.train_tokens,
        flops=plan.target_flops,
        config=plan.config.search,
        known=plan.mixtures,
        storage=study_dir / JOURNAL if journal else None,
        seed=plan.config.seed,
    )
    stored = {p.proposal_id: p for p in load_proposals(study_dir, surrogate.fit_id)}
    return tuple(stored.get(p.proposal_id, p) for p in proposals)


def validate_stage(plan: StudyPlan, study_dir: Path, proposals: Sequence[Proposal]) -> tuple[Comparison, ...]:
    """Predictions beside what the finished validation runs gave."""
    records = _records(plan, study_dir, (*plan.sampling, *plan.validation(proposals)))
    made = compare(proposals, records, weights=plan.config.task_weights())
    stored = {(c.proposal.proposal_id, c.run_id): c for c in load_comparisons(study_dir)}
    return tuple(stored.get((c.proposal.proposal_id, c.run_id), c) for c in made)


def _records(plan: StudyPlan, study_dir: Path, specs: Sequence[RunSpec]) -> Records:
    """What the finished ones of these runs measured, under the purpose that they are planned for now."""
    purposes = {s.run_id: s.purpose for s in specs}
    records = load_records(study_dir).of_runs(purposes.keys() & finished_runs(study_dir))
    return replace(
        records,
        runs=tuple(replace(run, purpose=purposes[run.run_id]) for run in records.runs),
        tasks=task_records(plan.config.measure),
    )


def report_content(
    plan: StudyPlan,
    study_dir: Path,
    surrogate: FittedSurrogate | None,
    proposals: Sequence[Proposal],
    comparisons: Sequence[Comparison],
) -> ReportContent:
    """Everything that the report shows, from what is recorded."""
    specs = (*plan.specs, *plan.validation(proposals))
    ids = {s.run_id for s in specs}
    text = plan.text or load_text(study_dir / "text")
    return ReportContent(
        study=plan.config.study,
        config_yaml=plan.config.dump(),
        records=_records(plan, study_dir, specs),
        specs=specs,
        surrogate=surrogate,
        proposals=tuple(proposals),
        comparisons=tuple(comparisons),
        stage_seconds=load_stages(study_dir),
        run_states=tuple(
            RunRow(
                run_id=s.run_id,
                state=s.state,
                reason=s.reason or "",
                train_seconds=s.train_seconds,
                measure_seconds=s.measure_seconds,
            )
            for s in run_states(study_dir)
            if s.run_id in ids
        ),
        versions=versions(),
        notes=surrogate.notes() if surrogate else (),
        text=None if text is None else _text_summary(text, specs),
        weights=plan.config.task_weights(),
    )


def _text_summary(text: PreparedText, specs: Sequence[RunSpec]) -> TextSummary:
    wanted = {
        source: max((s.train_tokens * s.mixture.ratio(source) for s in specs), default=0.0) for source in text.sources
    }
    return TextSummary(
        tokens={source: blocks.tokens for source, blocks in text.sources.items()},
        removed=text.removed,
        epochs={source: wanted[source] / blocks.tokens for source, blocks in text.sources.items()},
    )
