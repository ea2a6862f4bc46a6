"""The full grid: every mixture of a lattice at every size of the ladder, read by FLP-M (the paper's way).

Two sources: the paper's own design, six sizes (0.12B to 1B) at code ratios 0, 0.1 .. 0.5 and one 3B at 0.3, 37 runs
and one answer. Five sources: the paper has no such design; ours is the lattice of whole corners with the even mixture
(36 runs), then of halves (96 runs), at the same six sizes. An answer is given where a grid is complete: half a grid
is no design.

Reference: Chen et al. 2024, section 5. The fit is `flp_ray.fit.fit_surrogate` with 16 members; the answer is the
highest predicted mean at the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Records
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit import FitSettings, fit_surrogate
from flp_ray.synthetic import PlantedSize, paper_size, two_source_mixtures
from tests.benchmarks.search.highest import even, highest, mixture_of
from tests.benchmarks.search.problem import Answer, Problem, join

LARGEST = "1B"
"""Largest size of the grid."""

MEMBERS = 16

UNITS = (1, 2)
"""Steps of the lattices over more than two sources: 1, 1/2; each holds the one before."""

TWO_SOURCE_RATIOS = 6
"""Code ratios of the paper's design: 0, 0.1 .. 0.5."""


def full_grid(problem: Problem, seed: int) -> Iterator[Answer | None]:
    """Grids from coarse to fine; one answer after each."""
    ladder = [s for s in problem.sizes if s.flops <= paper_size(LARGEST).flops]
    parts: list[Records] = []
    for mixtures, extra in _grids(problem):
        runs = [(size, m) for size in ladder for m in mixtures] + extra
        parts += [problem.pay(mixture, size, seed=0) for size, mixture in runs]
        yield _answer(problem, join(*dict.fromkeys(parts)), seed)


def _answer(problem: Problem, records: Records, seed: int) -> Answer | None:
    try:
        fitted = fit_surrogate(records, FitSettings(members=MEMBERS, seed=seed))
        if not fitted.weights.any():
            return None
    except NotEnoughDataError:
        return None
    flops = problem.target.flops
    return Answer(mixture=highest(lambda ratios: fitted.surface(ratios, flops).objective[0], problem.bounds))


def _grids(problem: Problem) -> Iterator[tuple[Sequence[Mixture], list[tuple[PlantedSize, Mixture]]]]:
    first, *others = problem.sources
    if len(others) == 1:
        highest_ratio = problem.bounds.high[0]
        extra = [(paper_size("3B"), two_source_mixtures(first, others[0], [0.3])[0])]
        ratios = np.linspace(0, highest_ratio, TWO_SOURCE_RATIOS).round(6).tolist()
        yield two_source_mixtures(first, others[0], ratios), extra
        return
    for units in UNITS:
        rows = [*_lattice(len(problem.sources), units), even(problem.bounds)]
        yield [mixture_of(problem.bounds, np.asarray(row)) for row in rows], []


def _lattice(sources: int, units: int) -> list[tuple[float, ...]]:
    """All ratios in steps of 1 / units: the ways to put bars between units."""
    found = []
    for bars in combinations(range(units + sources - 1), sources - 1):
        edges = (-1, *bars, units + sources - 1)
        found.append(tuple((b - a - 1) / units for a, b in pairwise(edges)))
    return found
