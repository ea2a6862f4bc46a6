"""The power law that carries an optimum from the tuned sizes to others, with its interval.

Notation, for each hyperparameter h on its own:
    N   parameters without embeddings
    D   training tokens
    h*  the optimum:  log h* = c + a log N + b log D + scatter

The tuned sizes often lie at one ratio of tokens to parameters, where a and b cannot be told apart, and there may be
only two of them. So the exponents have normal priors; c has none. What the sizes do not decide stays as wide as the
prior, and the interval shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.prediction import INTERVAL_COVERAGE
from flp_ray.core.tuning import Hyperparameter, Optimum

Array = NDArray[np.float64]

EXPONENTS: dict[Hyperparameter, tuple[tuple[float, float], tuple[float, float]]] = {
    "learning_rate": ((-0.713, 0.3), (0.307, 0.3)),
    "batch_sequences": ((0.0, 0.2), (0.571, 0.3)),
    "weight_decay": ((0.0, 0.3), (0.0, 0.3)),
    "warmup_fraction": ((0.0, 0.3), (0.0, 0.3)),
}
"""Prior mean and standard deviation of a and b.

Reference: Li et al. 2025, "Predictable scale: Part I, Step Law", 1.79 N^-0.713 D^0.307 for the learning rate and
    0.58 D^0.571 for the batch in tokens. The widths are ours: published exponents differ by about as much, among them
    C^-0.125 (DeepSeek LLM, 2024) and D^-0.32 at a fixed batch (Bjorck et al. 2024). No published law is used for
    weight decay and warm-up; they are taken to stay about where they are.
"""

SCATTER = 0.15
"""Scale of the half-normal prior of the scatter of true optima about the law, in natural logarithms."""

_SCATTERS = np.linspace(0.01, 0.6, 60)
_FREE = 30.0
"""Standard deviation of the prior of c at the tuned sizes' middle, in natural logarithms: none."""

_Z = NormalDist().inv_cdf(0.5 + 0.5 * INTERVAL_COVERAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterLaw:
    """The law of one hyperparameter.

    Attributes:
        parameter: The hyperparameter.
        params: Geometric mean of the tuned sizes' parameters without embeddings.
        train_tokens: Geometric mean of their training tokens.
        mean: log h* at these, a, b; shape (3,).
        covariance: Of these; shape (3, 3).
        scatter: Standard deviation of true optima about the law, in natural logarithms.
        sizes: Number of tuned sizes.
    """

    parameter: Hyperparameter
    params: float
    train_tokens: float
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    scatter: float
    sizes: int

    def at(self, params: float, train_tokens: float) -> tuple[float, float, float]:
        """The value for a size, with its 80 percent interval.

        Args:
            params: Parameters without embeddings.
            train_tokens: Tokens of the training.

        Returns:
            Value, lower end, upper end; the interval is where the size's own optimum should lie.
        """
        row = np.array([1.0, math.log(params / self.params), math.log(train_tokens / self.train_tokens)])
        center = float(row @ np.array(self.mean))
        spread = _Z * math.sqrt(float(row @ np.array(self.covariance) @ row) + self.scatter**2)
        return math.exp(center), math.exp(center - spread), math.exp(center + spread)

    @property
    def formula(self) -> str:
        """The law as text."""
        level, a, b = self.mean
        return f"{math.exp(level):.3g} (N / {self.params:.3g})^{a:.3f} (D / {self.train_tokens:.3g})^{b:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """A JSON value that `from_dict` reads back."""
        return asdict(self) | {"mean": list(self.mean), "covariance": [list(row) for row in self.covariance]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ParameterLaw:
        """Reads what `to_dict` wrote."""
        rows = tuple(tuple(row) for row in value["covariance"])
        return cls(**dict(value) | {"mean": tuple(value["mean"]), "covariance": rows})


def fit_law(optima: Sequence[Optimum]) -> ParameterLaw:
    """The law of one hyperparameter from its optima at the tuned sizes.

    Args:
        optima: One a size, at least one, all of the same hyperparameter. With a single one the exponents are those of
            the prior.
    """
    logs = np.log(np.array([[o.params, o.train_tokens] for o in optima], dtype=np.float64))
    center = logs.mean(axis=0)
    design = np.hstack([np.ones((len(optima), 1)), logs - center])
    z = np.log([o.value for o in optima])
    stderr = np.array([o.log_stderr for o in optima])
    (a, a_sd), (b, b_sd) = EXPONENTS[optima[0].parameter]
    prior_mean = np.array([z.mean(), a, b])
    prior = np.diag(np.square([_FREE, a_sd, b_sd]))
    # The scatter is integrated out: two sizes say next to nothing of it, and setting it to 0 would be overconfident.
    fits = [_given(scatter, design, z, stderr, prior_mean, prior) for scatter in _SCATTERS]
    weights = np.exp(np.array([fit[2] for fit in fits]) - max(fit[2] for fit in fits))
    weights /= weights.sum()
    mean = sum((w * fit[0] for w, fit in zip(weights, fits, strict=True)), np.zeros(3))
    covariance = sum(
        (w * (fit[1] + np.outer(fit[0] - mean, fit[0] - mean)) for w, fit in zip(weights, fits, strict=True)),
        np.zeros((3, 3)),
    )
    return ParameterLaw(
        parameter=optima[0].parameter,
        params=float(np.exp(center[0])),
        train_tokens=float(np.exp(center[1])),
        mean=tuple(float(v) for v in mean),
        covariance=tuple(tuple(float(v) for v in row) for row in covariance),
        scatter=math.sqrt(float(weights @ _SCATTERS**2)),
        sizes=len(optima),
    )


def _given(
    scatter: float, design: Array, z: Array, stderr: Array, prior_mean: Array, prior: Array
) -> tuple[Array, Array, float]:
    """Mean and covariance of the coefficients at one scatter, and the log of its posterior density."""
    seen = design @ prior @ design.T + np.diag(stderr**2 + scatter**2)
    gain = np.linalg.solve(seen, design @ prior).T
    off = z - design @ prior_mean
    mean = prior_mean + gain @ off
    covariance = prior - gain @ design @ prior
    _, volume = np.linalg.slogdet(seen)
    evidence = -0.5 * float(off @ np.linalg.solve(seen, off)) - 0.5 * float(volume)
    return mean, 0.5 * (covariance + covariance.T), evidence - 0.5 * (scatter / SCATTER) ** 2
