"""Gaussian process regression with one length scale a dimension: a smooth surface through scattered runs.

Notation
    X  inputs, n points of K dimensions       y  targets, n           z  a new point
    s  signal   t  noise (both standard deviations)    l_k  length_scales     m  mean (a constant)
    q  noise_factors, n; 1 for a new point

    y_i = m + f(x_i) + t sqrt(q_i) e_i        e standard normal, f a Gaussian process:
    cov(f(x), f(z)) = s^2 k(d)                k(d) = (1 + r + r^2 / 3) exp(-r), r = sqrt(5) d  (Matern 5/2)
    d^2 = sum_k (x_k - z_k)^2 / l_k^2

    C = s^2 k(X, X) + t^2 diag(q)             covariance of the targets
    P = C^-1 - C^-1 1 1' C^-1 / (1' C^-1 1)   C^-1 once the constant is fitted away
    weights = P y                             prediction at z: m + s^2 k(z, X) . weights

The constant is the generalised least squares mean, and what it leaves uncertain is in every spread (universal
kriging). The length scales, s and t maximise the restricted likelihood, the density of the targets' contrasts,
times weak log-normal priors, which matter for few points: they keep the noise off 0. Both are in units of the
spread of the inputs and targets, so that the caller's units do not matter.

A run that goes astray (a small model at an unlucky mixture and seed) must not bend the surface or swell the
noise of all others. So the noise is Student's t: a first search with q = 1 predicts each run from all others,
q_i ~ (TAIL + z_i^2) / (TAIL + 1) with z_i the run's distance from that prediction in standard deviations, and
a second search follows with these q.

Reference: Rasmussen and Williams 2006, sections 2.2, 2.7, 5.4; Dubrule 1983 (leave one out, fitted mean);
Lange, Little and Taylor 1989 (q, there from residuals in sample).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from flp_ray.core.prediction import INTERVAL_COVERAGE
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit.matern import matern, matern_product, squared_distances

FEWEST_POINTS = 3

PRIOR_LENGTH, PRIOR_SIGNAL, PRIOR_NOISE = (2.0, 1.0), (1.0, 1.5), (0.1, 1.5)
"""Log-normal priors, (median, spread of the logarithm): the length scales in units of the inputs' spread
(root of the summed variances), signal and noise in units of the targets' standard deviation."""

BOUNDS_LENGTH, BOUNDS_SIGNAL, BOUNDS_NOISE = (1e-2, 1e3), (1e-2, 1e2), (1e-3, 1e1)
"""In the same units. C's condition stays below n * 1e10, so that repeated points need no care."""

SMALLEST_SPREAD = 1e-9
"""Targets (inputs) that differ by less than this share of their size count as constant."""

TAIL, TAIL_SCALE = 4.0, 0.786
"""Degrees of freedom of the noise, and the scale of q with which `noise` comes out right for normal noise:
E[z^2 (TAIL + 1) / (TAIL + z^2)] for a standard normal z."""

STEPS = 200
"""Of L-BFGS-B; some 50 suffice for 512 points of 17 dimensions."""

