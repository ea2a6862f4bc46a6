"""What a study will train and what that costs, with what its folder already knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from flp_ray.computing import Computing, computing
from flp_ray.config import StudyConfig, describe_runs
from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Experiment
from flp_ray.core.run import RunSpec
from flp_ray.core.text import PreparedText
from flp_ray.core.tuning import Tuning
from flp_ray.data import load_text, text_rate
from flp_ray.design import SearchPlan, plan_search, study_space
from flp_ray.errors import ConfigError
from flp_ray.fit import check_settings
from flp_ray.growth import Growth, growth_since, kept_config
from flp_ray.pinning import read_pin, study_identity
from flp_ray.plan import Cost, RunFactory, Rung, cost, ladder
from flp_ray.plan.ladder import require_size
from flp_ray.propose.space import Space
from flp_ray.store import finished_runs, load_specs, run_states, storage_uri
from flp_ray.tuned import TunedPlan, tuned_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """The runs of a study.

    Attributes:
        config: The study.
        factory: Makes further runs of the study.
        sampling: Runs that are fitted on.
        targets: Runs that are predicted and compared.
        mixtures: Mixtures of the sampling runs.
        target: The size that proposals are made for.
        finished: Ids of all runs of the study's folder that are trained and measured.
        text: The prepared text; None before it is there.
        text_rate: Tokens that one core makes of text a second; None until some is prepared.
        total: What the whole study costs, validation included.
        to_do: What of it is still to be paid.
        computing: How the runs of each size are computed.
        space: Mixtures that may be proposed.
        searched: The search in rounds, as far as it has come; None where the study has a grid alone.
        tuning: Where the sizes' hyperparameters come from, if they are tuned.
        growth: What has changed since the study was last given; None where nothing has, or it is new.
    """

    config: StudyConfig
    factory: RunFactory
    sampling: tuple[RunSpec, ...]
    targets: tuple[RunSpec, ...]
    mixtures: tuple[Mixture, ...]
    target: Rung
    finished: frozenset[str]
    text: PreparedText | None
    text_rate: float | None
    total: Cost
    to_do: Cost
    computing: Computing
    space: Space
    searched: SearchPlan | None = None
    tuning: TunedPlan | None = None
    growth: Growth | None = None

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """All planned runs."""
        return self.sampling + self.targets

    @property
    def target_flops(self) -> float:
        """Training FLOPs of the target size."""
        return self.target.shape.flops(self.target.train_tokens, self.config.text.sequence_length)

    @property
    def totals(self) -> dict[str, Any]:
        """The plan's totals as a JSON value."""
        remaining = [s for s in self.specs if s.run_id not in self.finished]
        runs, hours = _validation_runs(self.config), self.total.wall_hours
        return (
            asdict(self.total)
            | {
                "runs": len(self.specs),
                "remaining_runs": len(remaining),
                "remaining_flops": sum(s.flops for s in remaining),
                "validation_runs": runs,
                "validation_flops": runs * self.target_flops,
                "devices": self.computing.devices,
                "device_memory_bytes": self.config.resources.device_memory_bytes,
                "evaluator_device_hours": hours and hours * self.config.resources.evaluator_devices,
                "price": self.config.resources.dollars_per_device_hour,
                "sizes": self.computing.as_json(self.specs),
            }
            | self._text_totals()
            | self._tuning_totals()
            | self._search_totals()
        )

    def _text_totals(self) -> dict[str, Any]:
        """What making token blocks of the sources takes: as measured on this study's own text, else as stated."""
        stated = [source.tokens for source in self.config.text.sources.values()]
        tokens = None if None in stated else sum(count or 0 for count in stated)
        rate = self.text_rate or self.config.resources.text_tokens_per_core_second
        cores = max(1, int(self.computing.devices * self.config.resources.cpus_per_worker))
        return {
            "text_tokens": None if self.text is not None else tokens,
            "text_cores": cores,
            "text_tokens_per_core_second": rate,
            "text_hours": None if tokens is None or rate is None else tokens / rate / cores / 3600,
        }

    def _search_totals(self) -> dict[str, Any]:
        if self.searched is None or self.config.rounds is None:
            return {}
        planned = self.searched
        return {
            "budget_flops": self.config.rounds.budget_flops,
            "search_flops": max(0.0, planned.search.budget_flops - sum(s.flops for s in self.sampling)),
            "search_ended": planned.ended,
        }

    def _tuning_totals(self) -> dict[str, Any]:
        if self.tuning is None:
            return {}
        trials = self.tuning.missing
        return {
            "tuned": self.tuning.laws is not None,
            "tuning_trials": len(trials),
            "tuning_flops": sum(trial.flops for trial in trials),
        }

    def tuning_view(self, study_dir: Path) -> Tuning | None:
        """The tuning as it is shown, with the values of the sizes that the study trains; None without one."""
        if self.tuning is None:
            return None
        sizes = {spec.size for spec in self.specs}
        rungs = dict.fromkeys([*(rung for size, rung in self.factory.rungs.items() if size in sizes), self.target])
        return self.tuning.view(study_dir, rungs)

    def missing(self, specs: Sequence[RunSpec], finished: set[str]) -> list[RunSpec]:
        """Those of the runs that are not trained yet."""
        return [s for s in specs if s.run_id not in finished]

    def validation(self, experiments: Sequence[Experiment]) -> tuple[RunSpec, ...]:
        """The runs that validate proposals: each mixture once a seed, a mixture that comes twice once.

        With two seeds and more the best known mixtures are trained as well. A seed that would repeat one of the
        sampling or target runs is passed over where the study file gives a number, so that all runs are fresh.

        Args:
            experiments: Proposals with what they are held against.
        """
        settings = self.config.validation
        if not settings.enabled:
            return ()
        known = {run.run_id for run in self.specs}
        runs: dict[str, RunSpec] = {}
        for experiment in experiments:
            mixtures = [experiment.proposal.mixture]
            if settings.both_sides and experiment.best_known is not None:
                mixtures.append(experiment.best_known)
            for mixture in mixtures:
                made = (
                    self.factory.run(
                        experiment.proposal.size,
                        mixture,
                        "validation",
                        seed,
                        train_tokens=experiment.proposal.train_tokens,
                    )
                    for seed in settings.candidates(self.config.seed)
                )
                fresh = (run for run in made if isinstance(settings.seeds, list) or run.run_id not in known)
                runs |= {run.run_id: run for run in islice(fresh, settings.trainings)}
        return tuple(runs.values())

    def as_json(self) -> dict[str, Any]:
        """The plan as `flp-ray plan --json` prints it."""
        growth = None if self.growth is None else self.growth.as_json()
        return {
            "study": self.config.study,
            "runs": describe_runs(self.specs),
            "totals": self.totals,
            "growth": growth,
        }


