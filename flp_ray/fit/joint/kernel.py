"""How the log losses of two trainings vary together: over mixture and size, in one covariance.

Notation
    r'   effective ratios (overlap.py), K           u    log r' less its mean over the runs
    z    cube roots of the ratios, K                x    log FLOPs less its mean over the runs
    l_k  length scales                              d^2  sum_k (z_k - z'_k)^2 / l_k^2

    cov = p^2 x x' + (1 + h^2 x x') (b^2 u . u' + g^2 m(d))
          + s^2 [same size] + q^2 [same size and mixture] + t^2 [same run]

    b    slope: an exponent of Eq. 5                g    surface: what Eq. 5 leaves, m the Matern 5/2 kernel
    h    turn: what an e-fold of FLOPs changes of the mixture's effect, which Eq. 5 says is nothing
    s    what all runs of a size share (a learning rate off its best)              t    noise of a run
    q    what all runs of a size and mixture share: the law's own fault there, which no repetition takes away
    p    power of FLOPs, fixed and wide

With g = h = s = q = 0 this is Bayesian linear regression of Eq. 5 (form M4, any number of sources): its numbers have
normal priors instead of none. The rest is what lets a few runs say how little they know: a large model's best
mixture need not be the small ones'. The numbers are in nats of log loss, whatever the study, and have weak
log-normal priors in these units: scores that drown in noise must not be read as scores that do not move.

Reference: Chen et al. 2024, Eq. 5; Rasmussen and Williams 2006, sections 2.7 and 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.optimize import minimize

from flp_ray.fit.gaussian_process import contrast_precision
from flp_ray.fit.matern import matern, squared_distances
from flp_ray.fit.overlap import leak

POWER = 0.25
"""Standard deviation of the power of FLOPs, p: published exponents of what is reducible lie within 0.3."""

PRIOR_LENGTH = (2.0, 1.0)
"""Median and spread of the logarithm of a length scale, in units of the spread of the runs' z."""

PRIORS = {
    "surface": (0.05, 1.2),
    "slope": (0.02, 1.0),
    "turn": (0.02, 0.8),
    "size": (0.004, 0.8),
    "fault": (0.003, 1.0),
    "noise": (0.005, 1.5),
}
"""Median and spread of the logarithm of g, b, h, s, q and t."""

LEAST_SPREAD = 0.3
"""Spread of z that is taken where the runs' is smaller: a few mixtures close together say little of the scale."""

LEAST_LENGTH, MOST_LENGTH = 0.05, 100.0
LEAST, MOST = 1e-5, 3.0
"""Bounds of length scales (in the same unit) and of the other numbers."""

STEPS, CURVATURE_STEP = 60, 0.1
"""Of L-BFGS-B, and the step of the logarithms over which the posterior's curvature is taken."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Trainings as the covariance sees them.

    Attributes:
        z: Cube roots of the ratios, (n, K).
        u: Centred logarithms of the effective ratios, (n, K).
        x: Centred logarithms of the FLOPs, (n,).
    """

    z: Array
    u: Array
    x: Array

    def __len__(self) -> int:
        return len(self.x)

    def take(self, which: Array) -> Inputs:
        """Some of them, by mask or index."""
        return Inputs(z=self.z[which], u=self.u[which], x=self.x[which])

    def and_(self, other: Inputs) -> Inputs:
        """These and then others."""
        parts = [np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("z", "u", "x")]
        return Inputs(z=parts[0], u=parts[1], x=parts[2])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """Where the inputs are centred, so that later trainings are put beside the fitted ones.

    Attributes:
        overlap: Share of each source that leaks into the others.
        log_ratios: Mean of log r' over the fitted runs, (K,).
        log_flops: Mean of their log FLOPs.
        spread: Spread of their z: the unit of length scales.
    """

    overlap: float
    log_ratios: Array
    log_flops: float
    spread: float

    @classmethod
    def of(cls, ratios: Array, flops: Array, overlap: float) -> Frame:
        """The frame of these runs, ratios (n, K) and FLOPs (n,)."""
        return cls(
            overlap=overlap,
            log_ratios=np.log(leak(ratios, overlap)).mean(axis=0),
            log_flops=float(np.log(flops).mean()),
            spread=max(LEAST_SPREAD, float(np.sqrt(np.cbrt(ratios).var(axis=0).sum()))),
        )

    def inputs(self, ratios: Array, flops: Array | float) -> Inputs:
        """Trainings at ratios (n, K) and FLOPs (n,) or one number for all."""
        x = np.log(np.broadcast_to(flops, (len(ratios),))) - self.log_flops
        return Inputs(z=np.cbrt(ratios), u=np.log(leak(ratios, self.overlap)) - self.log_ratios, x=x)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Numbers:
    """The covariance's numbers by name: length scales (K,), the others in nats of log loss."""

    lengths: Array
    surface: float
    slope: float
    turn: float
    size: float
    fault: float
    noise: float

    @classmethod
    def of(cls, logs: Array) -> Numbers:
        """From their logarithms: length scales first, then in the order of `PRIORS`."""
        values = np.exp(logs)
        return cls(lengths=values[:-6], **dict(zip(PRIORS, values[-6:].tolist(), strict=True)))

    @property
    def logs(self) -> Array:
        """Their logarithms, (K + 6,)."""
        return np.asarray(np.log(np.append(self.lengths, [getattr(self, n) for n in PRIORS])))


