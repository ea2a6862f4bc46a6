"""What a reader of predictions must know about the runs that they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.predictor.runs import Queries, RunTable

COLLINEAR = 0.98
"""Share of the variance of log losses along one direction above which the domains tell the same."""

FAR = 30.0
"""FLOPs of a target, in those of the largest run, beyond which nothing here was tested."""

VARIED_RATIO = 1.25
"""Largest over smallest ratio of tokens to parameters above which runs count as of different ratios."""

Array = NDArray[Any]


def table_warnings(table: RunTable) -> tuple[str, ...]:
    """Warnings about the fitted runs."""
    found = []
    complete = np.isfinite(table.losses).all(axis=1)
    if table.losses.shape[1] > 1 and complete.sum() > 3:
        logs = np.log(table.losses[complete])
        values = np.linalg.svd(logs - logs.mean(axis=0), compute_uv=False) ** 2
        share = float(values[0] / values.sum()) if values.sum() > 0 else 1.0
        if share > COLLINEAR:
            found.append(
                f"The domain losses are collinear ({100 * share:.1f} % of their variance lies along one direction): "
                f"they tell one number, so FLP (mean loss) is to be preferred over FLP-M (a network on all of them)."
            )
    ratio = table.queries.tokens / table.queries.params
    used = int(table.converged().sum())
    if ratio.max() > VARIED_RATIO * ratio.min():
        found.append(
            f"Tokens per parameter vary across the runs, {ratio.min():.3g} to {ratio.max():.3g}. Laws in FLOPs alone "
            + (
                f"(fp, gpt4, llama3, flp) take the {used} runs at the largest common ratio."
                if used < len(ratio)
                else "(fp, gpt4, llama3, flp) take all of them, no three share a ratio, and are biased."
            )
        )
    if np.ptp(np.log(table.queries.flops)) < 0.1:
        found.append(
            "All runs have one size: what another size changes rests on priors alone (published exponents and "
            "floors), so absolute predictions there are vague, while the order of the mixtures is not."
        )
    return tuple(found)


def distance_warnings(flops_range: tuple[float, float], queries: Queries, names: tuple[str, ...]) -> tuple[str, ...]:
    """Warnings about trainings far beyond the fitted runs."""
    beyond = queries.flops / flops_range[1]
    far = [f"{name} ({ratio:.0f}x)" for name, ratio in zip(names, beyond.tolist(), strict=True) if ratio > FAR]
    if not far:
        return ()
    shown = ", ".join(far[:3]) + (f" and {len(far) - 3} more" if len(far) > 3 else "")
    return (
        f"More than {FAR:.0f}x the FLOPs of the largest fitted run: {shown}. No roll-out reaches that far; "
        f"train a larger sampling run, or take the interval as a lower bound of what is unknown.",
    )
