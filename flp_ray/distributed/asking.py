"""Trains runs that are decided one by one: whenever a slot is free, somebody is asked for the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ray.tune
from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.search import Searcher

from flp_ray.core.run import RunSpec
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.launch import Follower, Watcher, give_up, run_name, tune_folder
from flp_ray.distributed.resources import trial_resources
from flp_ray.distributed.trial import run_trial

END: Literal["end"] = "end"

Ask = Callable[[], RunSpec | Literal["end"] | None]
"""The next run; `end`: there is none; None: not yet, something that is training must be known before."""

MOST_RUNS = 1_000_000
"""Tune wants to know how many there may be."""


def train_asked(
    ask: Ask,
    context: StudyContext,
    *,
    slots: int,
    watcher: Watcher,
    on_finished: Callable[[str], None] = lambda run_id: None,
    on_failed: Callable[[str], None] = lambda run_id: None,
) -> dict[str, str]:
    """Trains one run after another; returns when there is none left and none is training.

    Args:
        ask: Called in this process whenever a slot is free.
        context: The study.
        slots: Runs at the same time.
        watcher: Is told what happens.
        on_finished: Called with the id of every finished run, once its records are stored.
        on_failed: Called with the id of every run that failed on every attempt.

    Returns:
        The reason by run id, of the runs that failed on every attempt.

    Raises:
        IncompleteError: Too many runs failed.
    """
    asking = _Asking(ask)
    follower = Follower(watcher, on_finished, planned=lambda: asking.asked, context=context, on_failed=on_failed)
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(run_trial, context=context), trial_resources(context.resources)
    )
    with tune_folder(context.study_dir) as folder:
        Tuner(
            trainable,
            tune_config=TuneConfig(
                search_alg=asking,
                num_samples=MOST_RUNS,
                reuse_actors=True,
                max_concurrent_trials=slots,
                trial_name_creator=run_name,
                trial_dirname_creator=run_name,
            ),
            run_config=RunConfig(
                name=context.session,
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=context.resources.retries),
                callbacks=[follower],
                stop=follower.stopper,
                verbose=0,
            ),
        ).fit()
    if asking.error is not None:
        raise asking.error
    give_up(follower, asking.asked)
    return follower.failures


class _Asking(Searcher):  # type: ignore[misc]
    """What Tune takes for a search algorithm: it passes the question on."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(metric=None, mode=None)
        self._ask = ask
        self.asked = 0
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its search algorithms for a restore that never happens."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        try:
            answer = self._ask()
        except Exception as error:  # noqa: BLE001 - Tune would wrap it; it is raised once what trains has ended
            self.error = error
            return str(Searcher.FINISHED)
        if answer is None:
            return None
        if isinstance(answer, str):
            return str(Searcher.FINISHED)
        self.asked += 1
        return {"spec": answer.to_dict()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the store says what has finished."""

    def save(self, checkpoint_path: str) -> None:
        """An empty file, which Tune wants to find."""
        Path(checkpoint_path).write_text(json.dumps({}))

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on from its store."""
