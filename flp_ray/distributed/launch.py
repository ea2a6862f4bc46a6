"""Trains a list of runs on the cluster, the longest first, and tells a watcher what happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import Any, Protocol

import ray.tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.stopper import Stopper

from flp_ray.core.run import RunSpec
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.failures import REASON_CHARACTERS, too_many_failed
from flp_ray.distributed.resources import trial_resources
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.distributed.trial import run_trial
from flp_ray.errors import FlpRayError, IncompleteError, StorageError

FULL_BYTES = 2**22
"""With less free than this a disk counts as full."""


class Watcher(Protocol):
    """Is told what happens to runs; the live table on the console is one."""

    def started(self, run_id: str) -> None:
        """A run has got its slot."""
        ...

    def progress(self, run_id: str, tokens: int, train_loss: float) -> None:
        """A run has reached a checkpoint."""
        ...

    def finished(self, run_id: str) -> None:
        """A run is done and recorded."""
        ...

    def retried(self, run_id: str, reason: str) -> None:
        """An attempt failed; the run starts again from its last saved state."""
        ...

    def failed(self, run_id: str, reason: str) -> None:
        """A run failed for good."""
        ...


def train_runs(
    specs: Sequence[RunSpec],
    context: StudyContext,
    *,
    slots: int,
    watcher: Watcher,
    on_finished: Callable[[str], None] = lambda run_id: None,
) -> dict[str, str]:
    """Trains runs that are not finished yet; returns when each is finished or has failed for good.

    Args:
        specs: The runs.
        context: The study.
        slots: Runs at the same time.
        watcher: Is told what happens.
        on_finished: Called with the id of every finished run.

    Returns:
        The reason by run id, of the runs that failed on every attempt.
    """
    follower = Follower(watcher, on_finished, planned=lambda: len(specs), context=context)
    with tune_folder(context.study_dir):
        _tune(specs, context, slots=slots, follower=follower)
    give_up(follower, len(specs))
    return follower.failures


def give_up(follower: Follower, planned: int) -> None:
    """Ends the study where too many of the planned runs failed.

    Raises:
        IncompleteError: They did; says the last reason.
    """
    if follower.gives_up:
        run_id, last = list(follower.failures.items())[-1]
        raise IncompleteError(
            f"{len(follower.failures)} of {planned} runs failed on every attempt, more than "
            f"resources.max_failed_fraction allows, so the study stopped; the last, {run_id}: {last}. What is measured "
            "is stored. Remove the cause and give the same command again."
        )


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


def _tune(specs: Sequence[RunSpec], context: StudyContext, *, slots: int, follower: Follower) -> None:
    longest_first = sorted(specs, key=lambda s: (-s.flops, s.run_id))
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(run_trial, context=context), trial_resources(context.resources)
    )
    Tuner(
        trainable,
        param_space={"spec": ray.tune.grid_search([spec.to_dict() for spec in longest_first])},
        tune_config=TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=slots,
            trial_name_creator=run_name,
            trial_dirname_creator=run_name,
        ),
        run_config=RunConfig(
            name=context.session,
            storage_path=str(context.study_dir / "tune"),
            failure_config=FailureConfig(max_failures=context.resources.retries),
            callbacks=[follower],
            stop=follower.stopper,
            verbose=0,
        ),
    ).fit()


def run_name(trial: Any) -> str:
    """The id of a trial's run, which names its folder too."""
    return str(RunSpec.from_dict(trial.config["spec"]).run_id)


class Follower(Callback):  # type: ignore[misc]
    """Turns Tune's events into the study's.

    Args:
        watcher: Is told what happens.
        on_finished: Called with the id of every finished run.
        planned: Says how many runs there are so far; too many failures among them end the study.
        context: The study.
        on_failed: Called with the id of every run that failed on every attempt.
    """

    def __init__(
        self,
        watcher: Watcher,
        on_finished: Callable[[str], None],
        *,
        planned: Callable[[], int],
        context: StudyContext,
        on_failed: Callable[[str], None] = lambda run_id: None,
    ) -> None:
        self._watcher, self._on_finished, self._on_failed = watcher, on_finished, on_failed
        self._planned, self._context = planned, context
        self.failures: dict[str, str] = {}
        self.stopper = _Stop(self)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that never happens, and a console cannot be pickled."""
        return {}

    @property
    def gives_up(self) -> bool:
        """Whether too many runs have failed for the rest to be worth its cost."""
        return too_many_failed(len(self.failures), self._planned(), self._context.resources)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A run has got its slot."""
        self._watcher.started(run_name(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """A run has reached a checkpoint, is finished or has failed for good."""
        run_id = result["run_id"]
        if "failed" in result:
            self._fail(run_id, result["failed"])
        elif result.get("finished"):
            self._watcher.finished(run_id)
            self._on_finished(run_id)
        elif "train_loss" in result:
            self._watcher.progress(run_id, result["tokens"], result["train_loss"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An attempt failed and is made again."""
        run_id, reason = run_name(trial), last_line(trial)
        self._lose(run_id, reason)
        self._watcher.retried(run_id, reason)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The last attempt failed."""
        run_id, reason = run_name(trial), last_line(trial)
        self._lose(run_id, reason)
        self._fail(run_id, reason)

    def _lose(self, run_id: str, reason: str) -> None:
        with suppress(FlpRayError):  # a full disk must not end the other runs; the watcher tells the reason
            RemoteWriter.find(self._context.study_dir).ask(
                "lose_attempt", run_id, reason, session=self._context.session
            )

    def _fail(self, run_id: str, reason: str) -> None:
        self.failures[run_id] = reason
        self._watcher.failed(run_id, reason)
        self._on_failed(run_id)


class _Stop(Stopper):  # type: ignore[misc]
    """Ends the experiment once too many runs have failed."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as for the follower."""
        return {}

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._follower.gives_up


def last_line(trial: Any) -> str:
    """The last line of a failed trial's traceback; Ray's paragraph about a lost process in plain words."""
    path = trial.error_file
    lines = Path(path).read_text(errors="replace").strip().splitlines() if path and Path(path).exists() else []
    last = lines[-1].strip() if lines else ""
    if not last or "process has died" in last or ("node" in last and "died" in last):
        return "the run's process died (killed, out of memory, or its node was lost)"
    return last[:REASON_CHARACTERS]
