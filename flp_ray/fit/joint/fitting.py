"""Records -> the joint law: every domain's loss over mixture and size, every task's line on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.records import Records
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit.config import FitSettings, check_settings
from flp_ray.fit.fitting import fit_identity, task_weights
from flp_ray.fit.joint.kernel import Frame
from flp_ray.fit.joint.link import ScoreLink, fit_link
from flp_ray.fit.joint.loss_law import LossLaw, fit_loss_law
from flp_ray.fit.joint.surrogate import JointSurrogate
from flp_ray.fit.observations import Observations, observe, threshold

FEWEST_RUNS = 4
"""Runs with a loss that a domain needs."""

FEWEST_POINTS = 3
"""Emerged checkpoints that a task needs, of at least two runs."""

OVERLAPS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Overlaps that are tried where some mixture lacks a source; a wrong one by a factor of two costs little."""

ONE_OVERLAP = 0.01
"""Overlap where all mixtures have all sources, or few runs are there."""

RUNS_FOR_OVERLAP = 10

LUCK = 2.0
"""Standard errors above chance from which on a score is no luck."""

Array = NDArray[Any]


def fit_joint(records: Records, settings: FitSettings, *, like: JointSurrogate | None = None) -> JointSurrogate:
    """Fits the joint law to the sampling runs.

    Args:
        records: Any records; runs of other purposes than `sampling` change nothing.
        settings: Overlap and weights of the tasks; members and steps do not matter here.
        like: An earlier fit of the same study; its numbers are where the search for new ones begins.

    Raises:
        NotEnoughDataError: No domain has enough runs.
        RecordsError: A measured value is impossible.
        ConfigError: A setting is out of range, or weighs an unknown task.
    """
    check_settings(settings)
    seen = observe(records)
    overlap = settings.overlap if settings.overlap is not None else _overlap(seen, like)
    frame = Frame.of(seen.ratios, seen.flops, overlap)
    laws = _laws(seen, frame, like)
    if not laws:
        raise NotEnoughDataError(
            f"No law can be fitted: no domain has a loss on {FEWEST_RUNS} sampling runs "
            f"({len(seen.run_ids)} runs are finished). Train more of them first."
        )
    links, not_emerged = _links(seen, tuple(law.domain for law in laws))
    given = task_weights(settings, seen)
    shares = np.array([given[link.task] for link in links])
    return JointSurrogate(
        fit_id=fit_identity(records, settings, method="joint 1"),
        sources=seen.sources,
        frame=frame,
        laws=laws,
        links=links,
        weights=shares / shares.sum() if shares.any() else shares,
        not_emerged=not_emerged,
        runs=len(seen.run_ids),
        flops_range=(float(seen.flops.min()), float(seen.flops.max())),
        ratio_ranges=np.stack([seen.ratios.min(axis=0), seen.ratios.max(axis=0)]),
    )


def _laws(seen: Observations, frame: Frame, like: JointSurrogate | None) -> tuple[LossLaw, ...]:
    inputs = frame.inputs(seen.ratios, seen.flops)
    earlier = {law.domain: law.start for law in like.laws} if like else {}
    made = []
    for d, domain in enumerate(seen.domains):
        known = np.isfinite(seen.losses[:, d])
        if known.sum() < FEWEST_RUNS:
            continue
        start = earlier.get(domain)
        made.append(fit_loss_law(domain, inputs.take(known), seen.losses[known, d], frame, start=start))
    return tuple(made)


def _overlap(seen: Observations, like: JointSurrogate | None) -> float:
    """The overlap that makes the losses likeliest, of a few; an earlier fit's while the runs have not grown by half."""
    runs = len(seen.run_ids)
    if len(seen.sources) == 1 or runs < RUNS_FOR_OVERLAP or (seen.ratios > 0).all():
        return ONE_OVERLAP
    if like is not None and like.runs * 1.5 > runs:
        return like.frame.overlap
    cost = []
    for overlap in OVERLAPS:
        laws = _laws(seen, Frame.of(seen.ratios, seen.flops, overlap), like)
        cost.append(sum(law.cost for law in laws))
    return OVERLAPS[int(np.argmin(cost))]


def _links(seen: Observations, domains: tuple[str, ...]) -> tuple[tuple[ScoreLink, ...], dict[str, str]]:
    columns = [seen.domains.index(d) for d in domains]
    complete = np.asarray(np.isfinite(seen.point_losses[:, columns]).all(axis=1))
    made, reasons = [], {}
    for t, task in enumerate(seen.tasks):
        scores = seen.point_performance[:, t]
        errors = seen.stderr[seen.point_run, t]
        known = complete & np.isfinite(scores)
        # Luck alone must not count: a checkpoint has risen where its score is above chance by its error, too.
        luck = task.random_performance + LUCK * np.nan_to_num(errors)
        risen = known & (scores >= np.maximum(threshold(task), luck))
        if risen.sum() >= FEWEST_POINTS and len(np.unique(seen.point_run[risen])) > 1:
            made.append(
                fit_link(
                    task=task.task,
                    random_performance=task.random_performance,
                    threshold=threshold(task),
                    losses=seen.point_losses[known][:, columns],
                    scores=scores[known],
                    runs=np.unique(seen.point_run[known], return_inverse=True)[1],
                    errors=errors[known],
                )
            )
            continue
        best = float(np.nanmax(scores)) if np.isfinite(scores).any() else None
        reasons[task.task] = (
            "No kept checkpoint of a sampling run has a score."
            if best is None
            else f"{int(risen.sum())} of {int(known.sum())} kept checkpoints, "
            f"of {len(np.unique(seen.point_run[risen]))} runs, are above chance "
            f"({task.random_performance:.3g}) by the margin ({task.emergence_margin:.3g}) and twice their error; the "
            f"best score seen is {best:.3g}. Needed: {FEWEST_POINTS} checkpoints of 2 runs. Train larger sampling "
            "runs, or longer."
        )
    return tuple(made), reasons
