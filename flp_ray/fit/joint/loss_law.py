"""One domain's loss over mixture and size: what the runs tell, and how sure that is.

    log(L - E) = m + f(r, C) + deviation of the size + noise,   f of the covariance of kernel.py

The floor E is what no training removes (Hoffmann et al. 2022). A few sizes do not tell it from the power of FLOPs,
so several shares of the lowest loss are kept, each with its posterior weight; predictions are their mixture, and
what a next run would teach is reckoned with the likeliest. E = 0 is Eq. 5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from flp_ray.fit.gaussian_process import contrast_precision
from flp_ray.fit.joint.kernel import (
    POWER,
    Frame,
    Inputs,
    Numbers,
    covariance,
    fit_numbers,
    observed,
    run_covariance,
    variance,
)
from flp_ray.fit.matern import matern_product

FLOORS = (0.0, 0.25, 0.45, 0.65, 0.8)
"""Shares of the lowest loss that are tried as its floor, all alike likely beforehand."""

SIZES_FOR_FLOOR = 3
"""Sizes below which the floor is open and left at 0: Eq. 5 as it stands."""

LEAST_CHANCE = 0.01
"""Floors less likely than this are dropped."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """The process of one floor, conditioned on the runs.

    Attributes:
        floor: E, nats per token.
        weight: Posterior probability of this floor.
        numbers: Of the covariance.
        runs: The runs, n.
        mean: m.
        factor: Lower Cholesky factor of their covariance, (n, n).
        weights: Inverse covariance times what the runs differ from m, (n,).
        ones: Inverse factor times ones, (n,).
    """

    floor: float
    weight: float
    numbers: Numbers
    runs: Inputs
    mean: float
    factor: Array
    weights: Array
    ones: Array

    @classmethod
    def of(cls, runs: Inputs, logs: Array, numbers: Numbers, *, floor: float, weight: float) -> Posterior:
        """Conditions on log(L - E) of the runs, (n,)."""
        factor = cholesky(observed(runs, numbers), lower=True, check_finite=False)
        ones = solve_triangular(factor, np.ones(len(logs)), lower=True, check_finite=False)
        told = solve_triangular(factor, logs, lower=True, check_finite=False)
        mean = float(ones @ told / (ones @ ones))
        return cls(
            floor=floor,
            weight=weight,
            numbers=numbers,
            runs=runs,
            mean=mean,
            factor=factor,
            weights=cho_solve((factor, True), logs - mean, check_finite=False),
            ones=ones,
        )

    def expected(self, inputs: Inputs) -> Array:
        """Mean of log(L - E), (n,)."""
        return np.asarray(self.mean + covariance(inputs, self.runs, self.numbers) @ self.weights)

    def loss(self, inputs: Inputs) -> Array:
        """Expected loss, nats per token, (n,)."""
        mean, spread = self.moments(inputs)
        return np.asarray(self.floor + np.exp(mean + spread / 2))

    def sweep(self, inputs: Inputs) -> Array:
        """Expected loss at very many mixtures of one size, nats per token, (n,), in single precision."""
        numbers, x = self.numbers, float(inputs.x[0])
        turned = self.weights * (1 + numbers.turn**2 * x * self.runs.x)
        level = self.mean + POWER**2 * x * (self.runs.x @ self.weights)
        linear = inputs.u @ (numbers.slope**2 * (turned @ self.runs.u))
        places, scaled = self.runs.z / numbers.lengths, inputs.z / numbers.lengths
        surface = matern_product(scaled, places, numbers.surface**2 * turned)
        return np.asarray(self.floor + np.exp(level + linear + surface))

    def moments(self, inputs: Inputs) -> tuple[Array, Array]:
        """Mean and variance of the law's log(L - E) at trainings, each (n,); no deviation of a size, no noise."""
        across = covariance(inputs, self.runs, self.numbers)
        whitened, open_ = self._whitened(across)
        spread = variance(inputs, self.numbers) - (whitened**2).sum(axis=0) + open_**2 / (self.ones @ self.ones)
        return self.mean + across @ self.weights, np.maximum(spread, 1e-16)

    def leave_one_out(self) -> Array:
        """Each run's log(L - E) as all others predict it, the numbers kept, (n,)."""
        logs = self.mean + self.factor @ (self.factor.T @ self.weights)
        precision = contrast_precision(self.factor)[0]
        return np.asarray(logs - self.weights / np.diag(precision))

    def told(self, runs: Inputs, law: Inputs, repeats: int) -> tuple[Array, Array]:
        """What measuring new runs would tell of the law elsewhere.

        Args:
            runs: Runs that could be trained, n.
            law: Where the law is wanted, m.
            repeats: Trainings of each run.

        Returns:
            Covariance of the runs' mean log(L - E) with the law's, (n, m), and its variance, (n,).
        """
        left, left_open = self._whitened(run_covariance(runs, self.runs, self.numbers))
        right, right_open = self._whitened(covariance(law, self.runs, self.numbers))
        total = self.ones @ self.ones
        across = covariance(runs, law, self.numbers) - left.T @ right + np.outer(left_open, right_open) / total
        shared = self.numbers.size**2 + self.numbers.fault**2
        spread = variance(runs, self.numbers) + shared - (left**2).sum(axis=0) + left_open**2 / total
        return across, np.maximum(spread, 1e-16) + self.numbers.noise**2 / repeats

    def between(self, one: Inputs, other: Inputs) -> Array:
        """Posterior covariance of the law's log(L - E) between trainings, (n, m)."""
        left, left_open = self._whitened(covariance(one, self.runs, self.numbers))
        right, right_open = self._whitened(covariance(other, self.runs, self.numbers))
        rest = np.outer(left_open, right_open) / (self.ones @ self.ones)
        return np.asarray(covariance(one, other, self.numbers) - left.T @ right + rest)

    def also(self, pending: Inputs) -> Posterior:
        """As if these runs were measured too and came out as expected: the mean stays, what is open shrinks."""
        if not len(pending):
            return self
        logs = self.mean + self.factor @ (self.factor.T @ self.weights)
        both = self.runs.and_(pending)
        expected = self.mean + run_covariance(pending, self.runs, self.numbers) @ self.weights  # of its size and group
        logs = np.concatenate([logs, expected])
        return Posterior.of(both, logs, self.numbers, floor=self.floor, weight=self.weight)

    def _whitened(self, across: Array) -> tuple[Array, Array]:
        """Inverse factor times the covariance with the runs, (n, m), and what it leaves of the constant, (m,)."""
        whitened = solve_triangular(self.factor, across.T, lower=True, check_finite=False)
        return whitened, 1 - self.ones @ whitened


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossLaw:
    """The fitted law of one domain.

    Attributes:
        domain: Its name.
        floors: Posteriors, the likeliest first.
        observations: Runs with a loss.
        start: The covariance's numbers at floor 0.
        cost: Negative log likelihood of the likeliest floor.
    """

    domain: str
    floors: tuple[Posterior, ...]
    observations: int
    start: Numbers
    cost: float

    @property
    def best(self) -> Posterior:
        """The posterior of the likeliest floor."""
        return self.floors[0]

    def loss(self, inputs: Inputs, *, noisy: bool = False) -> tuple[Array, Array]:
        """Mean and standard deviation of the loss, nats per token, each (n,).

        Args:
            inputs: Trainings.
            noisy: The spread is that of a new run of a size that was never trained; False gives the law's own.
        """
        means, squares = np.zeros(len(inputs)), np.zeros(len(inputs))
        for p in self.floors:
            mean, var = p.moments(inputs)
            if noisy:
                var = var + p.numbers.size**2 + p.numbers.fault**2 + p.numbers.noise**2
            above = np.exp(mean + var / 2)
            means += p.weight * (p.floor + above)
            squares += p.weight * ((p.floor + above) ** 2 + above**2 * np.expm1(var))
        return means, np.sqrt(np.maximum(squares - means**2, 0.0))

    def also(self, pending: Inputs) -> LossLaw:
        """As if these runs were measured too and came out as expected; each floor is as likely as before."""
        return replace(self, floors=tuple(p.also(pending) for p in self.floors))


