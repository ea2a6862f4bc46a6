"""The failure policy: from what happened to what is done, as pure functions."""

from __future__ import annotations

from ray.exceptions import RayActorError

from flp_ray.distributed.config import ResourcesConfig
from flp_ray.errors import GaveUpError, InputError, OutOfMemoryError

LOST = "the run's process died (killed, out of memory, or its node was lost)"
"""Reason of an attempt that could not say itself how it ended."""

REASON_CHARACTERS = 500
"""Stored reasons are cut here; the full traceback is in the run's own log."""


def is_retried(error: BaseException) -> bool:
    """Whether another attempt of the same run could end differently.

    Wrong input (text too short, an unknown task, a full disk) stays wrong until a person acts. Everything else,
    a lost node, memory, even a loss that is not a number on non-deterministic hardware, is tried again.
    """
    return not isinstance(error, InputError | GaveUpError)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device was too small; the error may have come from one of several workers of Ray Train."""
    failures = getattr(error, "worker_failures", None)
    if isinstance(failures, dict) and any(out_of_memory(failure) for failure in failures.values()):
        return True
    cause = getattr(error, "cause", None) or error.__cause__
    return isinstance(error, OutOfMemoryError) or (cause is not None and cause is not error and out_of_memory(cause))


def is_out_of_memory(stored_reason: str) -> bool:
    """The same of a reason that is stored."""
    return stored_reason.startswith(OutOfMemoryError.__name__)


def too_many_failed(failed: int, planned: int, config: ResourcesConfig) -> bool:
    """Whether so many runs have failed for good that the rest of the study is not worth its cost.

    Args:
        failed: Runs that failed on every attempt.
        planned: Runs of the current stage.
        config: `max_failed_fraction` is the limit; a single failure never stops a study of several runs.
    """
    return failed > max(1, int(planned * config.max_failed_fraction))


def reason(error: BaseException) -> str:
    """The error in one line, for the store; an error that Ray carried over is named by its cause."""
    error = getattr(error, "cause", None) or error
    failures = getattr(error, "worker_failures", None)
    if isinstance(failures, dict) and failures:  # of several workers of Ray Train, the one that says most
        told = list(failures.values())
        if any(isinstance(failure, RayActorError) for failure in told):
            return LOST
        error = next((failure for failure in told if out_of_memory(failure)), told[0])
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= REASON_CHARACTERS else text[: REASON_CHARACTERS - 1] + "…"
