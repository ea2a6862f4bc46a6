"""Failures on the way to a text: which there are, which pass by themselves, and calls that outlast those."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses between the attempts; after the last of them a failure stands."""

_BUSY = (408, 425, 429)
"""Statuses below 500 with which a server asks to come again."""

_Result = TypeVar("_Result")


def network_errors() -> tuple[type[Exception], ...]:
    """What reading a file may raise that is not there, not as it should be, or beyond reach."""
    import aiohttp
    from huggingface_hub.errors import HfHubHTTPError

    # Errors of pyarrow and json are ValueErrors; the hub's have the base of whatever HTTP library it is built on.
    return (OSError, ValueError, RuntimeError, ImportError, EOFError, aiohttp.ClientError, *HfHubHTTPError.__bases__)


def passing(error: BaseException) -> bool:
    """Whether a failure, or what it was raised from, is a connection that broke or a server that was busy.

    Args:
        error: A TextError counts by its cause. What is not there, or may not be read, does not pass by itself.
    """
    import aiohttp
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    http = [base for base in HfHubHTTPError.__bases__ if base is not OSError]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OfflineModeIsEnabled):
            return False
        if isinstance(cause, (ConnectionError, TimeoutError, aiohttp.ClientError, *http)):
            status = getattr(cause, "status", None) or getattr(getattr(cause, "response", None), "status_code", None)
            return status is None or status in _BUSY or status >= 500
        cause = cause.__cause__
    return False


def patiently(call: Callable[[], _Result]) -> _Result:
    """Calls until no passing failure comes between, but no more than `len(WAITS_SECONDS) + 1` times.

    Args:
        call: Does the same when it is called again.

    Returns:
        What it returned.
    """
    for seconds in WAITS_SECONDS:
        try:
            return call()
        except Exception as error:
            if not passing(error):  # all others go on their way
                raise
        time.sleep(seconds)
    return call()
