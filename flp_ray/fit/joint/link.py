"""Stage 2 for the search: domain losses -> score as a Bayesian line, which says how sure it is of its slopes.

Notation
    v  standardised domain losses of a checkpoint, D, and a 1      y  its score, 0 to 1
    c  line, D + 1         s  standard deviation of what one run differs from the line
    q  spread of the D slopes together around the mean slope

    y = c . v + s e / sqrt(w),    c_d ~ N(-1 / D, q^2 / D) in units of the scores' spread,   e standard normal

w is the weight of a checkpoint: all of one run's together count RUN_WEIGHT times, since they share its seed, its
text and its questions. Domain losses fall together with size, so what a few runs tell is their common slope: the
prior is that all domains count alike (the paper's Average, Table 4), and the data move slopes from there. q and s
are averaged over a grid by how likely they make the scores.

Reference: Chen et al. 2024, Eq. 2 and Table 4; MacKay 1992 (evidence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RUN_WEIGHT = 2.0
"""Independent scores that all checkpoints of a run together count as."""

SLOPE_SPREADS = np.geomspace(0.03, 3.0, 8)
"""q, in units of the scores' spread."""

NOISES = np.geomspace(0.01, 1.0, 12)
"""s, in units of the scores' spread."""

CONSTANT_SPREAD = 3.0
"""Prior of the constant, in units of the scores' spread."""

LEAST_SCORE = 0.01
"""Scores below this count as this in a relative error."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreLink:
    """The fitted line of one task.

    Attributes:
        task: Its name.
        random_performance: Chance level, 0 to 1.
        threshold: Score from which on a checkpoint counts as emerged.
        input_mean: Mean of each domain loss over the points, nats per token, (D,).
        input_spread: Their standard deviations, (D,).
        line: Posterior mean of c, constant last, score, (D + 1,).
        covariance: Its posterior covariance, (D + 1, D + 1).
        noise: s, of one run, score; what answering finitely many questions adds is in it.
        rest: What of s evaluation does not explain, score.
        per_question: Variance of evaluation per unit of p (1 - p); 0 where not recorded.
        observations: Points.
        fit_error: Mean relative error on them.
    """

    task: str
    random_performance: float
    threshold: float
    input_mean: Array
    input_spread: Array
    line: Array
    covariance: Array
    noise: float
    rest: float
    per_question: float
    observations: int
    fit_error: float

    def rows(self, losses: Array) -> Array:
        """v with the constant, (n, D + 1), of domain losses (n, D)."""
        scaled = (losses - self.input_mean) / self.input_spread
        return np.concatenate([scaled, np.ones((len(losses), 1))], axis=1)

    def score(self, losses: Array) -> Array:
        """Expected score, not clipped, (n,)."""
        return np.asarray(self.rows(losses) @ self.line)

    def run_variance(self, scores: Array) -> Array:
        """Variance of one run's measured score around the line, (n,): evaluation at these scores, and the rest."""
        sure = np.clip(scores, 0.0, 1.0)
        return np.asarray(self.rest**2 + self.per_question * sure * (1 - sure))

    @property
    def slopes(self) -> Array:
        """Score per nat of each domain's loss, (D,)."""
        return np.asarray(self.line[:-1] / self.input_spread)


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
    """Fits one task to the checkpoints that have emerged.

    Args:
        task: Its name.
        random_performance: Chance level, 0 to 1.
        threshold: Score from which on a checkpoint counts.
        losses: Domain losses of the checkpoints, nats per token, (n, D).
        scores: Their scores, 0 to 1, (n,).
        runs: Number of each one's run, (n,).
        errors: Standard errors of the scores, NaN where not recorded, (n,).
    """
    mean, spread = losses.mean(axis=0), np.maximum(losses.std(axis=0), 1e-3)
    centre, unit = float(scores.mean()), max(float(scores.std()), 1e-3)
    rows = np.concatenate([(losses - mean) / spread, np.ones((len(losses), 1))], axis=1)
    targets = (scores - centre) / unit
    weights = RUN_WEIGHT / np.bincount(runs)[runs]
    weights = np.minimum(weights, 1.0)
    recorded = np.isfinite(errors) & (errors > 0)
    least = float(np.sqrt((errors[recorded] ** 2).mean())) / unit if recorded.any() else 0.0
    domains = losses.shape[1]
    prior = np.append(np.full(domains, -1 / domains), 0.0)
    gram, told = (rows * weights[:, None]).T @ rows, (rows * weights[:, None]).T @ targets
    lines, covariances, evidence, noises = [], [], [], []
    for q in SLOPE_SPREADS:
        precision = np.append(np.full(domains, domains / q**2), CONSTANT_SPREAD**-2)
        for s in NOISES:
            matrix = gram / s**2 + np.diag(precision)
            factor = np.linalg.cholesky(matrix)
            covariance = np.linalg.inv(matrix)
            line = covariance @ (told / s**2 + precision * prior)
            misfit = targets - rows @ line
            cost = 0.5 * (weights @ misfit**2) / s**2 + 0.5 * precision @ (line - prior) ** 2
            cost += np.log(np.diag(factor)).sum() - 0.5 * np.log(precision).sum() + weights.sum() * np.log(s)
            cost += 0.5 * ((np.log(q / 0.5)) / 1.5) ** 2 + 0.5 * (np.log(s / 0.1) / 1.0) ** 2
            lines.append(line)
            covariances.append(covariance)
            evidence.append(-cost)
            noises.append(s)
    chance = np.exp(np.array(evidence) - max(evidence))
    chance /= chance.sum()
    table = np.array(lines)
    line = chance @ table
    apart = table - line
    covariance = np.tensordot(chance, np.array(covariances), axes=1) + (apart * chance[:, None]).T @ apart
    noise = max(float(np.sqrt(chance @ np.array(noises) ** 2)), least)
    line, covariance = line * unit, covariance * unit**2
    line[-1] += centre
    ratio = scores[recorded] * (1 - scores[recorded])
    return ScoreLink(
        task=task,
        random_performance=random_performance,
        threshold=threshold,
        input_mean=mean,
        input_spread=spread,
        line=line,
        covariance=covariance,
        noise=noise * unit,
        rest=unit * float(np.sqrt(max(0.0, noise**2 - least**2))),
        per_question=float((errors[recorded] ** 2).sum() / ratio.sum()) if ratio.sum() > 0 else 0.0,
        observations=len(scores),
        fit_error=float((np.abs(rows @ line - scores) / np.maximum(scores, LEAST_SCORE)).mean()),
    )
