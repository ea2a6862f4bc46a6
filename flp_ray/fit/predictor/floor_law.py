"""Loss in parameters and tokens, with a floor: A / N^a + B / D^b + E, by variable projection.

Notation (Hoffmann et al. 2022, approach 3)
    N  parameters    D  training tokens    L  loss (nats per token), or bits per byte
    a, b  exponents of both               A, B  what is reducible by each, at the runs' geometric mean
    E     floor

Given (a, b), the three amounts are the solution of a small non-negative least squares problem in relative
residuals, so the search is over the two exponents alone: a grid, refined around its best point. No start is
bad, and all series and all members of an ensemble are solved at once.

A few runs do not tell the floor from the exponents, so all of them have weak priors: exponents around
Hoffmann's (0.34 and 0.28), the floor around half of the lowest loss seen and no more than his 1.69 nats, and
both reducible amounts alike. Each member of an ensemble but the first draws the centres of its priors, so the
spread of the members tells what the runs leave open.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.predictor.runs import Queries

EXPONENTS = np.log([0.34, 0.30])
"""Centres of the priors of (a, b): about Hoffmann et al. 2022, approach 3."""

EXPONENT_SPREAD = 0.5
"""Standard deviation of log a and log b: published fits lie between 0.2 and 0.5."""

FLOOR_SHARE, FLOOR_SPREAD = 0.55, 0.15
"""Floor as a share of the lowest value seen, and its standard deviation."""

HIGHEST_FLOOR = 1.7
"""The floor's centre is not above this (nats per token): small models are far above the entropy of text."""

SPLIT_SPREAD = 0.3
"""Standard deviation of A - B as a share of the lowest value: neither size nor tokens reduce all alone."""

RESIDUAL = 0.01
"""Relative residual that weighs as much as one standard deviation of a prior."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloorLaw:
    """The fitted law of S series and M members.

    Attributes:
        centre: Natural logarithms of the runs' geometric mean N and D, (2,).
        exponents: a and b, (M, S, 2).
        amounts: A, B and E in the unit of the series, (M, S, 3).
    """

    centre: Array
    exponents: Array
    amounts: Array

    def members(self, queries: Queries) -> Array:
        """Every member's value, (M, n, S)."""
        x = np.log(np.stack([queries.params, queries.tokens], axis=1)) - self.centre
        reduced = np.exp(-x[None, :, None, :] * self.exponents[:, None])
        parts: Array = (reduced * self.amounts[:, None, :, :2]).sum(axis=-1)
        return parts + self.amounts[:, None, :, 2]

    def describe(self, series: int) -> dict[str, float]:
        """The numbers of one series by name, of the fit to all runs."""
        (a, b), (n, d, floor) = self.exponents[0, series], self.amounts[0, series]
        return {
            "A": float(n * np.exp(a * self.centre[0])),
            "a": float(a),
            "B": float(d * np.exp(b * self.centre[1])),
            "b": float(b),
            "E": float(floor),
        }


