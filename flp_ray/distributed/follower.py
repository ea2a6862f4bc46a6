"""Tune's events as the study's: who is told that a run has started, has come further, has ended or has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.stopper import Stopper

from flp_ray.core.run import RunSpec
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.failures import LOST, REASON_CHARACTERS, too_many_failed
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.errors import FlpRayError

PROGRESS_SECONDS = 1.0
"""Time between two questions of how far the runs are."""


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
        self._looked = time.monotonic()
        self._started: set[str] = set()
        self.failures: dict[str, str] = {}
        self.stopper = _Stop(self)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that never happens, and a console cannot be pickled."""
        return {}

    @property
    def gives_up(self) -> bool:
        """Whether too many runs have failed for the rest to be worth its cost."""
        return too_many_failed(len(self.failures), self._planned(), self._context.resources)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Passes on how far the runs are; their first workers tell the store, whatever node they are on."""
        if time.monotonic() - self._looked < PROGRESS_SECONDS:
            return
        self._looked = time.monotonic()
        with suppress(FlpRayError):  # a store that cannot answer ends the runs, which is told then
            for run_id, (tokens, train_loss) in RemoteWriter.find(self._context.study_dir).ask("progress").items():
                if run_id in self._started:  # not what a run of an earlier stage noted last
                    self._watcher.progress(run_id, tokens, train_loss)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A run has got its slot."""
        self._started.add(run_name(trial))
        self._watcher.started(run_name(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """A run is finished or has failed for good."""
        run_id = result["run_id"]
        if "failed" in result:
            self._fail(run_id, result["failed"])
        elif result.get("finished"):
            self._watcher.finished(run_id)
            self._on_finished(run_id)

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
        return LOST
    return last[:REASON_CHARACTERS]
