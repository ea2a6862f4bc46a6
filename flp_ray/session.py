"""One call of a study: its lock, its writer, its clock, and the cluster once something must be trained."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import pyarrow as pa
from rich.console import Console

from flp_ray.config import StudyConfig
from flp_ray.core.run import RunSpec
from flp_ray.core.text import PreparedText
from flp_ray.distributed.context import Question, StudyContext
from flp_ray.errors import StorageError
from flp_ray.mirror import Mirror
from flp_ray.pinning import study_text
from flp_ray.report import RunTable
from flp_ray.store import FolderLock, TableWriter, stage_row, storage_uri
from flp_ray.tune import TuningConfig

if TYPE_CHECKING:
    from flp_ray.distributed.store_actor import RemoteWriter

LOCK_WAIT_SECONDS = 5.0


class Asked(Protocol):
    """Decides runs one by one; `flp_ray.rounds.Rounds` is one."""

    def follow(self, *, planned: Callable[[RunSpec], None], say: Callable[[str], None]) -> None:
        """Says who is to be told of each run and each decision."""
        ...

    def ask(self) -> RunSpec | Literal["end"] | None:
        """The next run; `end` when there is none; None while what is training must be known before."""
        ...

    def failed(self, run_id: str) -> None:
        """A run failed on every attempt."""
        ...


@dataclass(slots=True)
class Session:
    """A call of `run`; use it as a context manager.

    Attributes:
        config: The study.
        study_dir: Its folder.
        console: Where to print.
        widest: Workers of the study's widest run.
        name: Name of the call; attempts and stages are recorded under it.
    """

    config: StudyConfig
    study_dir: Path
    console: Console
    widest: int = 1
    name: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}")
    _stack: ExitStack = field(init=False, default_factory=ExitStack)
    _writer: TableWriter | RemoteWriter | None = field(init=False, default=None)
    _mirror: Mirror = field(init=False)
    _connected: bool = field(init=False, default=False)

    def __enter__(self) -> Self:
        lock = FolderLock(self.study_dir, wait_seconds=LOCK_WAIT_SECONDS)
        self._stack.callback(lock.release)
        self._mirror = Mirror(self.study_dir)
        self._stack.callback(self._close_writer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def append(self, table: str, batch: pa.Table) -> int:
        """Appends rows to a table of the study; returns the number of new rows once they are durable."""
        if self._writer is None:
            self._writer = TableWriter(self.study_dir)
        return self._writer.append(table, batch)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures and records how long a stage takes; one that fails is not recorded."""
        started, began = time.time(), time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        row = stage_row(session=self.name, stage=name, seconds=seconds, started=started, peak_bytes=peak)
        self.append("stages", row)
        self._mirror.put()

    def connect(self) -> None:
        """Connects to the cluster, once, and moves the writing to the store actor.

        Raises:
            ResourceError: A run can never start there.
        """
        if self._connected:
            return
        from flp_ray.distributed.cluster import connected

        self._stack.enter_context(connected(self.study_dir, self.config.resources, widest=self.widest))
        from flp_ray.distributed.store_actor import start_store

        self._close_writer()
        self._writer = start_store(self.study_dir)
        self._connected = True

    def text(self) -> PreparedText:
        """The study's text, prepared on the cluster where it is not there yet, and pinned."""
        self.connect()
        from flp_ray.distributed.text import text_tasks

        def say(line: str) -> None:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

        return study_text(self.config, self.study_dir, say, text_tasks(self.study_dir, storage_uri(self.study_dir)))

    def train(
        self,
        specs: Sequence[RunSpec],
        text: PreparedText,
        *,
        earlier: int,
        question: Question | None = None,
    ) -> dict[str, str]:
        """Trains and measures runs on the cluster.

        Args:
            specs: Runs that are not finished yet.
            text: The prepared text.
            earlier: Runs of the same stage that were finished before, for the display.
            question: What the surrogate is asked whenever a run has finished.

        Returns:
            The reason by run id, of the runs that failed on every attempt.
        """
        self.connect()
        from flp_ray.distributed.launch import train_runs
        from flp_ray.distributed.surrogate_actor import Outlook

        with self._measuring(text) as context, RunTable(specs, self.console, earlier) as table:
            follow = Outlook(self.study_dir, question, table.say).on_finished if question else _ignore
            return train_runs(specs, context, watcher=table, on_finished=follow)

    def search(self, rounds: Asked, text: PreparedText, *, earlier: int) -> dict[str, str]:
        """Trains and measures runs that are decided one by one, whenever a slot is free.

        Args:
            rounds: Decides them.
            text: The prepared text.
            earlier: Sampling runs that were finished before, for the display.

        Returns:
            The reason by run id, of the runs that failed on every attempt.
        """
        self.connect()
        from flp_ray.distributed.launch import train_asked

        with self._measuring(text) as context, RunTable((), self.console, earlier) as table:
            rounds.follow(planned=table.planned, say=table.note)
            return train_asked(rounds.ask, context, watcher=table, on_failed=rounds.failed)

    def tune(self, trials: Sequence[RunSpec], text: PreparedText, tuning: TuningConfig) -> dict[str, str]:
        """Trains the trials of a tuning on the cluster; those that are over are not trained again.

        Args:
            trials: All trials.
            text: The prepared text.
            tuning: The tuning.

        Returns:
            The reason by trial, of those that failed on every attempt.
        """
        self.connect()
        from flp_ray.distributed.tuning import tune_trials
        from flp_ray.report.tuning_view import TrialLines

        lines = TrialLines(trials, tuning.parameters, self.console)
        return tune_trials(trials, self._context(text), tuning, watcher=lines)

    @contextmanager
    def _measuring(self, text: PreparedText) -> Iterator[StudyContext]:
        """What the processes of the study are told; evaluators run meanwhile, where there are any."""
        from flp_ray.distributed.evaluators import start_evaluators

        context, evaluators = self._context(text), self.config.resources.evaluators
        handles = [] if evaluators is None else start_evaluators(context, evaluators)
        try:
            yield context
        finally:
            handles.clear()  # their actors end with them

    def _context(self, text: PreparedText) -> StudyContext:
        return StudyContext(
            study_dir=self.study_dir,
            session=self.name,
            text=text,
            measure=self.config.measure,
            resources=self.config.resources,
            max_epochs=self.config.text.max_epochs,
            keep_checkpoints=self.config.training.keep_checkpoints,
            storage_uri=storage_uri(self.study_dir),
        )

    def _close_writer(self) -> None:
        if isinstance(self._writer, TableWriter):
            self._writer.close()
        self._writer = None


def _ignore(run_id: str) -> None:
    """Nobody follows."""


def check_disk(study_dir: Path, wanted_bytes: float) -> None:
    """Refuses to start a study that its disk cannot hold.

    Args:
        study_dir: The study's folder, which may not exist yet.
        wanted_bytes: The plan's largest use of the disk.

    Raises:
        StorageError: Less than that is free.
    """
    place = next(folder for folder in (study_dir, *study_dir.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < wanted_bytes:
        raise StorageError(
            f"The study needs up to {wanted_bytes / 1e9:.3g} GB in {study_dir}, {free / 1e9:.3g} GB are free there. "
            "Free some, or give another --study-dir."
        )