def covariance(one: Inputs, other: Inputs, numbers: Numbers) -> Array:
    """Covariance of the law itself between trainings, without sizes' deviations and noise, (n, m)."""
    kernel = matern(squared_distances(one.z / numbers.lengths, other.z / numbers.lengths))[0]
    mixture = numbers.surface**2 * kernel + numbers.slope**2 * (one.u @ other.u.T)
    both = np.outer(one.x, other.x)
    return np.asarray(POWER**2 * both + (1 + numbers.turn**2 * both) * mixture)


def variance(inputs: Inputs, numbers: Numbers) -> Array:
    """The diagonal of `covariance(inputs, inputs)`, (n,)."""
    mixture = numbers.surface**2 + numbers.slope**2 * (inputs.u**2).sum(axis=1)
    return np.asarray(POWER**2 * inputs.x**2 + (1 + numbers.turn**2 * inputs.x**2) * mixture)


def same_size(one: Inputs, other: Inputs) -> Array:
    """1 where two trainings have the same FLOPs, else 0, (n, m)."""
    return np.asarray((np.abs(one.x[:, None] - other.x) < 1e-6).astype(float))


def same_group(one: Inputs, other: Inputs) -> Array:
    """1 where two trainings have the same FLOPs and mixture, else 0, (n, m)."""
    alike = (np.abs(one.z[:, None] - other.z) < 1e-6).all(axis=2)
    return np.asarray(same_size(one, other) * alike)


def run_covariance(one: Inputs, other: Inputs, numbers: Numbers) -> Array:
    """Covariance of runs, (n, m): of the law, and of what sizes and groups share; without the noise of a run."""
    shared = numbers.size**2 * same_size(one, other) + numbers.fault**2 * same_group(one, other)
    return covariance(one, other, numbers) + shared


def observed(inputs: Inputs, numbers: Numbers) -> Array:
    """Covariance of measured log losses of these runs, (n, n)."""
    return np.asarray(run_covariance(inputs, inputs, numbers) + numbers.noise**2 * np.eye(len(inputs)))


def fit_numbers(inputs: Inputs, logs: Array, frame: Frame, start: Numbers | None) -> Numbers:
    """The numbers with the highest restricted likelihood times priors.

    Args:
        inputs: The runs, n of them.
        logs: Log losses less their floor, (n,).
        frame: Gives the unit of the length scales.
        start: Where to begin; the priors' medians by default.
    """
    sources = inputs.z.shape[1]
    centre, width = prior(sources, frame)
    pairs = Pairs.of(inputs)
    scale = np.log([frame.spread] * sources)
    bounds = [(s + np.log(LEAST_LENGTH), s + np.log(MOST_LENGTH)) for s in scale] + [(np.log(LEAST), np.log(MOST))] * 6
    found = minimize(
        negative_log_posterior,
        centre if start is None else start.logs,
        args=(inputs, pairs, logs, centre, width),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS, "ftol": 1e-7},
    )
    return Numbers.of(found.x + _left_open(found.x, inputs, pairs, logs, centre, width))