def fit_loss_law(
    domain: str, runs: Inputs, losses: Array, frame: Frame, *, start: Numbers | None, search: bool = True
) -> LossLaw:
    """Fits one domain.

    The covariance's numbers are sought for E = 0; other floors take them, stretched by how much further the logarithms
    lie apart above that floor.

    Args:
        domain: Its name.
        runs: The runs with a loss, n of them.
        losses: Nats per token, (n,).
        frame: Of the inputs.
        start: Numbers to begin with.
        search: Whether to seek better ones; False takes those as they are, after each of many runs.
    """
    floors = FLOORS if len(np.unique(runs.x.round(6))) >= SIZES_FOR_FLOOR else (0.0,)
    numbers = start if start is not None and not search else fit_numbers(runs, np.log(losses), frame, start)
    tried = [_at_floor(runs, losses, numbers, share * float(losses.min())) for share in floors]
    costs = np.array([cost for cost, _ in tried])
    chances = np.exp(costs.min() - costs)
    likely = chances >= LEAST_CHANCE * chances.sum()
    chances = np.where(likely, chances, 0.0) / chances[likely].sum()
    order = np.argsort(-chances, kind="stable")[: likely.sum()]
    made = tuple(replace(tried[i][1], weight=float(chances[i])) for i in order)
    return LossLaw(domain=domain, floors=made, observations=len(losses), start=numbers, cost=float(costs.min()))


def _at_floor(runs: Inputs, losses: Array, numbers: Numbers, floor: float) -> tuple[float, Posterior]:
    """The posterior at a floor, and the negative log likelihood of the losses (restricted, up to a constant)."""
    above = losses - floor
    stretch = float(np.exp((np.log(losses) - np.log(above)).mean()))
    stretched = replace(
        numbers, **{n: getattr(numbers, n) * stretch for n in ("surface", "slope", "size", "fault", "noise")}
    )
    logs = np.log(above)
    made = Posterior.of(runs, logs, stretched, floor=floor, weight=1.0)
    misfit = (logs - made.mean) @ made.weights
    total = np.log(made.ones @ made.ones)
    return float(0.5 * (misfit + total) + np.log(np.diag(made.factor)).sum() + logs.sum()), made
