"""A finished search as an Optuna study, so that optuna-dashboard shows it and other samplers can go on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.core.run import stable_hash
from flp_ray.core.surrogate import SearchModel
from flp_ray.propose.answers import expected_at
from flp_ray.propose.goals import Goal
from flp_ray.propose.rounds import Search
from flp_ray.propose.search import journal_storage, parameter_ranges, parameters_of, quiet


def record_search(
    storage: Path, search: Search, model: SearchModel, goal: Goal, runs: Mapping[Mixture, Sequence[str]], found: Mixture
) -> None:
    """Adds the study of one objective: a trial for each mixture that was trained, and for the one that was found.

    A trial's value is what the law of all runs expects of its mixture at the target; the runs stand beside it. A study
    of the same fit is left as it is.

    Args:
        storage: Journal file of the Optuna studies.
        search: What was sought.
        model: The law of all runs.
        goal: The objective.
        runs: Runs by mixture, in words.
        found: The mixture that was found best.
    """
    limits = search.space.bounds
    bounds = [list(limits.sources), list(limits.low), list(limits.high)]
    with quiet():
        study = optuna.create_study(
            study_name=f"{goal.name}-{model.fit_id}-{stable_hash([search.target_flops, bounds], length=6)}",
            storage=journal_storage(storage),
            direction="maximize",
            load_if_exists=True,
        )
        if not study.get_trials(deepcopy=False):
            inside = [m for m in dict.fromkeys([*runs, found]) if limits.contains(m)]
            study.add_trials([_trial(search, m, expected_at(search, model, goal, m), runs.get(m, ())) for m in inside])


def _trial(search: Search, mixture: Mixture, expected: Prediction, runs: Sequence[str]) -> FrozenTrial:
    bounds = search.space.bounds
    distributions: dict[str, BaseDistribution] = {
        name: FloatDistribution(low, high) for name, (low, high) in parameter_ranges(bounds).items()
    }
    told: dict[str, Any] = {"mixture": mixture.as_dict(), "interval": [expected.low, expected.high], "runs": list(runs)}
    return create_trial(
        params=parameters_of(bounds, mixture), distributions=distributions, value=expected.mean, user_attrs=told
    )
