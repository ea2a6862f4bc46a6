"""The stages of a study that need no cluster: fit, propose, validate, report; each begins from what is recorded."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flp_ray.config import StudyConfig
from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Comparison, Experiment, Prediction, Proposal
from flp_ray.core.records import Records
from flp_ray.core.run import RunSpec
from flp_ray.core.text import PreparedText
from flp_ray.data import load_text
from flp_ray.doctor import versions
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit import FitSettings, sparse_domains
from flp_ray.measure import task_records
from flp_ray.propose.rounds import predictable
from flp_ray.report import ReportContent, RunRow, TextSummary
from flp_ray.rounds import search_view, trained_ratios
from flp_ray.store import (
    finished_runs,
    first_starts,
    fit_row,
    load_comparisons,
    load_experiments,
    load_fits,
    load_proposals,
    load_records,
    load_stages,
    load_tasks,
    run_states,
    storage_uri,
)
from flp_ray.study import StudyPlan
from flp_ray.validate import compare, design_experiment

if TYPE_CHECKING:
    from flp_ray.fit import FittedSurrogate
    from flp_ray.fit.joint import JointSurrogate

JOURNAL = "optuna.journal"


def fit_settings(config: StudyConfig) -> FitSettings:
    """Settings of the fits, with the study's seed and weights of the tasks."""
    return replace(config.fit, weights=config.task_weights(), seed=config.seed)


def fit_stage(plan: StudyPlan, study_dir: Path) -> FittedSurrogate:
    """The laws fitted to the finished sampling runs; a fit that is stored already is not made again."""
    from flp_ray.fit import FittedSurrogate, fit_identity, fit_surrogate  # scipy, which a plan does without

    records = records_of(plan, study_dir, plan.sampling)
    if not records.runs:
        raise NotEnoughDataError(f"No sampling run is finished in {study_dir}. Train them first: flp-ray run STUDY.")
    settings = fit_settings(plan.config)
    identity = fit_identity(records, settings)
    stored = next((fit for fit in load_fits(study_dir) if fit.fit_id == identity), None)
    return FittedSurrogate.from_dict(stored.payload) if stored else fit_surrogate(records, settings)


def stored_fit(surrogate: FittedSurrogate | JointSurrogate, method: str) -> Any:
    """The fit's row of the table `fits`; the method is `flp-m` or `joint`."""
    return fit_row(
        fit_id=surrogate.fit_id,
        method=method,
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
        lattice=plan.space.lattice,
    )
    stored = {p.proposal_id: p for p in load_proposals(study_dir, surrogate.fit_id)}
    return tuple(stored.get(p.proposal_id, p) for p in proposals)


def search_proposals(
    plan: StudyPlan, model: JointSurrogate, study_dir: Path, *, journal: bool = False
) -> tuple[Proposal, ...]:
    """The proposals of a search in rounds, from the law of all its runs.

    Args:
        plan: The study.
        model: The law.
        study_dir: The study's folder.
        journal: Keep what was trained and found in the study's Optuna journal; for one writer at a time.

    Raises:
        NotEnoughDataError: No objective can be predicted, or none of the mixtures keeps what must be kept.
    """
    from flp_ray.propose.answers import answer, proposal
    from flp_ray.propose.record import record_search  # Optuna, likewise

    assert plan.searched is not None
    search, trained = plan.searched.search, trained_ratios(plan)
    goals = [g for g in predictable(search.goals, model) if g.name in plan.config.search.objective_names]
    if not goals:
        reasons = " ".join(f"{task}: {reason}" for task, reason in model.not_emerged.items())
        raise NotEnoughDataError(f"No objective can be predicted. {reasons}")
    stored = {p.proposal_id: p for p in load_proposals(study_dir, model.fit_id)}
    made = []
    for goal in goals:
        mixture = answer(search, model, goal, trained).mixture
        target = plan.target
        found = proposal(search, model, goal, mixture, size=target.size, train_tokens=target.train_tokens)
        made.append(stored.get(found.proposal_id, found))
        if journal:
            runs: defaultdict[Mixture, list[str]] = defaultdict(list)
            for spec in plan.sampling:
                if spec.run_id in plan.finished:
                    runs[spec.mixture].append(f"{spec.size} {spec.run_id}")
            record_search(study_dir / JOURNAL, search, model, goal, runs, mixture)
    return tuple(made)


