"""Losses -> score by the paper's two-layer network, an ensemble of them, for the named methods.

Inputs and targets are standardised (the paper does not say how it scales them; unscaled, its weight decay of
0.01 would outweigh the squared error of scores between 0 and 1). Checkpoints are those of section 3.3: spaced,
improving and emerged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.run import stable_hash
from flp_ray.fit.network import Networks, initial_networks, train_networks
from flp_ray.fit.observations import threshold
from flp_ray.fit.predictor.lines import LinearLink, no_link
from flp_ray.fit.predictor.runs import RunTable

FEWEST_RUNS = 2
"""Runs with emerged checkpoints that a task needs."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkLink:
    """Networks of M members for T tasks over D domain losses.

    Attributes:
        centre: Mean of each loss, (D,).
        scale: Spread of each loss, (D,).
        score_centre: Mean score of each task, (T,).
        score_scale: Its spread, (T,).
        networks: M * T networks, a member's tasks side by side.
    """

    centre: Array
    scale: Array
    score_centre: Array
    score_scale: Array
    networks: Networks

    def members(self, inputs: Array) -> Array:
        """Every member's scores, (M, n, T), from losses (M or 1, n, 1, D)."""
        tasks = len(self.score_centre)
        members = self.networks.count // tasks
        scaled = (np.broadcast_to(inputs[:, :, 0], (members, *inputs.shape[1:2], inputs.shape[3])) - self.centre) / (
            self.scale
        )
        outputs = np.empty((members, inputs.shape[1], tasks))
        for t in range(tasks):
            own = Networks(
                hidden=self.networks.hidden[t::tasks],
                output_weight=self.networks.output_weight[t::tasks],
                output_bias=self.networks.output_bias[t::tasks],
            )
            outputs[:, :, t] = self.score_centre[t] + self.score_scale[t] * own.predict(scaled)
        return outputs


def fit_network_link(
    table: RunTable, weights: Array, *, seed: int, steps: int
) -> tuple[NetworkLink | LinearLink, dict[int, str]]:
    """Trains every member's network of every task.

    Args:
        table: The runs.
        weights: Weight of each run in each member, (M, R).
        seed: Seeds the networks' starts; a task's name is in its seed, so no task changes another's fit.
        steps: Adam steps.

    Returns:
        The link, and the tasks that have too few emerged checkpoints, with the reason.

    Reference: Chen et al. 2024, section 4.2.
    """
    points = table.points
    complete = points.spaced & points.improving & np.isfinite(points.losses).all(axis=1)
    lowest = np.array([threshold(t) for t in table.tasks])
    emerged = (complete[:, None] & (points.scores >= lowest)).T  # (T, P)
    needed = len(table.domains) + 2
    reasons = {}
    for t, row in enumerate(emerged):
        own = len(np.unique(points.run[row]))
        if row.sum() < needed or own < FEWEST_RUNS:
            reasons[t] = (
                f"{row.sum()} kept checkpoints of {own} runs have emerged, {needed} of {FEWEST_RUNS} are needed"
            )
    if len(reasons) == len(table.tasks):
        return no_link(len(weights), len(table.tasks), len(table.domains)), reasons
    used = emerged.any(axis=0)
    emerged, x, runs = emerged[:, used], points.losses[used], points.run[used]
    emerged[list(reasons)] = True  # trained on anything and never shown
    y = np.where(emerged & np.isfinite(points.scores[used].T), points.scores[used].T, 0.0)
    number = np.maximum(emerged.sum(axis=1), 1)
    score_centre = y.sum(axis=1) / number
    moved = np.where(emerged, y - score_centre[:, None], 0.0)
    score_scale = np.maximum(np.sqrt((moved**2).sum(axis=1) / number), 1e-9)
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    each = weights[:, None, runs] * emerged
    seeds = [[seed, m, int(stable_hash(t.task, length=8), 16)] for m in range(len(weights)) for t in table.tasks]
    networks, _ = train_networks(
        initial_networks(seeds, x.shape[1]),
        (x - centre) / scale,
        np.broadcast_to(moved / score_scale[:, None], each.shape).reshape(-1, len(runs)),
        each.reshape(-1, len(runs)),
        steps=steps,
    )
    link = NetworkLink(
        centre=centre, scale=scale, score_centre=score_centre, score_scale=score_scale, networks=networks
    )
    return link, reasons
