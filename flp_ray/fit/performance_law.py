"""Stage 2 of FLP-M: domain losses -> score of each task that has emerged, by a line and small networks on top.

Inputs and targets are standardised (the paper does not say how it scales them; unscaled, its weight decay
of 0.01 would outweigh the squared error of scores between 0 and 1 and flatten every fit).

A deviation from the paper: its network is trained on what a line leaves (`line.py`), not on the score itself.
Alone, every fifth network or so has a unit that switches off just beyond the data, where a prediction is
wanted: as good a fit, and flat from there. Over planted worlds of the paper's design the mean of the networks came
out 2 to 7 points too low at 7B, and the decay, which shares a slope out among losses that move together,
moved the best ratio of code by up to 0.05. On the residuals the same decay keeps the network near 0 where a
line is enough; where scores bend, it bends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.run import stable_hash
from flp_ray.fit.line import fit_lines
from flp_ray.fit.network import Networks, initial_networks, train_networks
from flp_ray.fit.observations import Observations

FEWEST_RUNS = 3
"""Runs with emerged checkpoints that a task needs: with two, none can be left out and a trend remain."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerformanceLaw:
    """Networks of M members for each of T tasks over D domain losses.

    Attributes:
        tasks: Tasks with a law, sorted.
        input_mean: Mean of each domain loss over the fitted points, (D,).
        input_spread: Standard deviation, (D,).
        score_mean: Mean score over a task's emerged points, (T,).
        score_spread: Standard deviation, (T,).
        line: Each member's slopes on the standardised losses and its constant, (M, T, D + 1).
        networks: M * T networks of what the lines leave, a member's tasks side by side.
        error: Mean squared error of each network on its own points, in units of the score's variance, (M, T).
        observations: Emerged points by task.
        fit_error: Mean relative error of the members' mean on these points, from measured losses, (T,).
    """

    tasks: tuple[str, ...]
    input_mean: Array
    input_spread: Array
    score_mean: Array
    score_spread: Array
    line: Array
    networks: Networks
    error: Array
    observations: dict[str, int]
    fit_error: Array

    def members(self, losses: Array) -> Array:
        """Every member's prediction, not clipped.

        Args:
            losses: Domain losses, nats per token, (M, n, D) for each member its own, or (1, n, D) for all.

        Returns:
            Scores, (M, n, T).
        """
        inputs = (losses - self.input_mean) / self.input_spread
        tasks = len(self.tasks)
        members = self.networks.count // tasks if tasks else len(losses)
        outputs = np.empty((members, losses.shape[1], tasks))
        for t in range(tasks):
            one = Networks(
                hidden=self.networks.hidden[t::tasks],
                output_weight=self.networks.output_weight[t::tasks],
                output_bias=self.networks.output_bias[t::tasks],
            )
            straight = np.matmul(inputs, self.line[:, t, :-1, None])[:, :, 0] + self.line[:, t, -1:]
            outputs[:, :, t] = self.score_mean[t] + self.score_spread[t] * (straight + one.predict(inputs))
        return outputs


def emergence(observations: Observations) -> tuple[tuple[int, ...], dict[str, str]]:
    """Which tasks can be predicted, and for the others why not, in words.

    Returns:
        Indices of the tasks with enough emerged checkpoints, and the reasons by name of the other tasks.
    """
    needed = len(observations.domains) + 2
    able, reasons = [], {}
    for index, task in enumerate(observations.tasks):
        scores = observations.point_performance[:, index]
        measured = int(np.isfinite(scores).sum())
        emerged = observations.emerged_points(index)
        runs = len(np.unique(observations.point_run[emerged]))
        if emerged.sum() >= needed and runs >= FEWEST_RUNS:
            able.append(index)
        elif not measured:
            reasons[task.task] = "No kept checkpoint of a sampling run has a score."
        else:
            reasons[task.task] = (
                f"{emerged.sum()} of {measured} kept checkpoints, of {runs} runs, reach chance "
                f"({task.random_performance:.3g}) plus margin ({task.emergence_margin:.3g}); the best score "
                f"seen is {np.nanmax(scores):.3g}. Needed: {needed} checkpoints of {FEWEST_RUNS} runs. "
                f"Train larger sampling runs, or longer."
            )
    return tuple(able), reasons


