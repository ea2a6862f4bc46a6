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
from typing import TYPE_CHECKING

from rich.console import Console

from flp_ray.config import StudyConfig, save_config
from flp_ray.core.prediction import Experiment, Proposal
from flp_ray.core.run import RunSpec
from flp_ray.distributed.context import CHECKPOINTS, Question, stream_of
from flp_ray.errors import NotEnoughDataError
from flp_ray.measure import check_tasks, task_records
from flp_ray.pinning import check_unchanged
from flp_ray.plan import check_budget
from flp_ray.report import print_growth, print_plan, print_summary, write_report
from flp_ray.rounds import fit_model, over_budget, search_stage
from flp_ray.session import Session, check_disk
from flp_ray.stages import (
    experiment_stage,
    fit_settings,
    fit_stage,
    propose_stage,
    report_content,
    search_proposals,
    stored_fit,
    validate_stage,
)
from flp_ray.store import (
    comparison_rows,
    experiment_rows,
    files_at,
    finished_runs,
    load_tasks,
    proposal_rows,
    run_rows,
    storage_uri,
    task_rows,
)
from flp_ray.study import StudyPlan, make_plan
from flp_ray.train import clear_finished
from flp_ray.tuning_stage import tune_stage

if TYPE_CHECKING:
    from flp_ray.fit import FittedSurrogate
    from flp_ray.fit.joint import JointSurrogate

PART_DONE = 3
REPORT = "report.html"


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
    check_unchanged(config, study_dir)
    plan = make_plan(config, study_dir)
    check_budget(plan.total, plan.to_do, config.budget)
    if storage_uri(study_dir) is None:  # text and states of a study on an object store are kept there
        check_disk(study_dir, plan.to_do.disk_bytes)
    check_tasks(config.measure, None)
    if plan.growth is not None:
        print_growth(plan.growth.as_json(), console)
    print_plan(plan.specs, plan.totals, plan.finished, console)
    with Session(config, study_dir, console, widest=max(plan.computing.workers.values())) as session:
        save_config(config, study_dir)
        uri = storage_uri(study_dir)
        # What a kill between the record of a run's end and the removal of its states has left.
        clear_finished(
            study_dir / CHECKPOINTS, plan.finished, storage=None if uri is None else files_at(uri), prefix=CHECKPOINTS
        )
        plan = tune_stage(session, plan)
        session.append("runs", run_rows(plan.specs))
        tasks = task_records(config.measure)
        if not set(tasks) <= {replace(task, version=None) for task in load_tasks(study_dir)}:
            session.append("tasks", task_rows(tasks, recorded=time.time()))
        failures = _sample(session, plan)
        plan = make_plan(config, study_dir)  # a search has decided on runs that no one knew before
        surrogate, model, proposals = _propose(session, plan)
        experiments = experiment_stage(plan, study_dir, proposals, model or surrogate)
        validated, lost = _validate(session, plan, experiments)
        failures |= lost
        comparisons = validate_stage(plan, study_dir, proposals)
        session.append("comparisons", comparison_rows(comparisons))
        with session.stage("report"):
            content = report_content(plan, study_dir, surrogate, proposals, comparisons, model)
            path = write_report(study_dir / REPORT, content)
    print_summary(content, console, path)
    for run_id, reason in failures.items():
        console.print(f"Run {run_id} failed: {reason}", highlight=False, markup=False, soft_wrap=True)
    wanted = set(config.search.objective_names)
    compared = {c.proposal.objective for c in comparisons} if config.validation.enabled else wanted
    return 0 if validated and not failures and wanted == {p.objective for p in proposals} == compared else PART_DONE


def _sample(session: Session, plan: StudyPlan) -> dict[str, str]:
    """Trains the sampling runs: those of the grid, or those that the search decides on; returns why others failed."""
    if plan.searched is not None:
        return search_stage(session, plan, fit_settings(plan.config))
    return _train(session, plan, plan.sampling, "train the grid")


def _propose(
    session: Session, plan: StudyPlan
) -> tuple[FittedSurrogate | None, JointSurrogate | None, tuple[Proposal, ...]]:
    """The fits and what they propose; what cannot be had is None, with the reason on the console."""
    surrogate: FittedSurrogate | None = None
    model: JointSurrogate | None = None
    proposals: tuple[Proposal, ...] = ()
    try:
        with session.stage("fit"):
            surrogate = fit_stage(plan, session.study_dir)
            session.append("fits", stored_fit(surrogate, "flp-m"))
    except NotEnoughDataError as error:
        what = "No mixture can be proposed" if plan.searched is None else "FLP-M cannot be fitted"
        session.console.print(f"{what}: {error}", highlight=False, soft_wrap=True)
    try:
        with session.stage("propose"):
            if plan.searched is not None:
                model = fit_model(plan, session.study_dir, fit_settings(plan.config))
                session.append("fits", stored_fit(model, "joint"))
                proposals = search_proposals(plan, model, session.study_dir, journal=True)
            elif surrogate is not None:
                proposals = propose_stage(plan, surrogate, session.study_dir, journal=True)
            session.append("proposals", proposal_rows(proposals))
    except NotEnoughDataError as error:
        session.console.print(f"No mixture can be proposed: {error}", highlight=False, soft_wrap=True)
    return surrogate, model, proposals


def _validate(session: Session, plan: StudyPlan, experiments: Sequence[Experiment]) -> tuple[bool, dict[str, str]]:
    """Trains the proposals and the targets; says whether the budget allowed it, and why runs failed."""
    if plan.config.validation.enabled:  # durable before a validation run starts, or nobody could check the prediction
        session.append("experiments", experiment_rows(experiments, written=time.time()))
    validation = plan.validation(experiments)
    refused = over_budget(plan, session.study_dir, validation)
    if refused is not None:
        session.console.print(refused, highlight=False, markup=False, soft_wrap=True)
        validation = ()
    session.append("runs", run_rows(validation))
    return refused is None, _train(session, plan, (*validation, *plan.targets), "train the proposals")


def _train(session: Session, plan: StudyPlan, specs: Sequence[RunSpec], stage: str) -> dict[str, str]:
    """Trains and measures those runs that are not finished; returns why the others failed."""
    missing = plan.missing(specs, finished_runs(session.study_dir))
    if not missing:
        return {}
    with session.stage(f"{stage}: Ray"):
        session.connect()
    with session.stage(f"{stage}: text"):
        text = session.text()
        for spec in missing:  # a source that is too short is refused before anything is trained
            stream_of(spec, text, plan.config.text.max_epochs)
    question = Question(
        run_ids=frozenset(s.run_id for s in plan.sampling),
        mixtures=plan.mixtures,
        flops=plan.target_flops,
        settings=fit_settings(plan.config),
    )
    with session.stage(stage):
        return session.train(missing, text, earlier=len(specs) - len(missing), question=question)
