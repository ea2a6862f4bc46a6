"""Which tasks a table can say anything about: those that some runs have risen on."""

from __future__ import annotations

import numpy as np

from flp_ray.fit.observations import threshold
from flp_ray.fit.predictor.runs import RunTable

FEWEST_EMERGED = 2
"""Runs that must end above chance by a task's margin before its sigmoid is trusted."""


def not_risen(table: RunTable) -> dict[int, str]:
    """Tasks that too few runs have risen on, with the reason in words."""
    reasons = {}
    for t, task in enumerate(table.tasks):
        scores = table.scores[:, t]
        measured = int(np.isfinite(scores).sum())
        if not measured:
            reasons[t] = "no run has a score"
            continue
        lowest = threshold(task) if table.described[t] else float(np.nanmin(scores)) + task.emergence_margin
        risen = int((scores >= lowest).sum())
        if risen < FEWEST_EMERGED or measured < FEWEST_EMERGED + 1:
            reasons[t] = (
                f"out of reach: {risen} of {measured} runs end at {lowest:.3g} or above (chance and margin), the best "
                f"at {float(np.nanmax(scores)):.3g}; {FEWEST_EMERGED} are needed. Add larger or longer runs: of a "
                f"larger model, its checkpoints on the way count too"
            )
    return reasons