def fit_performance(
    observations: Observations, tasks: tuple[int, ...], counts: Array, *, seed: int, steps: int
) -> PerformanceLaw:
    """Trains the ensemble on the kept checkpoints that have emerged.

    Args:
        observations: The sampling runs.
        tasks: Indices of the tasks to fit; none gives a law without tasks.
        counts: How often each member drew each run, (M, R).
        seed: The fit's seed.
        steps: Adam steps of each network.
    """
    if not tasks:
        return _no_tasks(len(observations.domains))
    emerged = np.stack([observations.emerged_points(t) for t in tasks])
    used = emerged.any(axis=0)
    emerged, runs, losses = emerged[:, used], observations.point_run[used], observations.point_losses[used]
    scores = np.where(emerged, observations.point_performance[used][:, list(tasks)].T, 0.0)
    number = emerged.sum(axis=1)
    mean = losses.mean(axis=0)
    spread = _spread(losses.std(axis=0))
    score_mean = scores.sum(axis=1) / number
    centred = np.where(emerged, scores - score_mean[:, None], 0.0)
    score_spread = _spread(np.sqrt((centred**2).sum(axis=1) / number))
    inputs, targets = (losses - mean) / spread, centred / score_spread[:, None]
    drawn = np.where(_sees_all(observations, tasks, counts)[:, :, None], 1, counts[:, None, :])
    line = fit_lines(inputs, targets, emerged, runs, drawn)
    left = targets - (line[:, :, :-1] @ inputs.T + line[:, :, -1:])
    names = tuple(observations.tasks[t].task for t in tasks)
    networks, error = train_networks(
        initial_networks(_seeds(seed, len(counts), names), losses.shape[1]),
        inputs,
        left.reshape(-1, len(runs)),
        (drawn[:, :, runs] * emerged).reshape(-1, len(runs)),
        steps=steps,
    )
    law = PerformanceLaw(
        tasks=names,
        input_mean=mean,
        input_spread=spread,
        score_mean=score_mean,
        score_spread=score_spread,
        line=line,
        networks=networks,
        error=error.reshape(len(counts), len(names)),
        observations=dict(zip(names, number.tolist(), strict=True)),
        fit_error=np.zeros(len(names)),
    )
    fitted = law.members(losses[None]).mean(axis=0).T
    relative = np.divide(np.abs(fitted - scores), scores, out=np.zeros_like(scores), where=scores > 0)
    return replace(law, fit_error=relative.sum(axis=1) / number)


def _no_tasks(domains: int) -> PerformanceLaw:
    return PerformanceLaw(
        tasks=(),
        input_mean=np.zeros(domains),
        input_spread=np.ones(domains),
        score_mean=np.zeros(0),
        score_spread=np.zeros(0),
        line=np.zeros((0, 0, domains + 1)),
        networks=initial_networks([], domains),
        error=np.zeros((0, 0)),
        observations={},
        fit_error=np.zeros(0),
    )


def _seeds(seed: int, members: int, names: tuple[str, ...]) -> list[list[int]]:
    """Seeds of the networks' starts; a task's name is in them, so that one task's fit changes no other's."""
    return [[seed, member, int(stable_hash(name, length=8), 16)] for member in range(members) for name in names]


def out_of_bag(observations: Observations, tasks: tuple[int, ...], counts: Array) -> Array:
    """Which runs each member's law of each task has not seen, (M, R, T)."""
    unseen: Array = (counts == 0)[:, :, None] & ~_sees_all(observations, tasks, counts)[:, None, :]
    return unseen


def _spread(values: Array) -> Array:
    """Divisors to standardise by; 1 for what does not vary."""
    return np.asarray(np.where(values > 1e-9, values, 1.0))


def _sees_all(observations: Observations, tasks: tuple[int, ...], counts: Array) -> Array:
    """Members that drew too few emerged runs of a task and are trained on all of them, (M, T)."""
    drawn = [
        (counts[:, np.unique(observations.point_run[observations.emerged_points(t)])] > 0).sum(axis=1) for t in tasks
    ]
    few: Array = np.array(drawn).reshape(len(tasks), len(counts)).T < FEWEST_RUNS - 1
    return few