def fit_floor_law(queries: Queries, values: Array, counts: Array, *, seed: int) -> FloorLaw:
    """Fits every series and every member.

    Args:
        queries: The runs, R of them.
        values: Losses or bits per byte at the end of each run, NaN where missing, (R, S).
        counts: Weight of each run in each member, (M, R); the first member is the fit to all runs.
        seed: Seeds the members' priors.
    """
    members, series = len(counts), values.shape[1]
    x = np.log(np.stack([queries.params, queries.tokens], axis=1))
    centre = x.mean(axis=0)
    sizes, size_of = np.unique((x - centre).round(9), axis=0, return_inverse=True)
    belongs = np.eye(len(sizes))[size_of.ravel()]  # (R, U): runs of one size enter the sums together
    known = np.isfinite(values)
    inverse = np.where(known, 1 / np.where(known, values, 1.0), 0.0).T
    weights = counts[:, None, :] * known.T / RESIDUAL**2  # (M, S, R)
    lowest = np.nanmin(values, axis=0)
    draw = np.random.default_rng([seed, 11]).standard_normal((members, 1, 4))
    draw[0] = 0.0
    prior = EXPONENTS + EXPONENT_SPREAD * draw[..., :2]  # (M, 1, 2): a member's priors are those of all its series
    share = np.minimum(FLOOR_SHARE, HIGHEST_FLOOR / lowest)
    floor = np.clip(share * (1 + FLOOR_SPREAD / FLOOR_SHARE * draw[..., 2]), 0.02, 0.95)  # (M, S)
    split = SPLIT_SPREAD * draw[..., 3] * np.ones(series)
    problem = _Problem(
        sizes=sizes,
        squares=(weights * inverse**2) @ belongs,
        crossed=(weights * inverse) @ belongs,
        constant=weights.sum(axis=-1),
        lowest=lowest,
        floor=floor,
        split=split,
    )
    exponents = np.broadcast_to(prior, (members, series, 2))
    steps = np.linspace(-3, 3, 13) * EXPONENT_SPREAD
    for width in (1.0, 0.25, 0.08, 0.025, 0.008):
        offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2) * width
        tried = exponents[:, :, None, :] + offsets
        tried = np.clip(tried, np.log(0.02), np.log(2.0))
        cost, _ = problem.solve(np.exp(tried))
        cost = cost + (((tried - prior[:, :, None, :]) / EXPONENT_SPREAD) ** 2).sum(axis=-1)
        best = cost.argmin(axis=-1)
        exponents = np.take_along_axis(tried, best[:, :, None, None], axis=2)[:, :, 0]
        steps = np.linspace(-2, 2, 9) * EXPONENT_SPREAD
    _, amounts = problem.solve(np.exp(exponents)[:, :, None, :])
    return FloorLaw(centre=centre, exponents=np.exp(exponents), amounts=amounts[:, :, 0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Problem:
    """The inner linear problem as sums over runs: relative residuals, and the priors of floor and split.

    Attributes:
        sizes: Distinct (log N, log D), centred, (U, 2).
        squares: Sum of weight / value^2 over the runs of a size, (M, S, U).
        crossed: Sum of weight / value, (M, S, U).
        constant: Sum of weights, (M, S).
        lowest: Lowest value of each series, (S,).
        floor: Centre of the floor's prior, share of `lowest`, (M, S).
        split: Centre of the prior of A - B, share of `lowest`, (M, S).
    """

    sizes: Array
    squares: Array
    crossed: Array
    constant: Array
    lowest: Array
    floor: Array
    split: Array

    def solve(self, exponents: Array) -> tuple[Array, Array]:
        """Costs (M, S, G) and amounts (M, S, G, 3) at exponents (M, S, G, 2)."""
        rows = np.ones((*exponents.shape[:-1], 3, len(self.sizes)))
        rows[..., :2, :] = np.exp(-exponents[..., None] * self.sizes.T)
        matrix = np.matmul(rows * self.squares[:, :, None, None, :], rows.swapaxes(-1, -2))
        vector = np.matmul(rows, self.crossed[:, :, None, :, None])[..., 0]
        floor_row = 1 / (FLOOR_SPREAD * self.lowest)
        matrix[..., 2, 2] += floor_row[None, :, None] ** 2
        vector[..., 2] += (floor_row * self.floor / FLOOR_SPREAD)[:, :, None]
        split_row = 1 / (SPLIT_SPREAD * self.lowest)
        sign = np.array([1.0, -1.0, 0.0])
        matrix += (split_row**2)[None, :, None, None, None] * np.outer(sign, sign)
        vector += (split_row * self.split / SPLIT_SPREAD)[:, :, None, None] * sign
        constant = self.constant + (self.floor / FLOOR_SPREAD) ** 2 + (self.split / SPLIT_SPREAD) ** 2
        cost, amounts = _non_negative(matrix, vector)
        return constant[:, :, None] + cost, amounts


def _non_negative(matrix: Array, vector: Array) -> tuple[Array, Array]:
    """Least squares of three non-negative unknowns from normal equations, by trying every support.

    Returns:
        The cost less its constant, (...), and the solution, (..., 3).
    """
    best = np.zeros(vector.shape[:-1])
    solution = np.zeros(vector.shape)
    for size in (1, 2, 3):
        for support in combinations(range(3), size):
            part = np.array(support)
            sub = matrix[..., part[:, None], part] + 1e-12 * np.eye(size)
            right = vector[..., part]
            found = np.linalg.solve(sub, right[..., None])[..., 0]
            cost = -(found * right).sum(axis=-1)
            better = (found >= 0).all(axis=-1) & (cost < best)
            best = np.where(better, cost, best)
            full = np.zeros(vector.shape)
            full[..., part] = found
            solution = np.where(better[..., None], full, solution)
    return best, solution
