"""More tasks for the existing Celery application: `celery -A app_tasks worker`."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from time import sleep

from examples.existing_celery.app import app, counters
from orchestrator import idempotent

__all__ = ["app"]


class Late(Exception):
    """The outside world has not answered."""


@app.task(name="app.killed", acks_late=True, reject_on_worker_lost=True)
@idempotent(key="{key}")
def killed(key: str, kills: int) -> int:
    """Its process dies in the middle of its first attempts; nothing retries but the message."""
    attempt = counters().incr(f"attempts:{key}")
    if attempt <= kills:
        os.kill(os.getpid(), signal.SIGKILL)
    counters().incr(f"effects:{key}")
    return int(attempt)


@app.task(name="app.killed_in_thread", acks_late=True, reject_on_worker_lost=True)
def killed_in_thread(key: str, kills: int) -> int:
    """Has the guarded function called by a thread, as an executor would."""
    with ThreadPoolExecutor(1) as pool:
        attempt: int = pool.submit(killed.run, key, kills).result()
    return attempt


@app.task(name="app.failing", autoretry_for=(Late,), default_retry_delay=0.05)
@idempotent(key=lambda key: f"failing-{key}")
def failing(key: str) -> int:
    """Raises in its first two attempts; Celery retries."""
    attempt = counters().incr(f"attempts:{key}")
    if attempt <= 2:
        raise Late
    return int(attempt)


@app.task(name="app.slow")
@idempotent(key="slow-{key}")
def slow(key: str, seconds: float) -> str:
    """Long enough to be met at work."""
    counters().incr(f"attempts:{key}")
    sleep(seconds)
    return key
