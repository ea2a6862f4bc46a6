"""Stage 2 for the search: domain losses -> score as a Bayesian line with a soft start, which says how sure it is.

Notation
    v  standardised domain losses of a checkpoint, D, and a 1      y  its score, 0 to 1
    c  line, D + 1                l  score at chance               w  softness of the start, score
    s  standard deviation of what one run differs from the curve   q  spread of the D slopes around their mean

    y = l + w log(1 + exp(n / w)) + s e,    n = c . v,    c_d = b (-1 + q e_d) / D,    b ~ N(B, B^2)

B is the slope in the mean loss that the checkpoints show: the mean of the slopes found for the widest q.

Far above chance this is the paper's line (Eq. 2). The paper drops checkpoints below a margin and fits the rest; near
the margin that keeps the lucky ones, and where a task is just rising a line through the bend has half the slope that
it will have, shared out among the wrong domains. Here all checkpoints count, those at chance too.

All checkpoints of one run together weigh as RUN_WEIGHT scores, since they share its seed, its text and its questions.
Domain losses fall together with size, so what a few runs tell is their common slope: the prior is that all domains
count alike (the paper's Average, Table 4), and the data move slopes from there. The mode of all numbers is found for
several q; what they leave open is the normal approximation there, averaged over q by how likely each makes the scores.

Reference: Chen et al. 2024, Eq. 2 and Table 4; MacKay 1992 (evidence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

RUN_WEIGHT = 2.0
"""Independent scores that all checkpoints of a run together count as."""

SLOPE_SPREADS, USUAL_SPREAD = np.geomspace(0.5, 8.0, 5), (2.0, 1.0)
"""q, and the median and spread of the logarithm of its prior: one domain of five that counts alone is q = 2."""

SOFTNESS = (0.02, 0.7)
"""Median and spread of the logarithm of w, score."""

CHANCE_SPREAD = 0.02
"""Standard deviation of l around the stated chance level: label bias and wording move it."""

NOISE = (0.1, 1.0)
"""Median and spread of the logarithm of s, in units of the scores' spread."""

CONSTANT_SPREAD = 5.0
"""Prior of the constant, in units of the scores' spread or of what a standard deviation of all losses gives."""

TURNS = 2
"""Of finding B."""

STEPS, TOLERANCE = 60, 1e-7
"""Of the search for the mode: most steps, and the gain below which it ends."""

LEAST_SCORE = 0.01
"""Scores below this count as this in a relative error."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreLink:
    """The fitted curve of one task.

    Attributes:
        task: Its name.
        input_mean: Mean of each domain loss over the points, nats per token, (D,).
        input_spread: Their standard deviations, (D,).
        numbers: Posterior mode: c with the constant last, log w, l; score, (D + 3,).
        covariance: What is open of them, (D + 3, D + 3).
        noise: s, of one run, score; what answering finitely many questions adds is in it.
        rest: What of s evaluation does not explain, score.
        per_question: Variance of evaluation per unit of p (1 - p); 0 where not recorded.
        observations: Points.
        fit_error: Mean relative error on them.
    """

    task: str
    input_mean: Array
    input_spread: Array
    numbers: Array
    covariance: Array
    noise: float
    rest: float
    per_question: float
    observations: int
    fit_error: float

    def score(self, losses: Array) -> Array:
        """Expected score, not clipped, (n,), at domain losses (n, D)."""
        return _curve(self.numbers, self._inputs(losses))[0]

    def rows(self, losses: Array) -> Array:
        """What a unit of each number adds to the score, (n, D + 3), at domain losses (n, D)."""
        return _curve(self.numbers, self._inputs(losses))[1]

    def slopes(self, losses: Array) -> Array:
        """Score per nat of each domain's loss, (n, D), at domain losses (n, D)."""
        steep = self.rows(losses)[:, len(self.input_mean), None]  # the constant's: how much of the slope is reached
        return np.asarray(steep * self.full_slopes)

    @property
    def full_slopes(self) -> Array:
        """Score per nat of each domain's loss far above chance, (D,)."""
        return np.asarray(self.numbers[:-3] / self.input_spread)

    def run_variance(self, scores: Array) -> Array:
        """Variance of one run's measured score around the curve, (n,): evaluation at these scores, and the rest."""
        sure = np.clip(scores, 0.0, 1.0)
        return np.asarray(self.rest**2 + self.per_question * sure * (1 - sure))

    def _inputs(self, losses: Array) -> Array:
        scaled = (losses - self.input_mean) / self.input_spread
        return np.concatenate([scaled, np.ones((len(losses), 1))], axis=1)


