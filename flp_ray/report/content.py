"""What a report is made of: values of the core and a few plain rows, nothing read from disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flp_ray.core.prediction import Comparison, Proposal
from flp_ray.core.records import Records
from flp_ray.core.run import RunSpec
from flp_ray.core.tuning import Tuning

if TYPE_CHECKING:
    # Pull numpy, which importing the report does not need.
    from flp_ray.core.search import SearchView
    from flp_ray.core.surrogate import FitLine, Surrogate

MEAN = "mean"
"""The objective that is the weighted mean over the tasks that are predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """How one run stands.

    Attributes:
        run_id: The run.
        state: A word, e.g. `done`, `failed`, `running`.
        reason: Why, where it is not done; empty otherwise.
        train_seconds: Seconds spent training; None where it is not known.
        measure_seconds: Seconds spent measuring; None where it is not known.
        mfu: Model FLOPs utilisation of its training, 0 to 1; None where it is not known.
    """

    run_id: str
    state: str
    reason: str = ""
    train_seconds: float | None = None
    measure_seconds: float | None = None
    mfu: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSummary:
    """The study's text in numbers.

    Attributes:
        tokens: Training tokens that stand ready, by source.
        removed: Documents dropped on the way, by reason.
        epochs: How often the largest run reads each source, by source; 1 is once.
    """

    tokens: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """Everything the report shows. All but the name may be missing; the page then says so in words.

    Attributes:
        study: The study's name.
        config_yaml: The study file as text.
        records: Records of all purposes.
        specs: Every planned run, validation runs included.
        surrogate: The fitted laws; None before the first fit.
        proposals: Proposed mixtures, all objectives.
        comparisons: Proposals that were trained.
        stage_seconds: Wall time of each stage, in the order of the flow.
        run_states: How each run stands.
        versions: Version by package.
        text: The text in numbers; None where it is not prepared.
        notes: Warnings and remarks for the reader, one sentence each.
        objective: The question's objective, `mean` or a task; None takes `mean` where it was proposed, else
            the first proposal's.
        tuning: Where the hyperparameters come from; None where they are as stated.
        weights: Weight of each task in the mean, as in the fit; tasks not named weigh 1.
        beside: Laws that are shown beside those that the predictions come from.
        search: The search in rounds; None where the study's runs are a fixed design.
    """

    study: str
    config_yaml: str = ""
    records: Records = field(default_factory=lambda: Records(runs=(), measurements=()))
    specs: tuple[RunSpec, ...] = ()
    surrogate: Surrogate | None = None
    proposals: tuple[Proposal, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    stage_seconds: tuple[tuple[str, float], ...] = ()
    run_states: tuple[RunRow, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    text: TextSummary | None = None
    notes: tuple[str, ...] = ()
    objective: str | None = None
    weights: dict[str, float] = field(default_factory=dict)
    beside: tuple[FitLine, ...] = ()
    search: SearchView | None = None
    tuning: Tuning | None = None

    @property
    def lines(self) -> tuple[FitLine, ...]:
        """Every fitted law: those that the predictions come from, then those beside."""
        return (() if self.surrogate is None else self.surrogate.lines()) + self.beside

    @property
    def main_objective(self) -> str:
        """The objective that the first screen answers for."""
        if self.objective is not None:
            return self.objective
        objectives = [p.objective for p in self.proposals]
        return MEAN if MEAN in objectives or not objectives else objectives[0]

    @property
    def main_proposal(self) -> Proposal | None:
        """The proposal for the main objective; None where there is none."""
        return next((p for p in self.proposals if p.objective == self.main_objective), None)

    @property
    def main_comparisons(self) -> tuple[Comparison, ...]:
        """What training at the main proposal gave, one entry a training (seed)."""
        main = self.main_proposal
        if main is None:
            return ()
        return tuple(c for c in self.comparisons if c.proposal.proposal_id == main.proposal_id)

    def weight(self, task: str) -> float:
        """The weight of one task in the mean."""
        return self.weights.get(task, 1.0)