def make_plan(config: StudyConfig, study_dir: Path) -> StudyPlan:
    """Plans a study; starts nothing and writes nothing.

    Args:
        config: The study.
        study_dir: Its folder, which may not exist yet.

    Raises:
        ConfigError: Sizes, sources or mixtures do not fit together.
    """
    rungs = ladder(config.ladder)
    sizes = tuple(size for size in rungs if config.ladder.sizes is None or size in config.ladder.sizes)
    target = require_size(rungs, config.search.target_size or sizes[-1], "search.target_size")
    if config.search.target_tokens is not None:
        target = replace(target, train_tokens=config.search.target_tokens)
    factory = RunFactory(
        rungs=rungs,
        sizes=sizes,
        sources=config.sources,
        vocabulary=config.text.tokenizer.vocabulary,
        sequence_length=config.text.sequence_length,
        recipe=config.training.recipe(),
        text=study_identity(config, read_pin(study_dir)),
        seed=config.seed,
    )
    text = load_text(study_dir / "text", local=storage_uri(study_dir) is None)
    factory, tuning = tuned_plan(config, factory, study_dir)
    check_settings(config.fit)
    validation_runs = _validation_runs(config)
    tokens = {
        source: text.sources[source].tokens if text and source in text.sources else stated.tokens
        for source, stated in config.text.sources.items()
    }
    space = study_space(config, target, tokens)
    trial_flops = sum(trial.flops for trial in tuning.trials) if tuning else 0.0
    searched = plan_search(
        config, factory, target, tokens, study_dir, validation_runs=validation_runs, tuning_flops=trial_flops
    )
    targets = factory.targets(config.grid) if config.grid is not None else ()
    if searched is not None:
        sampling = searched.sampling(factory)
    else:
        assert config.grid is not None, "a study has a grid or rounds"
        sampling = factory.sampling(config.grid)
    mixtures = tuple(dict.fromkeys(s.mixture for s in sampling))
    both = {s.run_id for s in sampling} & {s.run_id for s in targets}
    for twice in (s for s in targets if s.run_id in both):
        raise ConfigError(
            f"grid.targets names size {twice.size} at {twice.mixture}, which is a run of the grid too; a target "
            "must not be fitted on. Take it out of one of them."
        )
    one = factory.run(target.size, mixtures[0], "validation", train_tokens=target.train_tokens)
    trials, missing_trials = (tuning.trials, tuning.missing) if tuning else ((), ())
    searchable = [factory.run(size, mixtures[0], "sampling") for size in factory.sizes]
    computed = computing([*sampling, *targets, one, *searchable, *trials], config.resources, study_dir)

    def bill(specs: Sequence[RunSpec], text_tokens: Mapping[str, int | None]) -> Cost:
        return cost(
            specs,
            workers=computed.workers,
            devices=computed.devices,
            flops_per_s_per_device=computed.rates,
            source_tokens=text_tokens,
            measurements_per_checkpoint=1 + len(config.text.domains) + 2 * len(config.measure.tasks),
            dollars_per_device_hour=config.resources.dollars_per_device_hour,
        )

    finished = frozenset(finished_runs(study_dir))
    # Validation is trained at mixtures that nobody knows yet; what it costs hangs on the size alone.
    validated = sum(s.run_id in finished for s in load_specs(study_dir, "validation"))
    validation, before = [one] * validation_runs, kept_config(study_dir)
    missing = [s for s in sampling + targets if s.run_id not in finished] + validation[validated:]
    return StudyPlan(
        config=config,
        factory=factory,
        sampling=sampling,
        targets=targets,
        mixtures=mixtures,
        target=target,
        finished=finished,
        text=text,
        text_rate=text_rate(study_dir / "text"),
        total=bill([*trials, *sampling, *targets, *validation], tokens),
        to_do=bill([*missing_trials, *missing], dict.fromkeys(tokens) if text else tokens),
        computing=computed,
        space=space,
        searched=searched,
        tuning=tuning,
        growth=growth_since(
            before,
            config,
            planned=sampling + targets,
            recorded={state.run_id: state.purpose for state in run_states(study_dir)},
            finished=finished,
        )
        if before
        else None,
    )


def _validation_runs(config: StudyConfig) -> int:
    """Most runs that validation can take: a proposal for each objective, and what each is held against."""
    settings = config.validation
    sides = 2 if settings.both_sides else 1
    return len(config.search.objective_names) * sides * settings.trainings if settings.enabled else 0
