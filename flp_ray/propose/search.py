"""A fitted surrogate -> the mixtures worth training: one Optuna study an objective, ask and tell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction, Proposal
from flp_ray.core.run import stable_hash
from flp_ray.core.surrogate import Surrogate, SurrogatePrediction
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.goals import MEAN
from flp_ray.propose.lattice import Lattice, Units
from flp_ray.propose.simplex import Bounds, to_cube, to_mixture
from flp_ray.propose.space import search_lattice

BATCH = 20
"""Trials asked for at once: the surrogate answers many mixtures nearly as fast as one."""


def propose(
    surrogate: Surrogate,
    *,
    sources: Sequence[str],
    size: str,
    train_tokens: int,
    flops: float,
    config: SearchConfig,
    storage: Path | None,
    seed: int,
    known: Sequence[Mixture] = (),
    lattice: Lattice | None = None,
) -> tuple[Proposal, ...]:
    """Seeks the best mixture for every objective on the surrogate.

    Given again with the same fit, target and bounds, it goes on where the study in `storage` stands; a study
    with all its trials answers at once. Objectives that cannot be predicted are left out:
    `skipped_objectives` names them with the reason.

    Args:
        surrogate: The fit.
        sources: Sources of the study.
        size: Name of the target size.
        train_tokens: Tokens to train it for.
        flops: FLOPs of that training.
        config: Objectives, sampler, trials, step and bounds.
        storage: Journal file of the Optuna studies (optuna-dashboard opens it); None keeps them in memory.
        seed: Seed of the sampler.
        known: Mixtures of the grid; tried first, beside the corners.
        lattice: Mixtures that may be proposed; by default what the bounds allow, whatever text there is.

    Raises:
        ConfigError: An objective is unknown, the bounds are infeasible.
        NotEnoughDataError: None of the objectives can be predicted.
    """
    skipped = skipped_objectives(surrogate, config)
    wanted = [o for o in config.objective_names if o not in skipped]
    lattice = lattice or search_lattice(config, sources)
    if not wanted:
        reasons = " ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise NotEnoughDataError(f"No mixture can be proposed: no objective can be predicted. {reasons}")
    made = []
    with quiet():
        backend = journal_storage(storage)
        for objective in wanted:
            study = optuna.create_study(
                study_name=study_name(surrogate, objective, lattice.bounds, flops, config),
                storage=backend,
                direction="maximize",
                load_if_exists=True,
            )
            _search(study, surrogate, objective, lattice.bounds, flops, config, seed, known)
            units, found = _polished(study, surrogate, objective, lattice, flops)
            made.append((objective, lattice.mixture(units), found))
    return tuple(
        Proposal(
            objective=objective,
            mixture=mixture,
            size=size,
            train_tokens=train_tokens,
            flops=flops,
            expected=_objective(found, objective),
            performance=found.performance,
            domain_loss=found.domain_loss,
            fit_id=surrogate.fit_id,
        )
        for objective, mixture, found in made
    )


def skipped_objectives(surrogate: Surrogate, config: SearchConfig) -> dict[str, str]:
    """Objectives that the surrogate cannot predict, with the reason in words.

    Raises:
        ConfigError: An objective is neither `mean` nor a task.
    """
    names = [MEAN, *surrogate.tasks, *surrogate.not_emerged]
    skipped = {}
    for objective in config.objective_names:
        if objective not in names:
            near = get_close_matches(objective, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"search.objectives names {objective!r}, which is neither a task nor {MEAN!r}. "
                f"Known: {', '.join(names)}.{hint}"
            )
        if objective in surrogate.not_emerged and objective != MEAN:
            skipped[objective] = surrogate.not_emerged[objective]
        elif objective == MEAN and not surrogate.tasks:
            skipped[objective] = "no task has emerged"
    return skipped


def study_name(surrogate: Surrogate, objective: str, bounds: Bounds, flops: float, config: SearchConfig) -> str:
    """Name of the Optuna study: objective, fit, and a hash of what else decides the values of its trials."""
    rest = stable_hash([flops, list(bounds.sources), list(bounds.low), list(bounds.high), config.sampler], length=6)
    return f"{objective}-{surrogate.fit_id}-{rest}"


def journal_storage(storage: Path | None) -> BaseStorage:
    """The Optuna studies in a journal file, which optuna-dashboard opens; None keeps them in memory."""
    if storage is None:
        return InMemoryStorage()
    storage.parent.mkdir(parents=True, exist_ok=True)
    _cut_torn_line(storage)
    return JournalStorage(JournalFileBackend(str(storage)))


def _cut_torn_line(journal: Path) -> None:
    """Removes an unfinished last line, which a process that died while writing leaves and Optuna cannot read past."""
    if not journal.exists() or (size := journal.stat().st_size) == 0:
        return
    with journal.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n", 0, size) + 1)


def _search(
    study: optuna.Study,
    surrogate: Surrogate,
    objective: str,
    bounds: Bounds,
    flops: float,
    config: SearchConfig,
    seed: int,
    known: Sequence[Mixture],
) -> None:
    """Asks, evaluates and tells in batches until the study has all its trials.

    A batch is worked on in memory and added to the stored study once it is answered: a killed process leaves
    no unanswered trials behind, and a journal on disk is flushed once a trial instead of five times.
    """
    working = optuna.create_study(study_name=study.study_name, direction="maximize")
    working.add_trials(study.get_trials(deepcopy=False))
    done = len(working.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    for mixture in _baselines(bounds, known)[done:]:
        working.enqueue_trial(parameters_of(bounds, mixture))
    while done < config.trials:
        # A sampler for each batch, seeded by the trials there are: a study that was interrupted goes on as it
        # would have.
        working.sampler = _sampler(config.sampler, seed + done)
        trials = [working.ask() for _ in range(min(BATCH, config.trials - done))]
        mixtures = [_suggested(trial, bounds) for trial in trials]
        answered = []
        for trial, mixture, predicted in zip(trials, mixtures, surrogate.predict(mixtures, flops), strict=True):
            value = _objective(predicted, objective)
            trial.set_user_attr("mixture", mixture.as_dict())
            trial.set_user_attr("interval", [value.low, value.high])
            answered.append(working.tell(trial, value.mean))
        study.add_trials(answered)
        done += len(trials)


def _polished(
    study: optuna.Study, surrogate: Surrogate, objective: str, lattice: Lattice, flops: float
) -> tuple[Units, SurrogatePrediction]:
    """The best trial put on the lattice, then improved one step at a time until no neighbour is better."""
    best = Mixture.of(study.best_trial.user_attrs["mixture"])
    units = lattice.nearest(best)
    prediction = surrogate.predict([lattice.mixture(units)], flops)[0]
    while near := lattice.neighbours(units):
        answers = surrogate.predict([lattice.mixture(n) for n in near], flops)
        values = [_objective(a, objective).mean for a in answers]
        top = max(range(len(near)), key=values.__getitem__)
        # Below a rounding error a gain is none; without this, equal mixtures could take turns for ever.
        if values[top] <= _objective(prediction, objective).mean + 1e-12:
            break
        units, prediction = near[top], answers[top]
    return units, prediction


def _baselines(bounds: Bounds, known: Sequence[Mixture]) -> list[Mixture]:
    """The grid's mixtures within the bounds, then the corners, each once."""
    made: list[Mixture] = []
    for mixture in [*known, *(bounds.corner(s) for s in bounds.sources)]:
        whole = Mixture.of({s: mixture.ratio(s) for s in bounds.sources}) if bounds.contains(mixture) else None
        if whole is not None and whole not in made:
            made.append(whole)
    return made


