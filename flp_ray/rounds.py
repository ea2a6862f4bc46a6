"""The search in rounds as a study runs it: asked whenever a slot is free, every decision stored before it counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.records import Records
from flp_ray.core.run import RunSpec
from flp_ray.core.search import Decision, SearchView
from flp_ray.design import repeat_seed
from flp_ray.distributed.context import stream_of
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit import FitSettings
from flp_ray.measure import task_records
from flp_ray.propose.answers import answer, pareto_front, surface
from flp_ray.propose.rounds import Choice, Search, Taken, next_choice, predictable
from flp_ray.session import Session
from flp_ray.store import decision_row, finished_runs, load_decisions, load_records, run_rows
from flp_ray.study import StudyPlan, make_plan

if TYPE_CHECKING:
    from flp_ray.fit.joint import JointSurrogate

Array = NDArray[Any]

SMALL_FIT = 100
"""Runs up to which each fit is made from nothing; beyond, it goes on from the last one."""

Append = Callable[[str, Any], int]
"""Appends rows to a table of the study; returns once they are durable."""


@dataclass(slots=True)
class Rounds:
    """The decisions of one call of a study; goes on where the last call stopped.

    Attributes:
        plan: The study.
        study_dir: Its folder.
        settings: Of the fit.
        append: Writes to the study's tables.
    """

    plan: StudyPlan
    study_dir: Path
    settings: FitSettings
    append: Append
    _say: Callable[[str], None] = field(init=False, default=lambda line: None)
    _planned: Callable[[RunSpec], None] = field(init=False, default=lambda spec: None)
    _specs: dict[str, RunSpec] = field(init=False)
    _queue: list[RunSpec] = field(init=False)
    _failed: set[str] = field(init=False, default_factory=set)
    _decisions: int = field(init=False)
    _search: Search = field(init=False)
    _question: str = field(init=False)
    _model: JointSurrogate | None = field(init=False, default=None)
    _fitted: frozenset[str] = field(init=False, default=frozenset())
    _waits: frozenset[str] | None = field(init=False, default=None)
    _ended: bool = field(init=False)

    def __post_init__(self) -> None:
        planned = self.plan.searched
        assert planned is not None, "the study has a grid alone"
        finished = finished_runs(self.study_dir)
        self._search, self._question, self._ended = planned.search, planned.question, planned.ended
        self._decisions = len(load_decisions(self.study_dir)[0])
        self._specs = {s.run_id: s for s in planned.decided}
        self._queue = [s for s in planned.decided if s.run_id not in finished]

    @property
    def over(self) -> bool:
        """Whether the search has ended and no run of it is left to train."""
        return self._ended and not self._queue

    @property
    def spent_flops(self) -> float:
        """FLOPs of all sampling runs that were decided on."""
        return sum(s.flops for s in self._specs.values())

    def follow(self, *, planned: Callable[[RunSpec], None], say: Callable[[str], None]) -> None:
        """Says who is to be told of each run that is handed out, and of each decision in words."""
        self._planned, self._say = planned, say

    def failed(self, run_id: str) -> None:
        """A run failed on every attempt: it is not waited for any more in this call."""
        self._failed.add(run_id)

    def ask(self) -> RunSpec | Literal["end"] | None:
        """The next run; `end` when there is none; None while what is training must be known before."""
        if self._queue:
            return self._hand(self._queue.pop(0))
        if self._ended:
            return "end"
        done = frozenset(finished_runs(self.study_dir)) | self._failed
        if self._waits == done:
            return None
        model = self._fit(done - self._failed)
        began = time.time()
        choice = next_choice(self._search, model, self._taken(done), self.spent_flops)
        if choice is None:
            self._waits = done
            return None
        return self._decided(choice, model, began)

    def _fit(self, done: frozenset[str]) -> JointSurrogate | None:
        """The law of what has finished; the last one while nothing more has."""
        seen = done & self._specs.keys()
        if seen != self._fitted:
            self._fitted = seen
            from flp_ray.fit.joint import fit_joint  # scipy, which a plan does without

            try:
                records = _sampling_records(self.plan, self.study_dir, self._specs, seen)
                # A small fit starts from nothing, so that the answer at the end is that of the last decision.
                like = self._model if len(seen) > SMALL_FIT else None
                self._model = fit_joint(records, self.settings, like=like)
            except NotEnoughDataError:
                self._model = None
        return self._model

    def _taken(self, done: frozenset[str]) -> list[Taken]:
        return [Taken(size=s.size, mixture=s.mixture, finished=s.run_id in done) for s in self._specs.values()]

    def _decided(self, choice: Choice, model: JointSurrogate | None, at: float) -> RunSpec | Literal["end"]:
        """Stores a decision, and the run that it plans, before anything starts."""
        spec, repeat = None, choice.repeat
        if choice.size is not None and choice.mixture is not None:
            factory, seed = self.plan.factory, self.plan.config.seed
            spec = factory.run(choice.size, choice.mixture, "sampling", repeat_seed(seed, repeat))
            while spec.run_id in self._specs:  # a run that was decided on is never a new one, whatever was counted
                repeat += 1
                spec = factory.run(choice.size, choice.mixture, "sampling", repeat_seed(seed, repeat))
            self.append("runs", run_rows([spec]))
        decision = Decision(
            number=self._decisions,
            at=at,
            kind=choice.kind,
            reason=choice.reason,
            run_id=spec.run_id if spec else None,
            size=choice.size,
            mixture=choice.mixture,
            repeat=repeat,
            flops=spec.flops if spec else 0.0,
            gain=choice.gain,
            expected_regret=choice.expected_regret,
            spent_flops=self.spent_flops,
            best=choice.best,
            fit_id=model.fit_id if model else None,
        )
        self.append("decisions", decision_row(decision, question=self._question))
        self._decisions += 1
        if spec is None:
            self._ended = True
            self._say(f"the search ends: {choice.reason}")
            return "end"
        self._specs[spec.run_id] = spec
        if choice.kind != "start":
            self._say(f"{spec.size:>6} {spec.mixture}: chosen: {choice.reason}")
        return self._hand(spec)

    def _hand(self, spec: RunSpec) -> RunSpec:
        self._planned(spec)
        return spec


def search_stage(session: Session, plan: StudyPlan, settings: FitSettings) -> dict[str, str]:
    """Trains the runs of a search in rounds, until it ends.

    Args:
        session: The call.
        plan: The study.
        settings: Of the fits.

    Returns:
        The reason by run id, of the runs that failed on every attempt.

    Raises:
        TextError: A source is too short for one of the first runs.
    """
    if Rounds(plan=plan, study_dir=session.study_dir, settings=settings, append=session.append).over:
        return {}
    with session.stage("search: Ray"):
        session.connect()
    with session.stage("search: text"):
        text = session.text()
    plan = make_plan(plan.config, session.study_dir)  # now that it is known how much text there is
    for spec in plan.missing(plan.sampling, set(plan.finished)):  # refused before anything is trained, as for a grid
        stream_of(spec, text, plan.config.text.max_epochs)
    rounds = Rounds(plan=plan, study_dir=session.study_dir, settings=settings, append=session.append)
    with session.stage("search"):
        return session.search(rounds, text, earlier=sum(s.run_id in plan.finished for s in plan.sampling))


def over_budget(plan: StudyPlan, study_dir: Path, validation: Sequence[RunSpec]) -> str | None:
    """Why validation runs are not trained within the budget of a search, in words; None where they can be.

    While it runs, a search keeps what validation costs. Once it has ended, more of it may be wanted: another number of
    seeds, or another proposal, because a run that had failed was trained after all.

    Args:
        plan: The study, its search ended.
        study_dir: Its folder.
        validation: The runs.
    """
    if plan.searched is None or plan.config.rounds is None:
        return None
    missing = plan.missing(validation, finished_runs(study_dir))
    spent, budget = plan.searched.spent_flops(study_dir), plan.config.rounds.budget_flops
    needed = spent + sum(s.flops for s in missing)
    if not missing or needed <= budget * (1 + 1e-9):
        return None
    return (
        f"The budget does not hold the validation: {len(missing)} runs would cost {needed - spent:.4g} FLOPs, and "
        f"{max(0.0, budget - spent):.4g} of rounds.budget_flops ({budget:.4g}) are left. Raise it, or lower "
        "validation.seeds."
    )


def fit_model(plan: StudyPlan, study_dir: Path, settings: FitSettings) -> JointSurrogate:
    """The law of all finished sampling runs, fitted from nothing, so that the records alone decide it.

    Raises:
        NotEnoughDataError: They are too few.
    """
    from flp_ray.fit.joint import fit_joint

    specs = {s.run_id: s for s in plan.sampling}
    return fit_joint(_sampling_records(plan, study_dir, specs, frozenset(finished_runs(study_dir))), settings)


def _sampling_records(
    plan: StudyPlan, study_dir: Path, specs: Mapping[str, RunSpec], finished: frozenset[str]
) -> Records:
    records = load_records(study_dir).of_runs(specs.keys() & finished)
    runs = tuple(replace(r, purpose="sampling", mixture=specs[r.run_id].mixture) for r in records.runs)
    return replace(records, runs=runs, tasks=task_records(plan.config.measure))


def search_view(plan: StudyPlan, study_dir: Path, model: JointSurrogate | None) -> SearchView:
    """Everything that status and report show of the study's search.

    Args:
        plan: The study.
        study_dir: Its folder.
        model: The law of all finished runs; None where they are too few.
    """
    searched, rounds = plan.searched, plan.config.rounds
    assert searched is not None and rounds is not None, "the study has a grid alone"
    search = searched.search
    trained = trained_ratios(plan)
    goals = predictable(search.goals, model)
    front = plan.config.search.pareto
    names = plan.config.search.objective_names
    shown = [g for g in goals if g.name in names]
    answers = []
    for goal in shown:
        with suppress(NotEnoughDataError):  # nothing keeps what must be kept; the last decision says so
            answers.append(answer(search, cast("JointSurrogate", model), goal, trained))
    on_front = [g for g in goals if g.name in front]
    return SearchView(
        budget_flops=rounds.budget_flops,
        spent_flops=searched.spent_flops(study_dir),
        reserved_flops=searched.reserved_flops,
        tolerance=search.tolerance,
        decisions=load_decisions(study_dir)[0],
        answers=tuple(answers),
        surfaces=tuple(surface(search, model, g) for g in shown) if model else (),
        front=pareto_front(search, model, on_front, trained) if model and len(on_front) > 1 else (),
        front_objectives=tuple(g.name for g in on_front) if len(on_front) > 1 else (),
    )


def trained_ratios(plan: StudyPlan) -> Array:
    """The mixtures of the study's finished sampling runs, (n, K), each once; sources sorted by name."""
    sources = sorted(plan.config.sources)
    mixtures = dict.fromkeys(s.mixture for s in plan.sampling if s.run_id in plan.finished)
    return np.array([[m.ratio(s) for s in sources] for m in mixtures]).reshape(-1, len(sources))
