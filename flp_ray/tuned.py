"""Where a study's learning rates, batches, weight decay and warm-up come from when they are tuned.

Trials are trained at small sizes, the laws through their optima give every size of the ladder its values, and these
stand still for the study's folder once a run has begun: they name the runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flp_ray.config import StudyConfig
from flp_ray.core.run import RunSpec
from flp_ray.core.tuning import Carried, Tuning
from flp_ray.errors import ConfigError
from flp_ray.plan import RunFactory, Rung
from flp_ray.plan.grid import full_mixture
from flp_ray.plan.ladder import require_size
from flp_ray.store import load_tuned, load_tunings, run_states
from flp_ray.tune import TunedLaws, TuningConfig, design_trials, settings_id

DIGITS = 3
"""Significant digits of a carried value: more are not known, and the last bits must not name a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedPlan:
    """The tuning of a study.

    Attributes:
        config: Its settings.
        trials: Its trials.
        missing: Those that are still to be trained; at most, since some will be stopped early.
        laws: What it has found; None before.
        factory: Makes runs with the stated values.
    """

    config: TuningConfig
    trials: tuple[RunSpec, ...]
    missing: tuple[RunSpec, ...]
    laws: TunedLaws | None
    factory: RunFactory

    def view(self, study_dir: Path, rungs: Iterable[Rung]) -> Tuning:
        """The tuning as it is shown.

        Args:
            study_dir: The study's folder.
            rungs: Sizes and tokens whose values are shown.
        """
        ids, laws = {trial.run_id for trial in self.trials}, self.laws
        return Tuning(
            trials=self.trials,
            reports=tuple(report for report in load_tunings(study_dir) if report.run_id in ids),
            optima=laws.optima if laws else (),
            carried=tuple(c for rung in rungs for c in carry(rung, laws, self.factory)[1]) if laws else (),
            formulas=tuple((law.parameter, law.formula) for law in laws.laws) if laws else (),
            notes=laws.notes if laws else (),
        )


def tuned_plan(config: StudyConfig, factory: RunFactory, study_dir: Path) -> tuple[RunFactory, TunedPlan | None]:
    """The factory with tuned values in place of the stated ones, where the study tunes and has tuned.

    Args:
        config: The study.
        factory: Makes runs with the stated values.
        study_dir: The study's folder.

    Returns:
        The factory, unchanged as long as the laws are not known, and the tuning; None where the study has none.

    Raises:
        ConfigError: A tuned size or source is unknown, a training is too short for its rungs, or the section tuning
            has changed after runs have begun.
    """
    settings = config.tuning
    if settings is None:
        return factory, None
    trials = _trials(config, settings, factory)
    laws = _laws(settings, trials, study_dir)
    over = {
        report.run_id
        for report in load_tunings(study_dir)
        for trial in trials
        if report.run_id == trial.run_id and report.ends(trial.train_tokens)
    }
    plan = TunedPlan(
        config=settings,
        trials=laws.trials if laws else trials,
        missing=() if laws else tuple(trial for trial in trials if trial.run_id not in over),
        laws=laws,
        factory=factory,
    )
    return (replace(factory, tuned=lambda rung: carry(rung, laws, factory)[0]) if laws else factory), plan


def _trials(config: StudyConfig, settings: TuningConfig, factory: RunFactory) -> tuple[RunSpec, ...]:
    share = 1 / len(config.sources)
    stated = settings.mixture or dict.fromkeys(config.sources, share)
    mixture = full_mixture(stated, config.sources, "tuning.mixture")
    trials: list[RunSpec] = []
    for size in settings.sizes:
        require_size(factory.rungs, size, "tuning.sizes")
        trials += design_trials(factory.run(size, mixture, "sampling"), settings, seed=config.seed)
    return tuple(trials)


def _laws(settings: TuningConfig, trials: tuple[RunSpec, ...], study_dir: Path) -> TunedLaws | None:
    """The stored laws, as long as they are those of this study; None where it is to be tuned anew."""
    stored = load_tuned(study_dir)
    if stored is None:
        return None
    laws, begun = TunedLaws.from_dict(stored), any(run.attempts for run in run_states(study_dir))
    if laws.settings != settings_id(settings):
        if begun:
            raise ConfigError(
                f"The section tuning differs from what the learning rates of the runs in {study_dir} were tuned with. "
                "Runs have begun with them, so they stand still. Restore the section (study.yaml in that folder holds "
                "it), or give another --study-dir."
            )
        return None
    same = {trial.run_id for trial in laws.trials} == {trial.run_id for trial in trials}
    return laws if same or begun else None


def carry(rung: Rung, laws: TunedLaws, factory: RunFactory) -> tuple[Rung, list[Carried]]:
    """One size with its tuned values at its tokens, and these with their intervals.

    Args:
        rung: The size as stated.
        laws: What was tuned.
        factory: Makes runs with the stated values.
    """
    made, values = rung, []
    tuned = {(optimum.size, optimum.train_tokens) for optimum in laws.optima}
    stated = {
        "learning_rate": rung.learning_rate,
        "batch_sequences": rung.batch_sequences,
        "weight_decay": factory.recipe.weight_decay,
        "warmup_fraction": factory.recipe.warmup_fraction,
    }
    for law in laws.laws:
        value, low, high = law.at(rung.shape.non_embedding_params, rung.train_tokens)
        value = float(f"{value:.{DIGITS - 1}e}")
        if law.parameter == "batch_sequences":
            value = min(max(1, round(value)), rung.train_tokens // factory.sequence_length)
        if law.parameter == "warmup_fraction":
            value, low, high = min(value, 1.0), min(low, 1.0), min(high, 1.0)
        changes: dict[str, Any] = {law.parameter: value}
        made = replace(made, **changes)
        values.append(
            Carried(
                parameter=law.parameter,
                size=rung.size,
                train_tokens=rung.train_tokens,
                value=value,
                low=low,
                high=high,
                tuned=(rung.size, rung.train_tokens) in tuned,
                stated=stated[law.parameter],
            )
        )
    return made, values
