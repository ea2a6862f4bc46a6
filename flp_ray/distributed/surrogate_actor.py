"""The central surrogate: refits as records arrive, beside the training, so that the best guess is always at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from flp_ray.distributed.cluster import on_this_node
from flp_ray.distributed.context import Question
from flp_ray.distributed.failures import reason
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit import fit_surrogate
from flp_ray.store import finished_runs, load_records


class SurrogateActor:
    """Fits on what the store holds when it is asked; a refit that would see nothing new is skipped.

    Args:
        study_dir: The study's folder.
        question: What is asked of every fit.
    """

    def __init__(self, study_dir: Path, question: Question) -> None:
        os.nice(10)  # on a small machine the refits must not hold up the trainings
        self._study_dir, self._question = study_dir, question
        self._seen: frozenset[str] = frozenset()
        self._answer = "no fit yet"

    def refresh(self) -> str:
        """Refits if another run has finished; returns the best mixture by the present fit, in words."""
        done = frozenset(finished_runs(self._study_dir)) & self._question.run_ids
        if done != self._seen:
            self._seen = done
            self._answer = f"surrogate of {len(done)} runs: {self._look(done)}"
        return self._answer

    def _look(self, done: frozenset[str]) -> str:
        mixtures = self._question.mixtures
        try:
            surrogate = fit_surrogate(load_records(self._study_dir).of_runs(done), self._question.settings)
            if not surrogate.tasks:
                return "no task has emerged yet"
            predictions = surrogate.predict(mixtures, self._question.flops)
        except NotEnoughDataError:
            return "too few runs for a fit yet"
        best = max(range(len(mixtures)), key=lambda i: predictions[i].objective.mean)
        expected = predictions[best].objective
        percent = [f"{100 * value:.1f}" for value in (expected.mean, expected.low, expected.high)]
        return f"best of the grid would be {mixtures[best]} with {percent[0]} ({percent[1]} to {percent[2]})"


class Outlook:
    """Asks the surrogate actor whenever a run has finished, without ever waiting for it.

    Args:
        study_dir: The study's folder.
        question: What is asked of every fit.
        tell: Is given the latest answer.
    """

    def __init__(self, study_dir: Path, question: Question, tell: Callable[[str], None]) -> None:
        # The actor takes no CPU share: it never waits for a run to end, and no run waits for it. It reads the study's
        # tables, so it stays on the driver's node.
        here = on_this_node()
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
        self._actor = ray.remote(SurrogateActor).options(**options).remote(study_dir, question)
        self._tell = tell
        self._pending: Any = None

    def on_finished(self, run_id: str) -> None:
        """Passes on an answer that is ready and asks again, unless the last question is still open."""
        if self._pending is not None:
            ready, _ = ray.wait([self._pending], timeout=0)
            if not ready:
                return
            try:
                self._tell(ray.get(self._pending))
            except Exception as error:  # noqa: BLE001 - an outlook is an adornment; no failure of it may end a study
                self._tell(f"no outlook: {reason(error)}")
        self._pending = self._actor.refresh.remote()
