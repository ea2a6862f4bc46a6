"""Trials of all tuned sizes -> optima, and one law a hyperparameter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.core.tuning import Optimum, TrialReport
from flp_ray.errors import NotEnoughDataError
from flp_ray.tune.config import TuningConfig
from flp_ray.tune.law import ParameterLaw, fit_law
from flp_ray.tune.optimum import find_optima, trial_losses

UNDECIDED = 0.2
"""A standard error above this share of the searched range says little; that of no knowledge at all is 0.29."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedLaws:
    """What a tuning has found.

    Attributes:
        settings: Identity of the settings that were tuned with (`settings_id`).
        trials: The trials.
        optima: The optimum of every hyperparameter at every tuned size.
        laws: One a hyperparameter.
        notes: What a reader should know, one sentence each.
    """

    settings: str
    trials: tuple[RunSpec, ...]
    optima: tuple[Optimum, ...]
    laws: tuple[ParameterLaw, ...]
    notes: tuple[str, ...]

    @property
    def law_id(self) -> str:
        """Hash of the settings, the trials and what they gave."""
        return stable_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """A JSON value that `from_dict` reads back."""
        return {
            "settings": self.settings,
            "trials": [trial.to_dict() for trial in self.trials],
            "optima": [asdict(optimum) for optimum in self.optima],
            "laws": [law.to_dict() for law in self.laws],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TunedLaws:
        """Reads what `to_dict` wrote."""
        return cls(
            settings=value["settings"],
            trials=tuple(RunSpec.from_dict(trial) for trial in value["trials"]),
            optima=tuple(Optimum(**optimum) for optimum in value["optima"]),
            laws=tuple(ParameterLaw.from_dict(law) for law in value["laws"]),
            notes=tuple(value["notes"]),
        )


def settings_id(config: TuningConfig) -> str:
    """Identity of the settings of a tuning."""
    return stable_hash(config.model_dump(mode="json"))


def fit_tuning(trials: Sequence[RunSpec], reports: Sequence[TrialReport], config: TuningConfig) -> TunedLaws:
    """The optima of all tuned sizes and the laws through them.

    Args:
        trials: The trials of all sizes.
        reports: What became of them.
        config: The tuning.

    Raises:
        NotEnoughDataError: A size has too few trials that did not diverge or fail.
    """
    optima: list[Optimum] = []
    diverged = Counter(report.size for report in reports if report.event == "diverged")
    least = 1 + 2 * len(config.parameters)
    for size in config.sizes:
        losses = trial_losses([trial for trial in trials if trial.size == size], reports, config)
        if len(losses) < least:
            raise NotEnoughDataError(
                f"Size {size} has {len(losses)} trials with a loss ({diverged[size]} diverged), too few to show an "
                f"optimum of {', '.join(config.parameters)}: {least} are needed. Lower the upper ends in the section "
                "tuning, or raise tuning.trials."
            )
        optima += find_optima(losses, config, diverged=diverged[size])
    laws = tuple(fit_law([o for o in optima if o.parameter == name]) for name in config.parameters)
    return TunedLaws(
        settings=settings_id(config),
        trials=tuple(trials),
        optima=tuple(optima),
        laws=laws,
        notes=tuple(_notes(optima, config)),
    )


def _notes(optima: Sequence[Optimum], config: TuningConfig) -> Iterator[str]:
    for optimum in optima:
        if optimum.edge is not None:
            yield (
                f"The best {optimum.parameter} of size {optimum.size} lies at the {optimum.edge} end of the range "
                f"that was searched ({optimum.value:.3g}) or beyond it; widen tuning.{optimum.parameter}."
            )
        low, high = config.bounds(optimum.parameter)
        if optimum.edge is None and optimum.log_stderr > UNDECIDED * math.log(high / low):
            yield (
                f"The trials of size {optimum.size} hardly tell which {optimum.parameter} is best; raise tuning.trials "
                f"or leave it out of tuning."
            )
    if len(config.sizes) == 1:
        yield (
            f"One size ({config.sizes[0]}) is tuned, so how optima move with size and tokens is taken from published "
            "work alone; tune a second size to see it here."
        )
