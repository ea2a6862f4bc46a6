"""Baselines that know nothing of size: every run is a run of the target itself, and the best measured one is taken.

Mixtures come from the unit cube by `flp_ray.propose.simplex` (uniform on the simplex within the bounds), so that
every one of them searches the same space. The score of a run is what its evaluation says, noise included; nobody
repeats a run. That is how these samplers are used on trainings, and it is our reading, not a claim of theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from scipy.stats import qmc

from flp_ray.core.mixture import Mixture
from flp_ray.propose.simplex import to_mixture
from tests.benchmarks.search.highest import even, mixture_of
from tests.benchmarks.search.problem import Answer, Problem, final_scores

FIRST_RANDOM = 4
"""Runs that TPE and the Gaussian process draw at random before they model; their own 10 would be half the cap."""


def measured_mean(problem: Problem, mixture: Mixture, seed: int) -> float:
    """Pays for a run of the target; its measured mean over the tasks, 0 to 1."""
    scores = final_scores(problem.pay(mixture, problem.target, seed, checkpoints=1))
    return float(np.mean(list(scores.values())))


def even_mixture(problem: Problem, seed: int) -> Iterator[Answer | None]:
    """No search at all: the middle of the bounds, at no cost. What a lucky guess is worth."""
    yield Answer(mixture=mixture_of(problem.bounds, even(problem.bounds)))


def random_search(problem: Problem, seed: int) -> Iterator[Answer | None]:
    """Uniform draws from the simplex; the best measured one."""
    generator = np.random.default_rng(seed)
    dimensions = len(problem.sources) - 1
    yield from _best_measured(problem, lambda _: generator.random(dimensions).tolist())


def sobol_search(problem: Problem, seed: int) -> Iterator[Answer | None]:
    """A scrambled Sobol sequence; the best measured one. Reference: scipy.stats.qmc.Sobol (Owen scrambling)."""
    sequence = qmc.Sobol(len(problem.sources) - 1, scramble=True, rng=seed).random(64)
    yield from _best_measured(problem, lambda number: sequence[number].tolist())


def tpe_search(problem: Problem, seed: int) -> Iterator[Answer | None]:
    """Optuna's tree-structured Parzen estimator on the cube, multivariate.

    Reference: Bergstra et al. 2011; optuna.samplers.TPESampler, its defaults but for the number of first draws.
    """
    yield from _optuna(problem, TPESampler(seed=seed, n_startup_trials=FIRST_RANDOM, multivariate=True))


def gp_search(problem: Problem, seed: int) -> Iterator[Answer | None]:
    """Optuna's Gaussian process with log expected improvement on the cube; it fits the noise of the scores.

    Reference: optuna.samplers.GPSampler, its defaults but for the number of first draws and `deterministic_objective`
    (False: scores are noisy, which is its default too).
    """
    yield from _optuna(problem, GPSampler(seed=seed, n_startup_trials=FIRST_RANDOM, deterministic_objective=False))


def _optuna(problem: Problem, sampler: BaseSampler) -> Iterator[Answer | None]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space = {f"cube{k}": FloatDistribution(0.0, 1.0) for k in range(len(problem.sources) - 1)}
    number = 0
    while True:
        with warnings.catch_warnings():  # notes on experimental parts and a faster optional library
            warnings.simplefilter("ignore")
            trial = study.ask(space)
            mixture = to_mixture(problem.bounds, [trial.params[name] for name in space])
            study.tell(trial, measured_mean(problem, mixture, number))
        best = study.best_trial
        yield Answer(mixture=to_mixture(problem.bounds, [best.params[name] for name in space]))
        number += 1


def _best_measured(problem: Problem, point: Callable[[int], list[float]]) -> Iterator[Answer | None]:
    best, value, number = None, -np.inf, 0
    while True:
        mixture = to_mixture(problem.bounds, point(number))
        measured = measured_mean(problem, mixture, number)
        if measured > value:
            best, value = mixture, measured
        assert best is not None
        yield Answer(mixture=best)
        number += 1
