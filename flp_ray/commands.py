"""The single steps of a study, for a person who wants one of them; `run` is `pipeline.run_study`.

Each returns what `--json` prints and, given a console, shows it there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from flp_ray.config import StudyConfig, describe_runs
from flp_ray.core.hub import HUB_VARIABLE
from flp_ray.core.prediction import Proposal
from flp_ray.errors import NotEnoughDataError, StorageError
from flp_ray.mirror import put_study
from flp_ray.pinning import check_unchanged
from flp_ray.pipeline import REPORT
from flp_ray.plan import check_budget
from flp_ray.report import (
    ReportContent,
    print_growth,
    print_laws,
    print_plan,
    print_proposals,
    print_status,
    print_tuning,
    search_json,
    write_report,
)
from flp_ray.rounds import fit_model, search_view
from flp_ray.session import Session
from flp_ray.stages import (
    fit_settings,
    fit_stage,
    propose_stage,
    report_content,
    search_proposals,
    stored_fit,
    validate_stage,
)
from flp_ray.store import export_records, has_tables, load_proposals, load_specs, proposal_rows, run_states
from flp_ray.study import make_plan

if TYPE_CHECKING:
    from flp_ray.fit import FittedSurrogate
    from flp_ray.fit.joint import JointSurrogate

_NEW = {"state": "planned", "attempts": 0, "reason": None}


def plan_study(config: StudyConfig, study_dir: Path, console: Console | None) -> dict[str, Any]:
    """The plan; starts nothing.

    Raises:
        BudgetError: The plan costs more than the study's budget.
        ConfigError: The study file changes what the folder's runs were trained on or measured with.
    """
    check_unchanged(config, study_dir)
    plan = make_plan(config, study_dir)
    if console and plan.growth is not None:
        print_growth(plan.growth.as_json(), console)
    if console:
        print_plan(plan.specs, plan.totals, plan.finished, console)
        print_tuning(plan.tuning_view(study_dir), console)
    check_budget(plan.total, plan.to_do, config.budget)
    return plan.as_json()


def fetch_data(config: StudyConfig, out: Path, console: Console) -> None:
    """Copies what the study takes from the Hugging Face hub: text, tokenizer, data of the tasks.

    Raises:
        TextError: A text cannot be had.
        TaskError: A task's data cannot be had.
    """
    from flp_ray.data import fetch_texts
    from flp_ray.measure import fetch_tasks

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    fetch_texts(config.text, out, items=config.item_sets(), progress=say)
    fetch_tasks(config.measure, out, progress=say)
    say(f"All of it is in {out}. On nodes without network: export {HUB_VARIABLE}={out.absolute()}")


def prepare_data(config: StudyConfig, study_dir: Path, console: Console) -> None:
    """Makes the token blocks of the study's text; what an earlier call has made is not made again.

    Raises:
        TextError: A text is missing or too short.
        StorageError: The disk is too small.
    """
    check_unchanged(config, study_dir)
    with Session(config, study_dir, console) as session, session.stage("data"):
        text = session.text()
    for name, blocks in text.sources.items():
        console.print(f"source {name}: {blocks.tokens:,} tokens of {blocks.documents:,} documents", highlight=False)


def study_status(config: StudyConfig, study_dir: Path, console: Console | None) -> dict[str, Any]:
    """How far the study is: every run with its state, and what is proposed."""
    plan = make_plan(config, study_dir)
    states = {state.run_id: state for state in run_states(study_dir)}
    planned = {s.run_id for s in plan.specs}
    validation = [s for s in load_specs(study_dir, "validation") if s.run_id not in planned]
    runs = [
        run
        | ({"state": s.state, "attempts": s.attempts, "reason": s.reason} if (s := states.get(run["run_id"])) else _NEW)
        for run in describe_runs([*plan.specs, *validation])
    ]
    answer: dict[str, Any] = {
        "study": config.study,
        "study_dir": str(study_dir),
        "counts": dict(Counter(run["state"] for run in runs)),
        "runs": runs,
        "proposals": [_proposal_json(p) for p in load_proposals(study_dir)],
        "report": str(report) if (report := study_dir / REPORT).exists() else None,
    }
    if plan.searched is not None:
        answer["search"] = search_json(search_view(plan, study_dir, None))
    if console:
        print_status(answer, console)
    return answer


def fit_study(config: StudyConfig, study_dir: Path, console: Console | None) -> dict[str, Any]:
    """Fits the laws to what is recorded.

    Raises:
        NotEnoughDataError: Too few sampling runs are finished.
    """
    surrogate = fit_stage(make_plan(config, study_dir), study_dir)
    _keep(config, study_dir, "fits", stored_fit(surrogate, "flp-m"))
    if console:
        print_laws(ReportContent(study=config.study, surrogate=surrogate), console)
        for note in surrogate.notes():
            console.print(f"Note: {note}", highlight=False, soft_wrap=True)
    return {
        "fit_id": surrogate.fit_id,
        "lines": [asdict(line) for line in surrogate.lines()],
        "not_emerged": surrogate.not_emerged,
        "notes": surrogate.notes(),
    }


def propose_mixtures(config: StudyConfig, study_dir: Path, console: Console | None) -> dict[str, Any]:
    """Searches the fitted surrogate for the mixtures worth training.

    Raises:
        NotEnoughDataError: Too few sampling runs are finished, or no task has emerged.
    """
    plan = make_plan(config, study_dir)
    if plan.searched is not None:
        model = fit_model(plan, study_dir, fit_settings(config))
        proposals, fit_id, row = search_proposals(plan, model, study_dir), model.fit_id, stored_fit(model, "joint")
    else:
        surrogate = fit_stage(plan, study_dir)
        proposals, fit_id = propose_stage(plan, surrogate, study_dir), surrogate.fit_id
        row = stored_fit(surrogate, "flp-m")
    _keep(config, study_dir, "fits", row)
    _keep(config, study_dir, "proposals", proposal_rows(proposals))
    if console:
        print_proposals(ReportContent(study=config.study, proposals=proposals), console)
    return {"fit_id": fit_id, "proposals": [_proposal_json(p) for p in proposals]}


def power_study(config: StudyConfig, study_dir: Path, draws: int, console: Console | None) -> dict[str, Any]:
    """How well the study's design would find the best mixture, on planted worlds; trains and stores nothing.

    Raises:
        ConfigError: `draws` is below 1, or the study mixes nothing.
    """
    from flp_ray.power import measure_power, power_json, print_power, progress

    powers = measure_power(make_plan(config, study_dir), draws, progress(draws, console) if console else None)
    if console:
        print_power(powers, console)
    return power_json(config.study, powers)


def report_study(config: StudyConfig, study_dir: Path, console: Console | None) -> dict[str, Any]:
    """Writes the report from what is recorded, at any time.

    Raises:
        StorageError: There is no study in that folder.
    """
    _require_study(study_dir)
    plan = make_plan(config, study_dir)
    try:
        surrogate: FittedSurrogate | None = fit_stage(plan, study_dir)
    except NotEnoughDataError:
        surrogate = None
    model: JointSurrogate | None = None
    proposals: tuple[Proposal, ...] = ()
    try:
        if plan.searched is not None:
            model = fit_model(plan, study_dir, fit_settings(config))
            proposals = search_proposals(plan, model, study_dir)
        elif surrogate is not None:
            proposals = propose_stage(plan, surrogate, study_dir)
    except NotEnoughDataError:
        pass
    comparisons = validate_stage(plan, study_dir, proposals)
    content = report_content(plan, study_dir, surrogate, proposals, comparisons, model)
    path = write_report(study_dir / REPORT, content)
    put_study(study_dir)
    if console:
        console.print(f"Report: {path}", highlight=False, soft_wrap=True)
    return {"report": str(path)}


def export_study(
    study_dir: Path, out: Path, form: Literal["csv", "parquet"], console: Console | None
) -> dict[str, Any]:
    """Writes the study's records in the import form."""
    _require_study(study_dir)
    rows = export_records(study_dir, out, form=form)
    if console:
        console.print(f"Exported to {out}: {', '.join(f'{n} {table}' for table, n in rows.items())}", highlight=False)
    return {"out": str(out), "rows": rows}


def _require_study(study_dir: Path) -> None:
    if not has_tables(study_dir):
        raise StorageError(
            f"There is no study in {study_dir}. Run it first (flp-ray run STUDY), or correct --study-dir."
        )


def _keep(config: StudyConfig, study_dir: Path, table: str, rows: Any) -> None:
    """Stores what a single command found, unless a running study holds the store; it will find the same itself."""
    try:
        with Session(config, study_dir, Console(quiet=True)) as session:
            session.append(table, rows)
    except StorageError:
        return


def _proposal_json(proposal: Proposal) -> dict[str, Any]:
    return asdict(proposal) | {"proposal_id": proposal.proposal_id, "mixture": proposal.mixture.as_dict()}
