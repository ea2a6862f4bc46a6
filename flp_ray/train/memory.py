"""Memory: what a process has used at most, and what to say when there is too little."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.errors import OutOfMemoryError, RunError


def peak_rss_bytes() -> int:
    """Largest resident memory of this process since it began, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT_BYTES = 2**30


@functools.cache
def keep_freed_memory() -> None:
    """Lets this process keep memory that it frees, for its next allocation; does nothing without glibc.

    Each step of a CPU training allocates and frees the same large arrays. By default glibc hands them back
    to the kernel, which must clear every page again at the next step: 17 to 26 percent of the training time
    of tiny models, measured on a busy machine. The process's memory stays at its peak instead, which the next
    step needs anyway.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def memory_errors(spec: RunSpec, execution: Execution) -> AbstractContextManager[None]:
    """Turns running out of memory, on a CPU or a GPU, into an OutOfMemoryError that says what to change.

    What the failed attempt held is freed by then, so that the same process can try again with less.
    """
    micro, batch = execution.micro_batch(spec.batch_sequences), spec.batch_sequences
    return _turned(
        OutOfMemoryError,
        f"Run {spec.run_id} (size {spec.size}) ran out of memory: {{reason}}. Lower micro_batch_sequences (now "
        f"{micro}, of {batch} sequences a batch on {execution.workers} workers), set activation_checkpointing, or "
        f"give the run more workers with zero_stage 1 to 3 (now {execution.zero_stage}).",
    )


def measuring_memory_errors(spec: RunSpec) -> AbstractContextManager[None]:
    """The same for what measures a checkpoint, as a RunError: a smaller micro batch would not help there."""
    return _turned(
        RunError,
        f"Run {spec.run_id} (size {spec.size}) ran out of memory while a checkpoint was measured: {{reason}}. Lower "
        "measure.batch_tokens (now too many tokens for one pass), or measure on other devices than the training.",
    )


@contextlib.contextmanager
def _turned(kind: type[RunError], words: str) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _let_go(error)
    else:
        return
    raise kind(words.format(reason=reason))  # outside of `except`: the failure's frames must not stay with it


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "ALLOC_FAILED", "out of memory"))


def _let_go(error: BaseException | None) -> None:
    """Frees what the frames of a failure hold: the activations of the pass that failed."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
