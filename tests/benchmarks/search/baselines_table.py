"""The regressions alone, on RegMix's table: which ranks Pile-CC at 60M best from how few runs at 1M?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.gaussian_process import GaussianProcess, fit_gaussian_process
from tests.benchmarks.search.boosting import fit_boosting
from tests.benchmarks.search.log_linear import fit_log_linear
from tests.benchmarks.search.regmix_table import Ranking, TableProblem

Array = NDArray[Any]

STEP, LATER_STEP, LATER = 8, 16, 128
"""Runs between two answers; in random order fewer answers once so many runs are paid, for time."""

FIRST = 24
"""Runs before the Gaussian process picks by its variance; so many are drawn at random."""

Fit = Callable[[Array, Array], Callable[[Array], Array]]


def boosting_random(problem: TableProblem, seed: int) -> Iterator[Ranking | None]:
    """RegMix's LightGBM on runs in random order."""
    yield from _random_order(problem, seed, lambda x, y: fit_boosting(x, y).predict)


def log_linear_random(problem: TableProblem, seed: int) -> Iterator[Ranking | None]:
    """Olmix's log-linear law on runs in random order."""
    yield from _random_order(problem, seed, lambda x, y: fit_log_linear(x, y).predict)


def process_random(problem: TableProblem, seed: int) -> Iterator[Ranking | None]:
    """A Gaussian process (Matern 5/2, one length scale a source) of the log loss on cube roots of the ratios."""
    yield from _random_order(problem, seed, lambda x, y: _mean_of(_process(x, y)))


def process_variance(problem: TableProblem, seed: int) -> Iterator[Ranking | None]:
    """The same process, which takes the runs that it is least sure of, one after the other (8 between two fits)."""
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(problem.pool))[:FIRST].tolist()
    losses = [problem.pay(i)[problem.domain] for i in chosen]
    while True:
        process = _process(problem.pool[chosen], np.array(losses))
        yield Ranking(model=_mean_of(process))
        if len(chosen) == len(problem.pool):
            return
        for _ in range(min(STEP, len(problem.pool) - len(chosen))):
            left = np.setdiff1d(np.arange(len(problem.pool)), chosen)
            unsure = process.predict(np.cbrt(problem.pool[left]), noisy=False)[1]
            taken = int(left[np.argmax(unsure)])
            chosen.append(taken)
            losses.append(problem.pay(taken)[problem.domain])
            process = _conditioned(process, problem.pool[chosen], np.array(losses))


def _random_order(problem: TableProblem, seed: int, fit: Fit) -> Iterator[Ranking | None]:
    order = np.random.default_rng(seed).permutation(len(problem.pool))
    losses: list[float] = []
    steps = (*range(STEP, LATER, STEP), *range(LATER, len(order), LATER_STEP))
    for number in sorted({*(n for n in steps if n < len(order)), len(order)}):
        losses += [problem.pay(int(i))[problem.domain] for i in order[len(losses) : number]]
        if number < FIRST:
            yield None
            continue
        yield Ranking(model=fit(problem.pool[order[:number]], np.array(losses)))


def _process(ratios: Array, losses: Array) -> GaussianProcess:
    return fit_gaussian_process(np.cbrt(ratios), np.log(losses))


def _conditioned(process: GaussianProcess, ratios: Array, losses: Array) -> GaussianProcess:
    """The process with one more run and the hyperparameters that it has."""
    return GaussianProcess.of(
        np.cbrt(ratios),
        np.log(losses),
        length_scales=process.length_scales,
        signal=process.signal,
        noise=process.noise,
        noise_factors=np.append(process.noise_factors, 1.0),
    )


def _mean_of(process: GaussianProcess) -> Callable[[Array], Array]:
    return lambda ratios: process.predict(np.cbrt(ratios))[0]
