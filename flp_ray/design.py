"""From a study file to its search in rounds: objectives, limits, sizes, the first runs, what they may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flp_ray.config import StudyConfig
from flp_ray.core.mixture import Mixture
from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.errors import BudgetError, ConfigError
from flp_ray.plan import RunFactory, Rung
from flp_ray.plan.ladder import require_size
from flp_ray.propose.goals import Goal, goals_of, named_goal
from flp_ray.propose.rounds import Search
from flp_ray.propose.space import Space, present_mixture, search_space, text_bounds
from flp_ray.propose.start import SearchSize, start_design
from flp_ray.store import finished_runs, load_decisions, load_specs


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """The search of a study in rounds, as far as it has come.

    Attributes:
        search: What is sought, and for how much.
        decided: Sampling runs that are finished or decided on, of this and earlier calls.
        question: Hash of what is asked.
        ended: Whether the search has ended for this question.
        reserved_flops: What validation may still cost.
        aside_flops: What the budget pays beside sampling and validation: tuning, targets, and runs that are finished
            and have text of a source that is left out.
    """

    search: Search
    decided: tuple[RunSpec, ...]
    question: str
    ended: bool
    reserved_flops: float
    aside_flops: float

    def sampling(self, factory: RunFactory) -> tuple[RunSpec, ...]:
        """The runs that are decided on, and those of the first design that are still to come."""
        first = [] if self.ended else [factory.run(size, m, "sampling") for size, m in self.search.start]
        return tuple({spec.run_id: spec for spec in (*self.decided, *first)}.values())

    def spent_flops(self, study_dir: Path) -> float:
        """What of the budget is spent: on runs that were decided on, finished or not, on validation, and aside."""
        return sum(s.flops for s in self.decided) + self.aside_flops + validated_flops(study_dir)


def validated_flops(study_dir: Path) -> float:
    """What the finished validation runs of a study's folder have cost."""
    finished = finished_runs(study_dir)
    return sum(s.flops for s in load_specs(study_dir, "validation") if s.run_id in finished)


def plan_search(
    config: StudyConfig,
    factory: RunFactory,
    target: Rung,
    source_tokens: Mapping[str, int | None],
    study_dir: Path,
    *,
    validation_runs: int,
    tuning_flops: float,
) -> SearchPlan | None:
    """The study's search; None where it has a grid alone.

    Args:
        config: The study.
        factory: Makes its runs.
        target: What proposals are made for.
        source_tokens: Tokens of text by source, None where not known yet.
        study_dir: Its folder.
        validation_runs: Most runs that validation can take.
        tuning_flops: What the tuning of hyperparameters costs at most.

    Raises:
        ConfigError: Sizes or limits do not fit together.
        BudgetError: The budget does not hold the first runs and the validation.
    """
    if config.rounds is None:
        return None
    decisions, asked = load_decisions(study_dir)
    finished, chosen = finished_runs(study_dir), {d.run_id for d in decisions}
    sampled = [s for s in load_specs(study_dir, "sampling") if s.run_id in finished or s.run_id in chosen]
    decided = tuple(
        replace(s, mixture=mixture) for s in sampled if (mixture := in_sources(s.mixture, config.sources)) is not None
    )
    left_out = {s.run_id for s in sampled} - {s.run_id for s in decided}
    targets = factory.targets(config.grid) if config.grid is not None else ()
    aside = tuning_flops + sum(s.flops for s in (*targets, *(s for s in sampled if s.run_id in finished & left_out)))
    target_flops = target.shape.flops(target.train_tokens, config.text.sequence_length)
    reserved = validation_runs * target_flops if config.validation.enabled else 0.0
    left = config.rounds.budget_flops - reserved - validated_flops(study_dir) - aside
    search = make_search(config, factory, target, source_tokens, sampling_flops=left, earlier=decided)
    question = question_of(config, search)
    ended = bool(decisions) and decisions[-1].kind == "stop" and asked == question
    plan = SearchPlan(
        search=search,
        decided=decided,
        question=question,
        ended=ended,
        reserved_flops=0.0 if ended else reserved,
        aside_flops=aside,
    )
    if not ended:
        check_search_budget(config, plan, plan.sampling(factory), study_dir)
    return plan


def study_space(config: StudyConfig, target: Rung, source_tokens: Mapping[str, int | None]) -> Space:
    """The mixtures that a study may propose for its target.

    Raises:
        ConfigError: No mixture keeps the limits; says which and what to change.
    """
    return search_space(
        config.search,
        config.sources,
        target_tokens=target.train_tokens,
        available=source_tokens,
        max_epochs=config.text.max_epochs,
    )


def study_goals(config: StudyConfig) -> tuple[Goal, ...]:
    """The objectives of a study, those of its Pareto front included.

    Raises:
        ConfigError: One is unknown.
    """
    goals = goals_of(config.search, config.task_weights())
    front = [named_goal(name, config.task_weights(), "search.pareto") for name in config.search.pareto]
    return tuple({goal.name: goal for goal in (*goals, *front)}.values())