def fit_link(
    *,
    task: str,
    random_performance: float,
    threshold: float,
    losses: Array,
    scores: Array,
    runs: Array,
    errors: Array,
) -> ScoreLink:
    """Fits one task to all checkpoints of its runs.

    Args:
        task: Its name.
        random_performance: Chance level, 0 to 1.
        threshold: Score from which on a checkpoint counts as emerged.
        losses: Domain losses of the checkpoints, nats per token, (n, D).
        scores: Their scores, 0 to 1, (n,).
        runs: Number of each one's run, (n,).
        errors: Standard errors of the scores, NaN where not recorded, (n,).
    """
    mean, spread = losses.mean(axis=0), np.maximum(losses.std(axis=0), 1e-3)
    unit = max(float(scores.std()), 1e-3)
    inputs = np.concatenate([(losses - mean) / spread, np.ones((len(losses), 1))], axis=1)
    weights = np.minimum(RUN_WEIGHT / np.bincount(runs)[runs], 1.0)
    recorded = np.isfinite(errors) & (errors > 0)
    least = float(np.sqrt((errors[recorded] ** 2).mean())) if recorded.any() else 0.0
    start = _start(inputs, scores, weights, random_performance, threshold, unit)
    for _ in range(TURNS):
        wide = _mode(inputs, scores, weights, start, SLOPE_SPREADS[-1], unit, random_performance, least).numbers
        start = np.concatenate([np.full(losses.shape[1], min(float(wide[:-3].mean()), start[0] / 10)), wide[-3:]])
    found = [_mode(inputs, scores, weights, start, q, unit, random_performance, least) for q in SLOPE_SPREADS]
    evidence = np.array([f.evidence for f in found])
    evidence -= 0.5 * (np.log(SLOPE_SPREADS / USUAL_SPREAD[0]) / USUAL_SPREAD[1]) ** 2
    chance = np.exp(evidence - evidence.max())
    chance /= chance.sum()
    table = np.array([f.numbers for f in found])
    numbers = chance @ table
    apart = table - numbers
    covariance = np.tensordot(chance, np.array([f.covariance for f in found]), axes=1) + (apart.T * chance) @ apart
    noise = float(np.sqrt(chance @ np.array([f.noise for f in found]) ** 2))
    ratio = scores[recorded] * (1 - scores[recorded])
    fitted = _curve(numbers, inputs)[0]
    return ScoreLink(
        task=task,
        input_mean=mean,
        input_spread=spread,
        numbers=numbers,
        covariance=covariance,
        noise=noise,
        rest=float(np.sqrt(max(0.0, noise**2 - least**2))),
        per_question=float((errors[recorded] ** 2).sum() / ratio.sum()) if ratio.sum() > 0 else 0.0,
        observations=len(scores),
        fit_error=float((np.abs(fitted - scores) / np.maximum(scores, LEAST_SCORE)).mean()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Mode:
    numbers: Array
    covariance: Array
    noise: float
    evidence: float


def _curve(numbers: Array, inputs: Array) -> tuple[Array, Array]:
    """The curve at inputs (n, D + 1), (n,), and its gradient in the numbers, (n, D + 3)."""
    line, soft, chance = numbers[:-2], float(np.exp(numbers[-2])), numbers[-1]
    height = inputs @ line
    steep = expit(height / soft)
    risen = soft * np.logaddexp(0.0, height / soft)
    gradient = np.concatenate(
        [steep[:, None] * inputs, (risen - steep * height)[:, None], np.ones((len(inputs), 1))], 1
    )
    return chance + risen, gradient


def _start(inputs: Array, scores: Array, weights: Array, chance: float, threshold: float, unit: float) -> Array:
    """A line in the mean loss through the points that have risen."""
    mean_loss = inputs[:, :-1].mean(axis=1)
    upper = scores >= min(threshold, float(np.quantile(scores, 0.8)))
    slope, constant = -unit, float(scores.mean()) - chance
    if np.ptp(mean_loss[upper]) > 1e-6:
        slope, constant = np.polyfit(mean_loss[upper], scores[upper] - chance, 1, w=np.sqrt(weights[upper]))
    domains = inputs.shape[1] - 1
    return np.concatenate(
        [np.full(domains, min(slope, -0.1 * unit) / domains), [constant, np.log(SOFTNESS[0]), chance]]
    )


def _mode(
    inputs: Array, scores: Array, weights: Array, start: Array, q: float, unit: float, chance: float, least: float
) -> _Mode:
    """The likeliest numbers for one q, by damped Gauss-Newton steps, the noise re-estimated along the way."""
    domains = inputs.shape[1] - 1
    centre = np.concatenate([start[:domains], [0.0, np.log(SOFTNESS[0]), chance]])
    usual = abs(start[0])  # the slope of one domain if all count alike
    slopes = usual**2 * (q**2 * np.eye(domains) + np.ones((domains, domains)))
    height = CONSTANT_SPREAD * max(unit, usual * domains)
    precision = np.zeros((domains + 3, domains + 3))
    precision[:domains, :domains] = np.linalg.inv(slopes)
    precision[range(domains, domains + 3), range(domains, domains + 3)] = (
        np.array([height, SOFTNESS[1], CHANCE_SPREAD]) ** -2.0
    )
    numbers, damping, total = start, 1e-3, weights.sum()
    noise = max(NOISE[0] * unit, least)

    def cost(at: Array, noise: float) -> float:
        misfit = scores - _curve(at, inputs)[0]
        apart = at - centre
        return float(0.5 * weights @ misfit**2 / noise**2 + 0.5 * apart @ precision @ apart)

    for _ in range(STEPS):
        fitted, gradient = _curve(numbers, inputs)
        noise = _noise(weights @ (scores - fitted) ** 2, total, unit, least)
        now = cost(numbers, noise)
        hessian = (gradient.T * weights) @ gradient / noise**2 + precision
        pull = (gradient.T * weights) @ (scores - fitted) / noise**2 - precision @ (numbers - centre)
        for _ in range(8):
            tried = numbers + np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), pull)
            gain = now - cost(tried, noise)
            if gain >= 0:
                break
            damping *= 10
        else:
            break
        numbers, damping = tried, max(damping / 10, 1e-9)
        if gain < TOLERANCE:
            break
    _, gradient = _curve(numbers, inputs)
    hessian = (gradient.T * weights) @ gradient / noise**2 + precision
    evidence = -cost(numbers, noise) - total * np.log(noise) - 0.5 * (np.log(noise / (NOISE[0] * unit)) / NOISE[1]) ** 2
    evidence += 0.5 * (np.linalg.slogdet(precision)[1] - np.linalg.slogdet(hessian)[1])
    return _Mode(numbers=numbers, covariance=np.linalg.inv(hessian), noise=noise, evidence=float(evidence))


def _noise(squares: float, total: float, unit: float, least: float) -> float:
    """s from the weighted sum of squares, drawn to its prior as by two observations; not below the evaluation's."""
    pooled = (squares + 2 * (NOISE[0] * unit) ** 2) / (total + 2)
    return float(max(np.sqrt(pooled), least, 1e-4))
