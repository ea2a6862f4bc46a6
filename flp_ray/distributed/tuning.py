"""Tuning trials on the cluster: Ray Tune trains them, its ASHA scheduler stops the bad ones at the rungs.

The store is the record, Tune's memory is not. A trial that is over is told to Tune again from what is stored, so that
the others are held against it as before, and is not trained again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import ray.tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.core.tuning import TrialReport
from flp_ray.distributed.cluster import live_nodes
from flp_ray.distributed.context import StudyContext, stream_of
from flp_ray.distributed.failures import is_retried, reason, too_many_failed
from flp_ray.distributed.follower import last_line
from flp_ray.distributed.launch import MOST_FAILURES, tune_folder
from flp_ray.distributed.resources import Pool, trial_resources
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.distributed.text import bring_text
from flp_ray.distributed.trial import another_attempt, give_up_in_time, run_alone
from flp_ray.errors import DivergedError, FlpRayError, IncompleteError
from flp_ray.store import load_tunings, tuning_rows
from flp_ray.train import TrainingCheckpoint, clear_states
from flp_ray.tune import TuningConfig, rung_tokens


class TrialWatcher(Protocol):
    """Is told what becomes of trials; the lines on the console are one."""

    def started(self, trial: RunSpec) -> None:
        """A trial has got its slot."""
        ...

    def reported(self, trial: RunSpec, report: TrialReport) -> None:
        """A trial was measured, was stopped or has diverged."""
        ...

    def failed(self, trial: RunSpec, why: str, *, again: bool) -> None:
        """An attempt failed; `again` where the trial goes on from its last saved state."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    """What every trial is told."""

    context: StudyContext
    tuning: TuningConfig


def tune_trials(
    trials: Sequence[RunSpec], context: StudyContext, tuning: TuningConfig, *, watcher: TrialWatcher
) -> dict[str, str]:
    """Trains the trials of a tuning that are not over yet; returns when each is over or has failed for good.

    Each trial is trained by one worker, also where runs get several: the sizes that are tuned are small.

    Args:
        trials: All trials of the tuning.
        context: The study.
        tuning: The tuning.
        watcher: Is told what happens.

    Returns:
        The reason by trial, of those that failed on every attempt.

    Raises:
        IncompleteError: More of them failed than `resources.max_failed_fraction` allows.
    """
    alone = context.resources.model_copy(update={"workers": 1})
    study = _Study(context=replace(context, resources=alone), tuning=tuning)
    over = trials_over(trials, load_tunings(context.study_dir))
    follower = _Follower(watcher, study, over)
    if len(over) < len(trials):
        # Those that are over come first, so that nothing new is judged before they are known.
        ordered = sorted(trials, key=lambda trial: trial.run_id not in over)
        with tune_folder(context.study_dir) as folder:
            _tuner(ordered, study, follower, slots=Pool(alone, live_nodes).size(), folder=folder).fit()
    for run_id in trials_over(trials, load_tunings(context.study_dir)):
        clear_states(context.run_dir(run_id), storage=context.storage(), prefix=context.run_prefix(run_id))
    if too_many_failed(len(follower.failures), len(trials), alone):
        run_id, why = list(follower.failures.items())[-1]
        raise IncompleteError(
            f"{len(follower.failures)} of {len(trials)} tuning trials failed on every attempt, more than "
            f"resources.max_failed_fraction allows; the last, {run_id}: {why}. What is measured is stored. Remove the "
            "cause and give the same command again."
        )
    return follower.failures


def _tuner(trials: Sequence[RunSpec], study: _Study, follower: _Follower, *, slots: int, folder: Path) -> Tuner:
    resources = study.context.resources
    trainable = ray.tune.with_parameters(run_tuning_trial, study=study)
    return Tuner(
        ray.tune.with_resources(trainable, trial_resources(resources, Execution())),
        param_space={"spec": ray.tune.grid_search([trial.to_dict() for trial in trials])},
        tune_config=TuneConfig(reuse_actors=True, max_concurrent_trials=slots, scheduler=_HalvingBySize(study.tuning)),
        run_config=RunConfig(
            name=study.context.session,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
            callbacks=[follower],
            verbose=0,
        ),
    )


def trials_over(trials: Sequence[RunSpec], reports: Sequence[TrialReport]) -> set[str]:
    """Ids of those trials that were trained to their end, stopped, or have diverged."""
    tokens = {trial.run_id: trial.train_tokens for trial in trials}
    return {report.run_id for report in reports if report.run_id in tokens and report.ends(tokens[report.run_id])}


def run_tuning_trial(config: dict[str, Any], study: _Study) -> None:
    """The Tune trainable: one attempt of one trial, from its last saved state; failures count as those of runs do.

    Args:
        config: `{"spec": RunSpec.to_dict()}`.
        study: The study and its tuning.
    """
    trial, context = RunSpec.from_dict(config["spec"]), study.context
    store = RemoteWriter.find(context.study_dir)
    try:
        _attempt(trial, study, store)
    except Exception as error:
        if is_retried(error) and another_attempt(trial, context, store):
            raise  # the driver counts it
        ray.tune.report({"run_id": trial.run_id, "failed": reason(error)})


def _attempt(trial: RunSpec, study: _Study, store: RemoteWriter) -> None:
    from flp_ray.train import train  # loads torch, which the driver does without

    context = study.context
    rungs = {tokens: rung for rung, tokens in rung_tokens(trial, study.tuning).items()}
    stored: tuple[TrialReport, ...] = store.ask("trial_reports", trial.run_id)
    known = {report.tokens: report for report in stored if report.event == "measured"}
    for tokens, report in known.items():
        if tokens in rungs:
            _tell(report, rungs[tokens])
    if trials_over([trial], stored):
        ray.tune.report({"run_id": trial.run_id, "over": True})
        return
    give_up_in_time(trial, context, store)

    def on_checkpoint(checkpoint: TrainingCheckpoint, model: Any) -> None:
        store.tell("note_progress", trial.run_id, checkpoint.tokens, checkpoint.train_loss)
        if checkpoint.tokens not in rungs or checkpoint.tokens in known:
            return
        loss = _mean_loss(model, context, study.tuning.sequences)
        if not math.isfinite(loss):
            raise DivergedError(f"The validation loss of trial {trial.run_id} is {loss}.")
        report = TrialReport(
            run_id=trial.run_id, size=trial.size, tokens=checkpoint.tokens, event="measured", loss=loss
        )
        known[checkpoint.tokens] = report
        store.append("tunings", tuning_rows([report], at=time.time()))
        _tell(report, rungs[checkpoint.tokens])  # raises SystemExit here where the scheduler stops the trial

    try:
        with run_alone(trial, context):
            bring_text(context, sources=trial.mixture.used())
            train(
                trial,
                stream_of(trial, context.text, context.max_epochs),
                context.run_dir(trial.run_id),
                on_checkpoint=on_checkpoint,
                execution=context.execution(trial),
                measure_all=True,
                storage=context.storage(),
                prefix=context.run_prefix(trial.run_id),
                threads=max(1, int(context.resources.cpus_per_worker)),
            )
    except DivergedError as error:  # an answer, not a failure: the hyperparameters are bad
        store.append("tunings", tuning_rows([_diverged(trial, known, error)], at=time.time()))
        ray.tune.report({"run_id": trial.run_id, "diverged": reason(error)})


def _tell(report: TrialReport, rung: int) -> None:
    ray.tune.report({"run_id": report.run_id, "tokens": report.tokens, "rung": rung, "loss": report.loss})


def _diverged(trial: RunSpec, known: Mapping[int, TrialReport], error: BaseException) -> TrialReport:
    last = max(known, default=0)
    return TrialReport(run_id=trial.run_id, size=trial.size, tokens=last, event="diverged", reason=reason(error))


def _mean_loss(model: Any, context: StudyContext, sequences: int | None) -> float:
    """Mean over the domains, nats per token; no task is loaded for it."""
    from flp_ray.measure.domains import device_batch_tokens, domain_loss  # not with the measurer, which loads lm-eval

    batch_tokens = device_batch_tokens(model, context.measure.batch_tokens)
    domains = context.text.domains.values()
    losses = [domain_loss(model, blocks, batch_tokens=batch_tokens, sequences=sequences).value for blocks in domains]
    return sum(losses) / len(losses)


class _HalvingBySize(FIFOScheduler):  # type: ignore[misc]
    """ASHA for each size on its own: losses of two sizes say nothing of each other's hyperparameters."""

    def __init__(self, tuning: TuningConfig) -> None:
        super().__init__()
        self._tuning = tuning
        self._halving: dict[str, ASHAScheduler] = {}

    def _of(self, trial: Any) -> ASHAScheduler:
        size = trial.config["spec"]["size"]
        if size not in self._halving:
            factor = self._tuning.reduction_factor
            self._halving[size] = ASHAScheduler(
                time_attr="rung",
                metric="loss",
                mode="min",
                grace_period=1,
                reduction_factor=factor,
                max_t=factor ** (self._tuning.rungs - 1),
            )
        return self._halving[size]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(self._of(trial).on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)