def make_search(
    config: StudyConfig,
    factory: RunFactory,
    target: Rung,
    source_tokens: Mapping[str, int | None],
    *,
    sampling_flops: float,
    earlier: Sequence[RunSpec] = (),
) -> Search:
    """The search of a study with `rounds`.

    Args:
        config: The study.
        factory: Makes its runs.
        target: What proposals are made for.
        source_tokens: Tokens of text by source, None where not known yet.
        sampling_flops: What its sampling runs may cost together.
        earlier: Runs that were decided on before, maybe of sizes that it does not train any more.

    Raises:
        ConfigError: Sizes or limits do not fit together, or there is one source alone.
    """
    assert config.rounds is not None
    if len(config.sources) < 2:
        raise ConfigError("rounds: a search over mixtures needs at least two sources; text.sources names one.")
    space, goals = study_space(config, target, source_tokens), study_goals(config)
    sizes = _sizes(config, factory, space, source_tokens)
    present = present_mixture(config.search, config.sources)
    first = factory.sampling(config.grid) if config.grid is not None else ()
    if first:
        start = tuple((s.size, s.mixture) for s in first)
    else:
        number = config.rounds.start_mixtures
        start = start_design(space, sizes, mixtures=number, present=present, seed=config.seed)
    return Search(
        goals=goals,
        space=space,
        sizes=sizes,
        other_sizes={s.size: s.flops for s in (*earlier, *first)},
        target_flops=target.shape.flops(target.train_tokens, config.text.sequence_length),
        start=start,
        present=present,
        tolerance=config.rounds.tolerance,
        budget_flops=sampling_flops,
        max_runs=config.rounds.max_runs,
        seed=config.seed,
    )


def question_of(config: StudyConfig, search: Search) -> str:
    """Hash of what a search is asked: one that has ended goes on only when this changes."""
    assert config.rounds is not None
    return stable_hash(
        [
            [asdict(goal) for goal in search.goals],
            [asdict(bounds) for bounds in (search.space.bounds, search.space.free.bounds)],
            [search.space.prior, search.space.prior_weight, search.space.lattice.units],
            [[s.name, s.flops] for s in search.sizes],
            [search.target_flops, search.tolerance, config.rounds.budget_flops, search.max_runs],
            search.present.as_dict() if search.present else None,
        ]
    )


def repeat_seed(study_seed: int, repeat: int) -> int:
    """The seed of a run's n-th repetition; none that validation counts up to."""
    return study_seed if repeat == 0 else int(stable_hash([study_seed, "repeat", repeat]), 16) % 2**31


def in_sources(mixture: Mixture, sources: Sequence[str]) -> Mixture | None:
    """The same mixture over the study's sources; None where it has text of another."""
    if any(r > 0 and s not in sources for s, r in mixture.as_dict().items()):
        return None
    return Mixture.of({s: mixture.ratio(s) for s in sources})


def _sizes(
    config: StudyConfig, factory: RunFactory, space: Space, source_tokens: Mapping[str, int | None]
) -> tuple[SearchSize, ...]:
    names = config.rounds.sizes if config.rounds and config.rounds.sizes else factory.sizes
    made = []
    for name in names:
        rung = require_size(factory.rungs, name, "rounds.sizes")
        bounds = text_bounds(space.free.bounds, rung.train_tokens, source_tokens, config.text.max_epochs)
        flops = rung.shape.flops(rung.train_tokens, factory.sequence_length)
        made.append(SearchSize(name=name, flops=flops, highest=bounds.high if bounds else None))
    made.sort(key=lambda s: s.flops)
    if all(s.highest is None for s in made):
        raise ConfigError(
            f"rounds: the sources hold too little text for any of the sizes {', '.join(names)}, repeated "
            f"{config.text.max_epochs:g} times at most. Raise text.max_epochs, bring more text, or take smaller sizes."
        )
    return tuple(made)


def check_search_budget(config: StudyConfig, plan: SearchPlan, runs: Sequence[RunSpec], study_dir: Path) -> None:
    """Refuses a budget that does not hold the runs so far, the first ones that are to come, and the validation.

    Once there was validation, a further one is not asked for: another question may be answered by the same proposal.

    Args:
        config: The study.
        plan: Its search.
        runs: Its sampling runs that are finished, decided on, or first ones that are to come.
        study_dir: Its folder.

    Raises:
        BudgetError: They do not fit; says by how much and what to change.
    """
    assert config.rounds is not None
    budget, sizes = config.rounds.budget_flops, plan.search.sizes
    cheapest = min((s for s in sizes if s.highest is not None), key=lambda s: s.flops)
    if budget < cheapest.flops:
        raise BudgetError(
            f"rounds.budget_flops is {budget:.4g}, less than the cheapest run ({cheapest.flops:.4g} FLOPs, size "
            f"{cheapest.name}). Raise the budget, or add a smaller size."
        )
    validated = validated_flops(study_dir)
    costs = {
        f"{len(runs)} {'first' if not plan.decided else 'first and earlier'} runs": sum(s.flops for s in runs),
        "validation": validated or plan.reserved_flops,
        "tuning, targets and runs with sources that are left out": plan.aside_flops,
    }
    needed = sum(costs.values())
    if needed > budget * (1 + 1e-9):
        parts = ", ".join(f"{what} {flops:.4g}" for what, flops in costs.items() if flops)
        raise BudgetError(
            f"rounds.budget_flops is {budget:.4g}, but the study needs at least {needed:.4g} ({parts}). Raise the "
            "budget, lower rounds.start_mixtures or validation.seeds, take smaller sizes, or set "
            "validation.enabled: false."
        )
