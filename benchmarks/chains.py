"""A and B: steps per second, ours and those of plain Celery, in turns on the same servers.

The clock starts before the first enqueue. Plain chains have ended when the last task of each has incremented a counter
in the broker; ours when each execution is recorded as succeeded in the ledger, which is later than its last step. Both
are asked at the same rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Protocol
from uuid import uuid4

from sqlalchemy import text

from benchmarks.apps import plain
from benchmarks.report import Figure, Scale
from benchmarks.stack import Stack
from benchmarks.workflows import LONG
from orchestrator.clock import elapsed

#: How many executions have ended as they should, and how many in another way.
ENDED = text("""
SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status NOT IN ('succeeded', 'running'))
FROM orchestrator.execution WHERE id = ANY(:ids)
""")
STEPS = text("SELECT count(*) FROM orchestrator.step WHERE execution_id = ANY(:ids) AND status = 'succeeded'")


class Contestant(Protocol):
    """An engine whose speed is measured."""

    @property
    def name(self) -> str: ...

    def work(self, executions: int, steps: int) -> None:
        """Carry out so many chains of so many no-op steps; returns when the last has ended."""


class Durable:
    """Our engine."""

    name = "ours"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def work(self, executions: int, steps: int) -> None:
        workflow = {10: "ten", LONG: "thousand"}[steps]
        handles = self._stack.orchestrator.start_many(workflow, [(None, None)] * executions)
        ids = [handle.id for handle in handles]
        self._stack.until(lambda: self._ended(ids), f"the end of {executions} executions")

    def recorded(self) -> int:
        """Steps that the ledger has as succeeded."""
        with self._stack.orchestrator.core.database.connect() as connection:
            found: int = connection.execute(text("SELECT count(*) FROM orchestrator.step WHERE status = 'succeeded'")).scalar_one()
            return found

    def _ended(self, ids: list[str]) -> bool:
        with self._stack.orchestrator.core.database.connect() as connection:
            succeeded, otherwise = connection.execute(ENDED, {"ids": ids}).one()
        if otherwise:
            raise RuntimeError(f"{otherwise} executions did not succeed")
        return bool(succeeded == len(ids))


class Plain:
    """Plain Celery in one of its settings."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.name = name
        self._stack, self._app = stack, plain.VARIANTS[name]
        self._app.conf.broker_url = stack.broker_url

    def work(self, executions: int, steps: int) -> None:
        key = f"benchmarks:{uuid4()}"
        for _ in range(executions):
            plain.send(self._app, steps, key)
        self._stack.until(lambda: int(self._stack.redis.get(key) or 0) == executions, f"the end of {executions} chains")
