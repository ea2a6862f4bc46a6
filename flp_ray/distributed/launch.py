"""Trains runs on the cluster: whenever there is room somebody is asked for the next, and a watcher is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import Any, Literal

import ray.tune
from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.search import Searcher

from flp_ray.core.run import RunSpec
from flp_ray.distributed.cluster import live_nodes
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.follower import Follower, Watcher, run_name
from flp_ray.distributed.resources import Pool, trial_resources
from flp_ray.distributed.trial import run_trial
from flp_ray.errors import IncompleteError, StorageError

FULL_BYTES = 2**22
"""With less free than this a disk counts as full."""

END: Literal["end"] = "end"

Ask = Callable[[], RunSpec | Literal["end"] | None]
"""The next run; `end`: there is none; None: not yet, something that is training must be known before."""

MOST_FAILURES = 1000
"""Of one run; how many it may have without coming further it counts itself (`run_trial`), unless it dies before."""

Trial = Callable[..., None]
"""A Tune trainable: (config, context) -> None; reports `finished` or `failed` with its `run_id`."""

RUNS_PER_EXPERIMENT = 500
"""Tune keeps every trial of an experiment in memory and writes all of them down again and again, so a long study is
several experiments, one after the other."""


def train_runs(
    specs: Sequence[RunSpec],
    context: StudyContext,
    *,
    watcher: Watcher,
    on_finished: Callable[[str], None] = lambda run_id: None,
    trial: Trial = run_trial,
) -> dict[str, str]:
    """Trains runs that are not finished yet, the longest first; see `train_asked`.

    Args:
        specs: The runs.
        context: The study.
        watcher: Is told what happens.
        on_finished: Called with the id of every finished run.
        trial: What is done for each run.
    """
    waiting = iter(sorted(specs, key=lambda s: (-s.flops, s.run_id)))
    return train_asked(
        lambda: next(waiting, END),
        context,
        watcher=watcher,
        on_finished=on_finished,
        planned=len(specs),
        trial=trial,
    )


def train_asked(
    ask: Ask,
    context: StudyContext,
    *,
    watcher: Watcher,
    on_finished: Callable[[str], None] = lambda run_id: None,
    on_failed: Callable[[str], None] = lambda run_id: None,
    planned: int | None = None,
    trial: Trial = run_trial,
) -> dict[str, str]:
    """Trains one run after another; returns when there is none left and none is training.

    A run that does not fit into what is free waits, and all that come after it wait too: a wide run is never passed by
    narrow ones for ever.

    Args:
        ask: Called in this process whenever there is room.
        context: The study.
        watcher: Is told what happens.
        on_finished: Called with the id of every finished run, once its records are stored.
        on_failed: Called with the id of every run that failed on every attempt.
        planned: How many runs there will be; None: as many as have been asked for.
        trial: What is done for each run.

    Returns:
        The reason by run id, of the runs that failed on every attempt.

    Raises:
        IncompleteError: Too many runs failed.
    """
    asking = _Asking(ask, context, Pool(context.resources, live_nodes))

    def count() -> int:
        return asking.asked if planned is None else planned

    follower = Follower(watcher, on_finished, planned=count, context=context, on_failed=on_failed)
    with tune_folder(context.study_dir) as folder:
        while not (asking.over or follower.gives_up):
            asking.begin()
            _tuner(asking, follower, context, folder, trial).fit()
    if asking.error is not None:
        raise asking.error
    if follower.gives_up:
        run_id, last = list(follower.failures.items())[-1]
        raise IncompleteError(
            f"{len(follower.failures)} of {count()} runs failed on every attempt, "
            f"more than resources.max_failed_fraction allows, so the study stopped; the last, {run_id}: {last}. What "
            "is measured is stored. Remove the cause and give the same command again."
        )
    return follower.failures


def _tuner(asking: _Asking, follower: Follower, context: StudyContext, folder: Path, trial: Trial) -> Tuner:
    trainable = ray.tune.with_parameters(trial, context=context)
    return Tuner(
        ray.tune.with_resources(trainable, lambda config: _resources(context, config)),
        tune_config=TuneConfig(
            search_alg=asking,
            num_samples=RUNS_PER_EXPERIMENT,
            reuse_actors=True,
            trial_name_creator=run_name,
            trial_dirname_creator=run_name,
        ),
        run_config=RunConfig(
            name=f"{context.session}-{asking.asked}",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
            callbacks=[follower],
            stop=follower.stopper,
            verbose=0,
        ),
    )


def _resources(context: StudyContext, config: dict[str, Any]) -> Any:
    spec = RunSpec.from_dict(config["spec"])
    return ray.tune.PlacementGroupFactory([trial_resources(context.resources, context.execution(spec))])


@contextmanager
def tune_folder(study_dir: Path) -> Iterator[Path]:
    """Gives Tune a folder for its own files, which are no record; the store is.

    Args:
        study_dir: The study's folder.

    Yields:
        The folder; gone when all went well.

    Raises:
        StorageError: Tune fell over a full disk.
    """
    for name in ("ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # every failure is told by the watcher and in the store
    experiment = study_dir / "tune"
    for leftover in (experiment, study_dir / "train"):
        rmtree(leftover, ignore_errors=True)  # of calls that were killed
    try:
        yield experiment
    except Exception as error:
        free = disk_usage(study_dir).free
        if free > FULL_BYTES:
            raise
        raise StorageError(
            f"The disk of {study_dir} is full ({free} bytes are free), so the runs stopped. What is stored "
            "stays as it is; free space and give the same command again."
        ) from error
    rmtree(experiment, ignore_errors=True)


class _Asking(Searcher):  # type: ignore[misc]
    """What Tune takes for a search algorithm: it passes the question on, as long as there is room."""

    def __init__(self, ask: Ask, context: StudyContext, pool: Pool) -> None:
        super().__init__(metric=None, mode=None)
        self._ask, self._context, self._pool = ask, context, pool
        self._next: RunSpec | None = None
        self._running: dict[str, str] = {}
        self._here = 0
        self.asked = 0
        self.over = False
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its search algorithms for a restore that never happens."""
        return {}

    def begin(self) -> None:
        """Another experiment begins."""
        self._here = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.over or self._here >= RUNS_PER_EXPERIMENT:
            return str(Searcher.FINISHED)
        if not self._pool.has_room(1):
            return None
        try:
            answer = self._ask() if self._next is None else self._next
        except Exception as error:  # noqa: BLE001 - Tune would wrap it; it is raised once what trains has ended
            self.error, answer = error, END
        if isinstance(answer, str):
            self.over = True
            return str(Searcher.FINISHED)
        self._next = answer
        if answer is None:
            return None
        workers = self._context.execution(answer).workers
        if not self._pool.has_room(workers):
            return None
        self._pool.hold(answer.run_id, workers)
        self._running[trial_id] = answer.run_id
        self._next = None
        self._here += 1
        self.asked += 1
        return {"spec": answer.to_dict()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The run's workers are free again; the store says how it ended."""
        self._pool.release(self._running.pop(trial_id, ""))

    def save(self, checkpoint_path: str) -> None:
        """An empty file, which Tune wants to find."""
        Path(checkpoint_path).write_text("{}")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on from its store."""
