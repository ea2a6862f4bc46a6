"""Bootstrap of runs: every member of the ensemble draws runs, never checkpoints.

Checkpoints of one run share its seed and its order of text, so they are not independent; runs are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.mixture_law import design_rank

MOST_DRAWS = 1000
"""Draws tried for a resample that still identifies the law; with the fewest runs, every second does."""

Array = NDArray[Any]


def resample_runs(rows: Array, *, members: int, seed: int) -> Array:
    """How often each member draws each run.

    A draw that identifies fewer numbers of the law than all runs do is drawn again. Where no draw serves, the
    member takes every run once.

    Args:
        rows: The law's design, one row a run, (R, K + 2).
        members: Members of the ensemble, M.
        seed: The fit's seed; a member's draw depends on no other member.

    Returns:
        Counts, (M, R); each row sums to R.
    """
    runs, rank = len(rows), design_rank(rows)
    counts = np.ones((members, runs), dtype=np.int64)
    for member in range(members):
        generator = np.random.default_rng([seed, member])
        for _ in range(MOST_DRAWS):
            drawn = np.bincount(generator.integers(0, runs, runs), minlength=runs)
            if design_rank(rows[drawn > 0]) == rank:
                counts[member] = drawn
                break
    return counts