def _left_open(best: Array, inputs: Inputs, pairs: Pairs, logs: Array, centre: Array, width: Array) -> Array:
    """What to add to the logarithms of g, b, h, s, q and t so that their squares are posterior means, (K + 6,).

    The square of a log-normal number is exp(2 spread^2) times its median's on average. What the runs leave open of a
    number is thus counted as spread of the law: the mode alone would call an effect absent that is merely unseen. The
    spreads are those of the normal approximation at the mode, each number by itself, and not above the prior's.
    """
    added = np.zeros_like(best)
    for i in range(len(best) - len(PRIORS), len(best)):
        step = np.zeros_like(best)
        step[i] = CURVATURE_STEP
        ahead = negative_log_posterior(best + step, inputs, pairs, logs, centre, width)[1][i]
        behind = negative_log_posterior(best - step, inputs, pairs, logs, centre, width)[1][i]
        curvature = (ahead - behind) / (2 * CURVATURE_STEP)
        added[i] = 1 / max(curvature, 1 / width[i] ** 2)
    return added


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """What the pairs of runs are to each other, whatever the numbers; each (n, n).

    Attributes:
        sizes: Products of x.
        slopes: Products of u.
        same_size: 1 where the FLOPs are the same.
        same_group: 1 where the mixture is too.
    """

    sizes: Array
    slopes: Array
    same_size: Array
    same_group: Array

    @classmethod
    def of(cls, inputs: Inputs) -> Pairs:
        """The pairs of these runs."""
        return cls(
            sizes=np.outer(inputs.x, inputs.x),
            slopes=inputs.u @ inputs.u.T,
            same_size=same_size(inputs, inputs),
            same_group=same_group(inputs, inputs),
        )


def prior(sources: int, frame: Frame) -> tuple[Array, Array]:
    """Centre and spread of the numbers' logarithms, each (K + 6,)."""
    table = np.array([(PRIOR_LENGTH[0] * frame.spread, PRIOR_LENGTH[1])] * sources + list(PRIORS.values()))
    return np.log(table[:, 0]), table[:, 1]


def negative_log_posterior(
    numbers: Array, inputs: Inputs, pairs: Pairs, logs: Array, centre: Array, width: Array
) -> tuple[float, Array]:
    """Negative log posterior of the numbers, up to a constant, and its gradient.

    With P the contrasts' precision, w = P y and W = P - w w' the gradient is 1/2 tr(W dC).

    Args:
        numbers: Logarithms of the numbers, (K + 6,).
        inputs: The runs.
        pairs: Of these runs.
        logs: y, (n,).
        centre: Of the priors, (K + 6,).
        width: Of the priors, (K + 6,).
    """
    lengths, (g, b, h, s, q, t) = np.exp(numbers[:-6]), np.exp(2 * numbers[-6:])
    scaled = inputs.z / lengths
    kernel, falling = matern(squared_distances(scaled, scaled))
    turned = 1 + h * pairs.sizes
    mixture = g * kernel + b * pairs.slopes
    measured = POWER**2 * pairs.sizes + turned * mixture + s * pairs.same_size + q * pairs.same_group
    measured[np.diag_indices(len(logs))] += t
    factor = cholesky(measured, lower=True, overwrite_a=True, check_finite=False)
    precision, log_total = contrast_precision(factor)
    weights = precision @ logs
    pull = precision - np.outer(weights, weights)
    moved = pull * turned
    bent = g * moved * falling
    gradient = np.empty_like(numbers)
    gradient[:-6] = bent.sum(axis=0) @ scaled**2 - np.einsum("nk,nk->k", scaled, bent @ scaled)
    gradient[-6] = g * np.vdot(moved, kernel)
    gradient[-5] = b * np.vdot(moved, pairs.slopes)
    gradient[-4] = h * np.vdot(pull, pairs.sizes * mixture)
    gradient[-3] = s * np.vdot(pull, pairs.same_size)
    gradient[-2] = q * np.vdot(pull, pairs.same_group)
    gradient[-1] = t * np.trace(pull)
    surprise = (numbers - centre) / width
    value = 0.5 * (logs @ weights + log_total + surprise @ surprise) + np.log(np.diag(factor)).sum()
    return float(value), gradient + surprise / width
