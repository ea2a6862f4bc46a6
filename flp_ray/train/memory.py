"""Memory: what a process has used at most, and what to say when there is too little."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import resource
import sys
from collections.abc import Iterator

import torch

from flp_ray.core.run import RunSpec
from flp_ray.errors import RunError


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


@contextlib.contextmanager
def memory_errors(spec: RunSpec) -> Iterator[None]:
    """Turns running out of memory, on a CPU or a GPU, into a RunError that says what to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in reason
        if not out_of_memory:
            raise
        micro = spec.recipe.micro_batch_sequences or "the whole batch"
        raise RunError(
            f"Run {spec.run_id} (size {spec.size}) ran out of memory: {reason}. Lower micro_batch_sequences "
            f"(now {micro}, of {spec.batch_sequences} sequences a batch), or give the run more workers "
            f"with zero_stage 1 to 3 (now {spec.recipe.zero_stage})."
        ) from error
