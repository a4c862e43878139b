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


def call(coroutine: Coroutine[Any, Any, R], timeout: float | None) -> R:
    """The coroutine's result; TimeoutError after so many seconds, the coroutine cancelled.

    When the caller is interrupted, the coroutine is cancelled, and waited for while it cleans up.
    """
    ended = threading.Event()
    future = asyncio.run_coroutine_threadsafe(_bounded(coroutine, timeout, ended), _loop())
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            ended.wait(CLEANUP)
        raise


async def _bounded(coroutine: Coroutine[Any, Any, R], timeout: float | None, ended: threading.Event) -> R:  # noqa: ASYNC109 - it is one
    try:
        async with asyncio.timeout(timeout):
            return await coroutine
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