POINTS_A_NUMBER = 10
"""With fewer points a hyperparameter, residuals on the fitted points are too flattering to narrow an interval."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaussianProcess:
    """A process with fixed hyperparameters, conditioned on its points. Built by `GaussianProcess.of`.

    Attributes:
        inputs: X, (n, K).
        targets: y, (n,).
        length_scales: In the units of the inputs, (K,).
        signal: Standard deviation of the surface around the mean, in the units of the targets.
        noise: Standard deviation of one observation around the surface, in the units of the targets.
        noise_factors: q, variance of each observation's noise in units of `noise` squared, (n,).
        mean: The constant, in the units of the targets.
        weights: P y, (n,).
        factor: Lower Cholesky factor of C, (n, n).
    """

    inputs: Array
    targets: Array
    length_scales: Array
    signal: float
    noise: float
    noise_factors: Array
    mean: float
    weights: Array
    factor: Array

    @classmethod
    def of(
        cls, inputs: Array, targets: Array, *, length_scales: Array, signal: float, noise: float, noise_factors: Array
    ) -> GaussianProcess:
        """The process with these hyperparameters, all positive; arguments as the attributes."""
        covariance = signal**2 * matern(squared_distances(inputs / length_scales, inputs / length_scales))[0]
        covariance[np.diag_indices(len(targets))] += noise**2 * noise_factors
        factor = cholesky(covariance, lower=True)
        ones = cho_solve((factor, True), np.ones(len(targets)))
        mean = float(ones @ targets / ones.sum())
        return cls(
            inputs=inputs,
            targets=targets,
            length_scales=length_scales,
            signal=signal,
            noise=noise,
            noise_factors=noise_factors,
            mean=mean,
            weights=cho_solve((factor, True), targets - mean),
            factor=factor,
        )

    def predict(self, inputs: Array, *, noisy: bool = True) -> tuple[Array, Array]:
        """Prediction with its standard deviation, O(n^2) a point.

        Args:
            inputs: (m, K).
            noisy: The spread is that of a new observation; False gives that of the surface alone.

        Returns:
            Mean and spread in the units of the targets, each (m,).
        """
        scaled = inputs / self.length_scales
        covariance = self.signal**2 * matern(squared_distances(scaled, self.inputs / self.length_scales))[0]
        whitened = solve_triangular(self.factor, covariance.T, lower=True)
        ones = solve_triangular(self.factor, np.ones(len(self.targets)), lower=True)
        variance = self.signal**2 - (whitened**2).sum(axis=0) + (1 - ones @ whitened) ** 2 / (ones @ ones)
        spread = np.sqrt(np.maximum(variance, 0) + noisy * self.noise**2)
        return self.mean + covariance @ self.weights, spread

    def mean_at(self, inputs: Array) -> Array:
        """The mean alone, for very many points: in single precision, block by block.

        Args:
            inputs: (m, K).

        Returns:
            In the units of the targets, (m,); within some 1e-4 `signal` of `predict`.
        """
        weights = self.signal**2 * self.weights
        return self.mean + matern_product(inputs / self.length_scales, self.inputs / self.length_scales, weights)

    def leave_one_out(self) -> tuple[Array, Array]:
        """Each point predicted from all others as a new one, with the hyperparameters kept and the mean refitted.

        Returns:
            Mean and spread of a new observation, noise included, in the units of the targets, each (n,).
        """
        precision = np.diag(contrast_precision(self.factor)[0])
        surface = np.maximum(1 / precision - self.noise**2 * self.noise_factors, 0)
        return self.targets - self.weights / precision, np.sqrt(surface + self.noise**2)

    def calibration(self, coverage: float = INTERVAL_COVERAGE) -> float:
        """Factor on the normal interval's half width that makes it hold on the process's own points.

        Tails longer than the normal's, or a noise that differs between regions, make the normal interval too
        wide or too narrow. The factor is the conformal quantile of the standardised leave-one-out residuals
        over the normal's. The hyperparameters saw the points left out, so with few points a hyperparameter
        the factor only widens.

        Args:
            coverage: Share of new observations that the interval should hold, 0 to 1.
        """
        mean, spread = self.leave_one_out()
        ratio = np.sort(np.abs(self.targets - mean) / spread)
        place = min(len(ratio), int(np.ceil(coverage * (len(ratio) + 1))))
        factor = float(ratio[place - 1] / NormalDist().inv_cdf(0.5 + coverage / 2))
        return factor if len(ratio) >= POINTS_A_NUMBER * (len(self.length_scales) + 2) else max(1.0, factor)


def fit_gaussian_process(inputs: Array, targets: Array) -> GaussianProcess:
    """Fits the hyperparameters by the restricted likelihood and their priors.

    The search sees the points in sorted order, so their order does not change it.

    Args:
        inputs: (n, K), any unit; repeated points are welcome.
        targets: (n,), any unit, such as log nats per token.

    Raises:
        NotEnoughDataError: Fewer than three points.
    """
    if len(targets) < FEWEST_POINTS:
        raise NotEnoughDataError(
            f"A Gaussian process needs at least {FEWEST_POINTS} runs, received {len(targets)}. Add sampling runs."
        )
    inputs, targets = np.asarray(inputs, float), np.asarray(targets, float)
    order = np.lexsort([targets, *inputs.T])
    sorted_inputs, sorted_targets = inputs[order], targets[order]
    even = np.ones(len(order))
    first = _search(sorted_inputs, sorted_targets, even, None)
    mean, spread = GaussianProcess.of(sorted_inputs, sorted_targets, noise_factors=even, **first).leave_one_out()
    factors = TAIL_SCALE * (TAIL + ((sorted_targets - mean) / spread) ** 2) / (TAIL + 1)
    second = _search(sorted_inputs, sorted_targets, factors, first)
    return GaussianProcess.of(inputs, targets, noise_factors=factors[np.argsort(order)], **second)


def fit_gaussian_processes(inputs: Array, targets: Array) -> tuple[GaussianProcess, ...]:
    """One process a column of targets, each fitted alone on the points where it is known.

    Args:
        inputs: (n, K).
        targets: NaN where missing, (n, D).

    Raises:
        NotEnoughDataError: A column has fewer than three known targets.
    """
    return tuple(
        fit_gaussian_process(inputs[known] if not known.all() else inputs, column[known])
        for known, column in zip(np.isfinite(targets).T, targets.T, strict=True)
    )


def objective(logs: Array, inputs: Array, targets: Array, noise_factors: Array) -> tuple[float, Array]:
    """Negative log posterior of the hyperparameters (up to a constant) and its gradient.

    With W = P - weights weights' the gradient is 1/2 tr(W dC). For a length scale dC is a function of d times
    (x_k - z_k)^2 / l_k^2, and sum_ij M_ij (x_ik - x_jk)^2 = 2 (sum_i x_ik^2 sum_j M_ij - (x' M x)_kk) gives
    all K derivatives by one (n, n) x (n, K) product.

    Args:
        logs: Logarithms of l_1 .. l_K, s, t in units of the spreads, (K + 2,).
        inputs: In units of their spread, (n, K).
        targets: In units of their standard deviation, (n,).
        noise_factors: q, (n,).

    Returns:
        The value and the gradient, (K + 2,).
    """
    signal, noise = np.exp(2 * logs[-2:])
    scaled = (inputs - inputs.mean(axis=0)) / np.exp(logs[:-2])
    kernel, slope = matern(squared_distances(scaled, scaled))
    covariance = signal * kernel
    covariance[np.diag_indices(len(targets))] += noise * noise_factors
    factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
    precision, log_total = contrast_precision(factor)
    weights = precision @ targets
    pull = precision - np.outer(weights, weights)
    slope *= pull
    gradient = np.empty_like(logs)
    gradient[:-2] = signal * (slope.sum(axis=0) @ scaled**2 - np.einsum("nk,nk->k", scaled, slope @ scaled))
    gradient[-2] = signal * np.vdot(pull, kernel)
    gradient[-1] = noise * (np.diag(pull) @ noise_factors)
    centre, width = _prior(len(logs) - 2)
    surprise = (logs - centre) / width
    value = 0.5 * (targets @ weights + log_total + surprise @ surprise) + np.log(np.diag(factor)).sum()
    return float(value), gradient + surprise / width


def _search(inputs: Array, targets: Array, noise_factors: Array, start: dict[str, Any] | None) -> dict[str, Any]:
    """The best hyperparameters by name, from the priors' medians or from a start of the same form."""
    dimensions = inputs.shape[1]
    input_unit = _unit(float(np.sqrt(inputs.var(axis=0).sum())), inputs)
    target_unit = _unit(float(targets.std()), targets)
    units = np.append(np.full(dimensions, input_unit), [target_unit, target_unit])
    known = (inputs / input_unit, (targets - targets.mean()) / target_unit, noise_factors)
    begin = _prior(dimensions)[0]
    if start is not None:
        begin = np.log(np.append(start["length_scales"], [start["signal"], start["noise"]]) / units)
    bounds = np.log([BOUNDS_LENGTH] * dimensions + [BOUNDS_SIGNAL, BOUNDS_NOISE])
    options = {"maxiter": STEPS}
    found = minimize(objective, begin, args=known, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    best = np.exp(found.x) * units
    return {"length_scales": best[:-2], "signal": float(best[-2]), "noise": float(best[-1])}


def _prior(dimensions: int) -> tuple[Array, Array]:
    """Centre and spread of the logarithms, each (K + 2,)."""
    table = np.array([PRIOR_LENGTH] * dimensions + [PRIOR_SIGNAL, PRIOR_NOISE])
    return np.log(table[:, 0]), table[:, 1]


def _unit(spread: float, values: Array) -> float:
    """The spread, or a stand-in for values that do not vary."""
    floor = SMALLEST_SPREAD * float(np.abs(values).max(initial=0.0))
    return max(spread, floor) or 1.0


def contrast_precision(factor: Array) -> tuple[Array, float]:
    """P, (n, n), and log 1' C^-1 1, from the lower Cholesky factor of C."""
    lower = dpotri(factor, lower=1)[0]
    inverse = lower + lower.T
    inverse[np.diag_indices(len(inverse))] /= 2
    ones = inverse.sum(axis=0)
    total = ones.sum()
    precision: Array = inverse - np.outer(ones / total, ones)
    return precision, float(np.log(total))
