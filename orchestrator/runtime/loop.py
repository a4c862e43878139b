"""One event loop a process, on a thread of its own, for `async def` activities."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")

#: Seconds that a coroutine has for cleaning up when its attempt is interrupted.
CLEANUP = 5.0

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


class _Left(Exception):
    """Carries what a coroutine has raised that would end its loop."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def call(coroutine: Coroutine[Any, Any, R], timeout: float | None) -> R:
    """The coroutine's result; TimeoutError after so many seconds, the coroutine cancelled.

    When the caller is interrupted, the coroutine is cancelled, and waited for while it cleans up.
    """
    ended = threading.Event()
    future = asyncio.run_coroutine_threadsafe(_bounded(coroutine, timeout, ended), _loop())
    try:
        return future.result()
    except _Left as left:
        raise left.error from None
    except BaseException:
        if future.cancel():
            ended.wait(CLEANUP)
        raise


async def _bounded(coroutine: Coroutine[Any, Any, R], timeout: float | None, ended: threading.Event) -> R:  # noqa: ASYNC109 - it is one
    try:
        async with asyncio.timeout(timeout):
            return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        # Out of a task they end the loop, and whoever waits for the task hears nothing.
        raise _Left(error) from error
    finally:
        ended.set()


def _loop() -> asyncio.AbstractEventLoop:
    """Keyed by process: a loop does not survive a fork."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="orchestrator-loop", daemon=True).start()
            _loops.clear()
            _loops[os.getpid()] = loop
        return loop
