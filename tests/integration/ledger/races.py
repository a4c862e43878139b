"""Races that are forced, not hoped for: actors behind one barrier, and statements known to wait for a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, text

from orchestrator import clock

R = TypeVar("R")

#: Seconds within which anything that a test waits for must have happened.
DEADLINE = 15.0

_BLOCKED = text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition holds; AssertionError after DEADLINE."""
    begun = clock.elapsed()
    while not condition():
        assert clock.elapsed() - begun < DEADLINE, f"not within {DEADLINE} s: {what}"
        clock.pause(0.002)


def race(actors: Sequence[Callable[[], R]]) -> list[R]:
    """Let all actors start at the same moment, each in a thread; their results in order, or the first error."""
    barrier = threading.Barrier(len(actors))

    def act(actor: Callable[[], R]) -> R:
        barrier.wait(DEADLINE)
        return actor()

    with ThreadPoolExecutor(len(actors)) as pool:
        futures = [pool.submit(act, actor) for actor in actors]
        return [future.result(DEADLINE * 2) for future in futures]


class Background(Generic[R]):
    """Work on a connection of its own, in a thread. A context manager: leaving it waits for the end."""

    def __init__(self, engine: Engine, work: Callable[[Connection], R]) -> None:
        self._engine = engine
        self._connection = engine.connect()
        #: The backend that does the work.
        self.pid: int = self._connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(work, self._connection)

    def __enter__(self) -> Background[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._connection.close()

    def until_blocked(self, pid: int | None = None) -> None:
        """Return once the work's backend, or the one given, waits for another's lock."""
        with self._engine.connect() as observer:

            def blocked() -> bool:
                assert not self._future.done(), f"should wait for a lock, but ended: {self._future.result()}"
                return bool(observer.execute(_BLOCKED, {"pid": pid or self.pid}).scalar_one())

            until(blocked, "the statement waits for a lock")

    def until_unblocked(self, pid: int | None = None) -> None:
        """Return once the work's backend, or the one given, waits for no lock."""
        with self._engine.connect() as observer:
            until(
                lambda: not observer.execute(_BLOCKED, {"pid": pid or self.pid}).scalar_one(),
                "the statement waits for no lock",
            )

    def result(self) -> R:
        """What the work returned, or the error that it raised."""
        return self._future.result(DEADLINE)
