"""How much the treatment of ratio 0 matters: the law refitted with other overlaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.mixture_law import MixtureLaw, fit_mixture_laws

Array = NDArray[Any]


def overlap_sensitivity(
    laws: tuple[MixtureLaw, ...], ratios: Array, flops: Array, losses: Array
) -> list[dict[str, float]]:
    """What another overlap would change: a third and three times the fitted one beside it.

    Returns:
        Rows with `overlap`, `held_out_error` (mean leave-one-run-out relative error over the domains) and
        `move` (mean relative change of the predicted losses at the largest FLOPs, over the fitted mixtures
        and the midpoints between them). Empty where the law does not depend on the mixture.
    """
    distinct = np.unique(ratios, axis=0)
    if len(distinct) < 2:
        return []
    i, j = np.triu_indices(len(distinct))
    points = (distinct[i] + distinct[j])[:2000] / 2
    sources = tuple(laws[0].ratio_ranges)
    domains = tuple(law.domain for law in laws)
    here = np.stack([law.loss(points, flops.max()) for law in laws])
    table = []
    for overlap in (laws[0].overlap / 3, laws[0].overlap, min(0.5, laws[0].overlap * 3)):
        other, _ = fit_mixture_laws(
            sources=sources, domains=domains, ratios=ratios, flops=flops, losses=losses, overlap=overlap
        )
        moved = np.stack([law.loss(points, flops.max()) for law in other])
        errors = [law.held_out_error for law in other if law.held_out_error is not None]
        row = {"overlap": overlap, "move": float(np.mean(np.abs(moved / here - 1)))}
        table.append(row | ({"held_out_error": float(np.mean(errors))} if errors else {}))
    return table