def parameter_ranges(bounds: Bounds) -> dict[str, tuple[float, float]]:
    """Range of each parameter of a trial: a ratio where there are two sources, else sticks of the unit cube."""
    if len(bounds.sources) == 2:
        return {f"ratio.{bounds.sources[0]}": _interval(bounds)}
    return {f"stick.{s}": (0.0, 1.0) for s in bounds.sources[:-1]}


def parameters_of(bounds: Bounds, mixture: Mixture) -> dict[str, float]:
    """The parameters of a mixture within bounds."""
    if len(bounds.sources) == 2:
        source = bounds.sources[0]
        low, high = _interval(bounds)
        return {f"ratio.{source}": min(max(mixture.ratio(source), low), high)}
    return {
        f"stick.{s}": min(max(u, 0.0), 1.0) for s, u in zip(bounds.sources[:-1], to_cube(bounds, mixture), strict=True)
    }


def _suggested(trial: optuna.Trial, bounds: Bounds) -> Mixture:
    values = [trial.suggest_float(name, *ends) for name, ends in parameter_ranges(bounds).items()]
    if len(bounds.sources) == 2:
        return Mixture.of({bounds.sources[0]: values[0], bounds.sources[1]: 1 - values[0]})
    return to_mixture(bounds, values)


def _interval(bounds: Bounds) -> tuple[float, float]:
    """Of two sources, the first one's ratios that keep both sources' bounds."""
    low, high = max(bounds.low[0], 1 - bounds.high[1]), min(bounds.high[0], 1 - bounds.low[1])
    return low, max(low, high)


def _objective(predicted: SurrogatePrediction, objective: str) -> Prediction:
    return predicted.objective if objective == MEAN else predicted.performance[objective]


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=10, deterministic_objective=True)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=10, multivariate=True, constant_liar=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Optuna's progress lines and its notices of experimental arguments, while we use it."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
