"""All replays of a bench, in processes of one thread each; every one is kept in a file of its own.

A bench that was stopped goes on where it was: a replay is done again only where its world, its seed or a source that
its strategy reads has changed (`Competitor.fingerprint`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.search.replay import Point, Trajectory, replay
from tests.benchmarks.search.strategies import Competitor
from tests.benchmarks.search.worlds import Case, planted_cases, table_case

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

HELD_RUNS = 64
"""On a table a replay ends once the goal has held for so many further runs: more would only cost time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One replay. Its fingerprint is taken when a bench begins: a source that changes meanwhile is the next one's."""

    case: str
    table: Path | None
    competitor: Competitor
    seed: int
    fingerprint: str

    def file(self, folder: Path) -> Path:
        """Where its trajectory is kept."""
        return folder / self.case / self.competitor.name / f"{self.seed}-{self.fingerprint}.json"


Results = dict[str, dict[str, list[Trajectory]]]
"""Trajectories by world and strategy, in the order of the seeds."""


def cases_of(table: Path | None) -> dict[str, Case]:
    """The worlds by name; the table's only where its folder is given."""
    cases = (*planted_cases(), *(() if table is None else (table_case(table),)))
    return {case.name: case for case in cases}


def jobs_of(cases: Sequence[Case], competitors: Sequence[Competitor], seeds: int, table: Path | None) -> list[Job]:
    """Every replay, seed by seed, so that a bench that is stopped has some of everything."""
    return [
        Job(case=case.name, table=table, competitor=competitor, seed=seed, fingerprint=competitor.fingerprint())
        for seed in range(seeds)
        for case in cases
        for competitor in competitors
        if case.kind in competitor.worlds
    ]


def run_jobs(jobs: Sequence[Job], folder: Path, *, processes: int, said: Callable[[str], None] = print) -> Results:
    """Runs what is not kept yet and reads the rest.

    Args:
        jobs: From `jobs_of`.
        folder: Where trajectories are kept.
        processes: Processes at once, each of one thread.
        said: Takes lines of progress.
    """
    todo = [job for job in jobs if not job.file(folder).is_file()]
    said(f"{len(jobs)} replays, {len(jobs) - len(todo)} kept from before in {folder}; {len(todo)} to do")
    began = time.monotonic()
    for done, (job, seconds) in enumerate(_finished(todo, folder, processes), 1):
        if done % 20 == 0 or done == len(todo) or seconds > 60:
            took = time.monotonic() - began
            said(
                f"{done}/{len(todo)} after {took:.0f} s, about {took / done * (len(todo) - done):.0f} s to go; "
                f"last: {job.case}, {job.competitor.name}, seed {job.seed}, {seconds:.1f} s"
            )
    results: Results = {}
    for job in jobs:
        kept = Trajectory.from_dict(json.loads(job.file(folder).read_text()))
        results.setdefault(job.case, {}).setdefault(job.competitor.name, []).append(kept)
    return results


def run_job(job: Job, folder: Path) -> float:
    """One replay into its file; its seconds."""
    case = cases_of(job.table)[job.case]
    problem, judge = case.make(job.seed)
    hold = _held(case.goal) if case.kind == "table" and case.goal is not None else None
    made = replay(job.competitor.strategy()(problem, job.seed), problem, judge, hold=hold)
    file = job.file(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in file.parent.glob(f"{job.seed}-*.json"):  # of sources that have changed since
        old.unlink()
    scratch = file.with_suffix(".part")
    scratch.write_text(json.dumps(made.as_dict()))
    scratch.replace(file)
    return made.seconds


def _finished(jobs: Sequence[Job], folder: Path, processes: int) -> Iterator[tuple[Job, float]]:
    if processes == 1:
        yield from ((job, run_job(job, folder)) for job in jobs)
        return
    for name in THREADS:
        os.environ[name] = "1"  # the processes start afresh and read it before they load numpy
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_job, job, folder): job for job in jobs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _held(goal: float) -> Callable[[list[Point]], bool]:
    def enough(points: list[Point]) -> bool:
        so_far = Trajectory(points=tuple(points), spent=points[-1].spent, ended="", seconds=0.0)
        cost = so_far.cost_to_goal(goal)
        return cost is not None and points[-1].spent - cost >= HELD_RUNS

    return enough
