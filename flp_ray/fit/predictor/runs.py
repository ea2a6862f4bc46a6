"""Finished runs as arrays: what every law and link of the predictor is fitted on.

Unlike `flp_ray.fit.observations`, which holds what FLP-M needs during a study, this keeps every checkpoint and
the sizes of the runs, and leaves to each method which of them it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.records import Checkpoint, Records, Run, Task
from flp_ray.core.run import Purpose
from flp_ray.errors import NotEnoughDataError, RecordsError
from flp_ray.fit.observations import SINGLE_SOURCE, improving

SAME_RATIO = 0.1
"""Tokens per parameter closer than this (as a logarithm) count as one ratio."""

SETTLED = 1 / 40
"""Checkpoints within this last share of a training count as its end, where a measured end is judged."""

MOST_SETTLED = 5
"""At most so many checkpoints make a measured end; averaging them takes out evaluation noise."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Queries:
    """Trainings in question; n of them over K sources.

    Attributes:
        params: All parameters, (n,).
        tokens: Training tokens, (n,).
        flops: Training FLOPs, (n,).
        ratios: Share of the training tokens by source, (n, K).
    """

    params: Array
    tokens: Array
    flops: Array
    ratios: Array

    def take(self, which: Array) -> Queries:
        """Some of them, by mask or index."""
        return Queries(
            params=self.params[which], tokens=self.tokens[which], flops=self.flops[which], ratios=self.ratios[which]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Checkpoints; P of them, D domains, T tasks. NaN is missing.

    Attributes:
        run: Index of the run, (P,).
        share: Tokens seen as a share of the run's last checkpoint, (P,).
        improving: Whether the training loss improved on all before, to two decimals, (P,); of a run without
            training losses the mean domain loss stands in (Chen et al. 2024, section 3.3).
        spaced: Whether it is the one nearest to a multiple of 1/30 of the training, (P,).
        losses: Domain losses, nats per token, (P, D).
        scores: Performance, 0 to 1, (P, T).
        bpb: Bits per byte of the gold answer, (P, T).
    """

    run: Array
    share: Array
    improving: Array
    spaced: Array
    losses: Array
    scores: Array
    bpb: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunTable:
    """Runs of one purpose as arrays; R runs, K sources, D domains, T tasks. NaN is missing.

    Attributes:
        run_ids: Names.
        sources: Names, sorted; one made-up source where nobody wrote mixtures down.
        domains: Names.
        tasks: The tasks.
        described: Which tasks the tables describe (chance level known), (T,).
        queries: Sizes, tokens, FLOPs and mixtures of the runs.
        losses: Domain losses at the end, nats per token, (R, D).
        scores: Performance at the end, (R, T).
        bpb: Bits per byte at the end, (R, T).
        errors: Standard errors of the scores, (R, T).
        points: All checkpoints.
    """

    run_ids: tuple[str, ...]
    sources: tuple[str, ...]
    domains: tuple[str, ...]
    tasks: tuple[Task, ...]
    described: Array
    queries: Queries
    losses: Array
    scores: Array
    bpb: Array
    errors: Array
    points: Points

    @property
    def mixtures(self) -> int:
        """Number of distinct mixtures."""
        return len(np.unique(self.queries.ratios.round(9), axis=0))

    def take(self, which: Array) -> Self:
        """The table of some runs, by mask or index."""
        index = np.arange(len(self.run_ids))[which]
        place = np.full(len(self.run_ids), -1)
        place[index] = np.arange(len(index))
        kept = place[self.points.run] >= 0
        p = self.points
        return type(self)(
            run_ids=tuple(self.run_ids[i] for i in index),
            sources=self.sources,
            domains=self.domains,
            tasks=self.tasks,
            described=self.described,
            queries=self.queries.take(index),
            losses=self.losses[index],
            scores=self.scores[index],
            bpb=self.bpb[index],
            errors=self.errors[index],
            points=Points(
                run=place[p.run[kept]],
                share=p.share[kept],
                improving=p.improving[kept],
                spaced=p.spaced[kept],
                losses=p.losses[kept],
                scores=p.scores[kept],
                bpb=p.bpb[kept],
            ),
        )

    def converged(self) -> Array:
        """Runs at one ratio of tokens to parameters, the largest that three runs of two sizes share, (R,).

        All runs where there is no such ratio.

        Reference: Chen et al. 2024, Table 1 (all sampling models at about 182 tokens per parameter).
        """
        ratio = np.log(self.queries.tokens / self.queries.params)
        for top in np.sort(ratio)[::-1]:
            group: Array = (ratio <= top + 1e-12) & (ratio > top - SAME_RATIO)
            if group.sum() >= 3 and np.ptp(np.log(self.queries.flops[group])) > SAME_RATIO:
                return group
        return np.ones(len(ratio), bool)


def run_table(
    records: Records,
    purpose: Purpose,
    *,
    sources: tuple[str, ...],
    domains: tuple[str, ...],
    tasks: tuple[str, ...],
    ends: bool = False,
) -> RunTable:
    """Arrays of the runs of one purpose; a run without any wanted measurement is left out.

    Args:
        records: Any records.
        purpose: Which runs.
        sources: Sources in order, from `known_sources`.
        domains: Domains to keep.
        tasks: Tasks to keep.
        ends: Take the mean over a run's settled checkpoints as its end (for actual values of targets); else
            the last measured checkpoint alone.
    """
    chosen = records.of_purpose(purpose)
    of_run: dict[str, list[Checkpoint]] = {}
    for checkpoint in chosen.checkpoints():
        of_run.setdefault(checkpoint.run.run_id, []).append(checkpoint)
    rows = []
    for run in chosen.runs:
        measured = [c for c in of_run.get(run.run_id, ()) if _measured(c, domains, tasks)]
        if measured:
            rows.append((run, measured, _improving(of_run[run.run_id], domains)))
    finals = [measured[-1] for _, measured, _ in rows]
    last = [_settled(measured) if ends else measured[-1:] for _, measured, _ in rows]
    points = [(i, c, c.tokens in better) for i, (_, measured, better) in enumerate(rows) for c in measured]
    described = {t.task for t in records.tasks}
    return RunTable(
        run_ids=tuple(run.run_id for run, _, _ in rows),
        sources=sources,
        domains=domains,
        tasks=tuple(records.task(t) for t in tasks),
        described=np.array([t in described for t in tasks], bool),
        queries=Queries(
            params=np.array([run.params for run, _, _ in rows], float),
            tokens=np.array([c.tokens for c in finals], float),
            flops=np.array([c.flops for c in finals], float),
            ratios=np.array([_ratios(r, sources) for r, _, _ in rows]).reshape(len(rows), len(sources)),
        ),
        losses=_ends([[c.domain_loss for c in cs] for cs in last], domains),
        scores=_ends([[c.performance for c in cs] for cs in last], tasks),
        bpb=_ends([[c.bpb for c in cs] for cs in last], tasks),
        errors=np.array([[c.stderr.get(("performance", t), np.nan) for t in tasks] for c in finals]).reshape(
            len(rows), len(tasks)
        ),
        points=Points(
            run=np.array([i for i, _, _ in points], dtype=np.intp),
            share=np.array([c.tokens / finals[i].tokens for i, c, _ in points]),
            improving=np.array([better for _, _, better in points], bool),
            spaced=_spaced(points, finals),
            losses=_table([c.domain_loss for _, c, _ in points], domains),
            scores=_table([c.performance for _, c, _ in points], tasks),
            bpb=_table([c.bpb for _, c, _ in points], tasks),
        ),
    )


def known_sources(records: Records) -> tuple[str, ...]:
    """Names of the sources of the sampling runs; one made-up name where they have no mixtures.

    Raises:
        RecordsError: Only some sampling runs have a mixture.
        NotEnoughDataError: There is no sampling run.
    """
    runs = [r for r in records.runs if r.purpose == "sampling"]
    if not runs:
        raise NotEnoughDataError(
            f"Nothing can be fitted: none of {len(records.runs)} runs has the purpose `sampling`. "
            f"Give the runs to fit on this purpose in the runs table."
        )
    without = [r.run_id for r in runs if r.mixture is None]
    if not without:
        return tuple(sorted({s for r in runs if r.mixture for s, share in r.mixture.as_dict().items() if share > 0}))
    if len(without) < len(runs):
        raise RecordsError(
            f"{len(without)} of {len(runs)} sampling runs have no mixture (the first: {without[0]}). "
            f"Give every run its mixing ratios, or none where all share one distribution."
        )
    return (SINGLE_SOURCE,)


def _ratios(run: Run, sources: tuple[str, ...]) -> list[float]:
    if sources == (SINGLE_SOURCE,):
        return [1.0]
    if run.mixture is None:
        raise RecordsError(
            f"Run {run.run_id} has no mixture, but the sampling runs have. Give it the ratios of {', '.join(sources)}."
        )
    return [run.mixture.ratio(s) for s in sources]


def _measured(c: Checkpoint, domains: Sequence[str], tasks: Sequence[str]) -> bool:
    return any(d in c.domain_loss for d in domains) or any(t in c.performance for t in tasks)


def _improving(checkpoints: list[Checkpoint], domains: Sequence[str]) -> set[int]:
    if domains and all(c.train_loss is None for c in checkpoints):
        whole = [c for c in checkpoints if all(d in c.domain_loss for d in domains)]
        checkpoints = [replace(c, train_loss=float(np.mean([c.domain_loss[d] for d in domains]))) for c in whole]
    return {c.tokens for c in improving(checkpoints)}


def _settled(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    end = checkpoints[-1].tokens
    return [c for c in checkpoints if c.tokens >= end * (1 - SETTLED)][-MOST_SETTLED:]


def _spaced(points: list[tuple[int, Checkpoint, bool]], finals: list[Checkpoint], steps: int = 30) -> Array:
    """Marks, of each run, the checkpoint nearest to every multiple of 1/30; of a run with fewer, all of them."""
    run = np.array([i for i, _, _ in points], dtype=np.intp)
    share = np.array([c.tokens / finals[i].tokens for i, c, _ in points])
    marked = np.zeros(len(points), bool)
    for i in range(len(finals)):
        own = np.flatnonzero(run == i)
        nearest = np.abs(share[own][:, None] - np.arange(1, steps + 1) / steps).argmin(axis=0)
        marked[own if len(own) <= steps else own[np.unique(nearest)]] = True
    return marked


def _ends(groups: list[list[dict[str, float]]], names: Sequence[str]) -> Array:
    rows = []
    for group in groups:
        values = [[g[n] for g in group if n in g] for n in names]
        rows.append([float(np.mean(v)) if v else np.nan for v in values])
    return np.array(rows, float).reshape(len(groups), len(names))


def _table(rows: Sequence[dict[str, float]], names: Sequence[str]) -> Array:
    return np.array([[row.get(n, np.nan) for n in names] for row in rows], float).reshape(len(rows), len(names))
