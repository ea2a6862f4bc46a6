"""The failure policy: from what happened to what is done, as pure functions."""

from __future__ import annotations

from flp_ray.distributed.config import ResourcesConfig
from flp_ray.errors import InputError

REASON_CHARACTERS = 500
"""Stored reasons are cut here; the full traceback is in the run's own log."""


def is_retried(error: BaseException) -> bool:
    """Whether another attempt of the same run could end differently.

    Wrong input (text too short, an unknown task, a full disk) stays wrong until a person acts. Everything else,
    a lost node, memory, even a loss that is not a number on non-deterministic hardware, is tried again.
    """
    return not isinstance(error, InputError)


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
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= REASON_CHARACTERS else text[: REASON_CHARACTERS - 1] + "…"