def experiment_stage(
    plan: StudyPlan,
    study_dir: Path,
    proposals: Sequence[Proposal],
    surrogate: FittedSurrogate | JointSurrogate | None = None,
) -> tuple[Experiment, ...]:
    """What each proposal is held against: as it was written down, or, before that, as the fit says.

    Args:
        plan: The study.
        study_dir: Its folder.
        proposals: What is proposed.
        surrogate: The fit that the proposals come from; None takes what is written down alone.
    """
    stored = {e.proposal.proposal_id: e for e in load_experiments(study_dir)}
    if surrogate is None or all(p.proposal_id in stored for p in proposals):
        return tuple(stored.get(p.proposal_id, Experiment(proposal=p)) for p in proposals)
    records = records_of(plan, study_dir, plan.sampling)
    return tuple(
        stored.get(p.proposal_id)
        or design_experiment(
            p, surrogate, records, allowed=plan.space.bounds.contains, expected_at=_expectation(plan, surrogate, p)
        )
        for p in proposals
    )


def _expectation(
    plan: StudyPlan, surrogate: FittedSurrogate | JointSurrogate, proposal: Proposal
) -> Callable[[Mixture], Prediction] | None:
    """What the law of a search expects of a proposal's objective, which may have weights of its own."""
    from flp_ray.propose.answers import expected_at

    if plan.searched is None:
        return None
    search, model = plan.searched.search, cast("JointSurrogate", surrogate)
    goal = next(g for g in search.goals if g.name == proposal.objective)
    return lambda mixture: expected_at(search, model, goal, mixture)


def validate_stage(plan: StudyPlan, study_dir: Path, proposals: Sequence[Proposal]) -> tuple[Comparison, ...]:
    """Predictions beside what the finished validation runs gave, and whether the proposals were worth it."""
    experiments = experiment_stage(plan, study_dir, proposals)
    records = records_of(plan, study_dir, (*plan.sampling, *plan.validation(experiments)))
    trainings = plan.config.validation.trainings
    made = compare(experiments, records, weights=plan.config.task_weights(), trainings=trainings)
    stored = {(c.proposal.proposal_id, c.run_id): c for c in load_comparisons(study_dir)}
    starts = first_starts(study_dir)
    return tuple(
        stored.get((c.proposal.proposal_id, c.run_id))
        or replace(c, began=min((starts[run] for run in c.run_id.split(",") if run in starts), default=None))
        for c in made
    )


def records_of(plan: StudyPlan, study_dir: Path, specs: Sequence[RunSpec]) -> Records:
    """What the finished ones of these runs measured, under the purpose and the sources that are planned for now."""
    planned = {s.run_id: s for s in specs}
    records = load_records(study_dir).of_runs(planned.keys() & finished_runs(study_dir))
    return replace(
        records,
        runs=tuple(
            replace(run, purpose=(spec := planned[run.run_id]).purpose, mixture=spec.mixture) for run in records.runs
        ),
        tasks=task_records(plan.config.measure),
    )


def report_content(
    plan: StudyPlan,
    study_dir: Path,
    surrogate: FittedSurrogate | None,
    proposals: Sequence[Proposal],
    comparisons: Sequence[Comparison],
    model: JointSurrogate | None = None,
) -> ReportContent:
    """Everything that the report shows, from what is recorded.

    Args:
        plan: The study.
        study_dir: Its folder.
        surrogate: FLP-M; None where it cannot be fitted.
        proposals: What is proposed.
        comparisons: What training there gave.
        model: The law of a search in rounds; None where there is none, or too few runs.
    """
    specs = (*plan.specs, *plan.validation(experiment_stage(plan, study_dir, proposals)))
    ids = {s.run_id for s in specs}
    # Not the plan's, which is older than what the study has gained.
    text = load_text(study_dir / "text", local=storage_uri(study_dir) is None)
    records = records_of(plan, study_dir, specs)
    return ReportContent(
        study=plan.config.study,
        config_yaml=plan.config.dump(),
        records=records,
        specs=specs,
        surrogate=model or surrogate,
        beside=surrogate.lines() if model is not None and surrogate is not None else (),
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
                mfu=s.mfu,
            )
            for s in run_states(study_dir)
            if s.run_id in ids
        ),
        versions=versions() | {f"task {t.task}": t.version for t in load_tasks(study_dir) if t.version is not None},
        notes=(*surrogate.notes(), *sparse_domains(records).values()) if surrogate else (),
        text=None if text is None else _text_summary(text, specs),
        weights=plan.config.task_weights(),
        tuning=plan.tuning_view(study_dir),
        search=None if plan.searched is None else search_view(plan, study_dir, model),
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