class _Follower(Callback):  # type: ignore[misc]
    """Turns Tune's events into the study's, and stores which trials were stopped."""

    def __init__(self, watcher: TrialWatcher, study: _Study, over: set[str]) -> None:
        self._watcher, self._study, self._over = watcher, study, over
        self.failures: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that never happens, and a console cannot be pickled."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        spec = RunSpec.from_dict(trial.config["spec"])
        if spec.run_id not in self._over:
            self._watcher.started(spec)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        spec = RunSpec.from_dict(trial.config["spec"])
        if spec.run_id in self._over:
            return
        if "failed" in result:
            self._fail(spec, result["failed"])
        elif "diverged" in result:
            self._report(spec, result.get("tokens", 0), event="diverged", reason=result["diverged"])
        elif "loss" in result:
            self._report(spec, result["tokens"], event="measured", loss=result["loss"])
            if result.get("done") and result["tokens"] < spec.train_tokens:
                stopped = self._report(spec, result["tokens"], event="stopped")
                with suppress(FlpRayError):  # it is stopped again next time, and a full disk must not end the others
                    writer = RemoteWriter.find(self._study.context.study_dir)
                    writer.append("tunings", tuning_rows([stopped], at=time.time()))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        spec, why = RunSpec.from_dict(trial.config["spec"]), last_line(trial)
        with suppress(FlpRayError):  # a full disk must not end the other trials; the watcher tells the reason
            RemoteWriter.find(self._study.context.study_dir).ask(
                "lose_attempt", spec.run_id, why, session=self._study.context.session
            )
        self._watcher.failed(spec, why, again=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._fail(RunSpec.from_dict(trial.config["spec"]), last_line(trial))

    def _report(self, spec: RunSpec, tokens: int, **what: Any) -> TrialReport:
        report = TrialReport(run_id=spec.run_id, size=spec.size, tokens=tokens, **what)
        self._watcher.reported(spec, report)
        return report

    def _fail(self, spec: RunSpec, why: str) -> None:
        self.failures[spec.run_id] = why
        self._watcher.failed(spec, why, again=False)
