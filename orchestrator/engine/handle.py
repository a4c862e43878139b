"""A handle on an execution: what `start` returns."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from orchestrator import clock
from orchestrator.config import LOG_LEVELS
from orchestrator.errors import ExecutionFailed, ExecutionNotFound, ResultPurged, ResultTimeout
from orchestrator.ledger import attempt_logs, attempts, views
from orchestrator.ledger import database as ledger_database
from orchestrator.ledger.attempts import AttemptRecord
from orchestrator.model.state import FINAL_EXECUTIONS, ExecutionStatus

#: Polls begin this far apart and slow down to the second figure, in seconds.
_POLL, _SLOWEST_POLL = 0.02, 0.5


@dataclass(frozen=True, kw_only=True)
class ExecutionHandle:
    """One execution, wherever it is. Everything is read from the ledger at each call."""

    #: The execution's id.
    id: str
    #: Whether this start made it; False when its idempotency key was known.
    created: bool
    _database: Engine = field(repr=False)

    def status(self) -> ExecutionStatus:
        """Where the execution stands now."""
        return ExecutionStatus(self._read()[0])

    def state(self) -> str | None:
        """Of a machine: the state that it is in."""
        with self._database.connect() as connection:
            return views.state(connection, self.id)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the output; a failure that the definition has retried is none yet.

        Args:
            timeout: seconds to wait; None waits for ever, 0 only looks.

        Raises:
            ExecutionFailed: it ended in any other way than succeeded.
            ResultTimeout: it has not ended in time; it goes on all the same.
            ResultPurged: it ended so long ago that only its idempotency key is kept.
        """
        begun, poll = clock.elapsed(), _POLL
        while True:
            status, output, error, goes_on, purged_at = self._read()
            if purged_at is not None:
                raise ResultPurged(self.id, status, purged_at)
            if status == ExecutionStatus.SUCCEEDED:
                return output
            if status in FINAL_EXECUTIONS and not goes_on:
                raise ExecutionFailed(self.id, status, error)
            if timeout is not None and clock.elapsed() - begun + poll > timeout:
                raise ResultTimeout(f"execution {self.id} is {status} after {timeout} s; it goes on, ask again later")
            clock.pause(poll)
            poll = min(poll * 1.5, _SLOWEST_POLL)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """The history so far, oldest first, from behind the event with id `after`."""
        found: list[dict[str, Any]] = []
        while True:
            with self._database.connect() as connection:
                page = views.events(connection, self.id, after)
            found += page
            if not page:
                return found
            after = page[-1]["id"]

    def logs(self, path: str | None = None, level: str = "INFO") -> list[dict[str, Any]]:
        """What its attempts have logged so far, oldest first.

        Each is a dict: path, attempt, number, at, level, logger, message, fields. Workers write a record about half a
        second after it was made.

        Args:
            path: only of this step or compensation.
            level: the least: DEBUG, INFO, WARNING, ERROR or CRITICAL. What the workers' `log_level` leaves out was
                never kept.

        Raises:
            ValueError: there is no such level.
        """
        if level.upper() not in LOG_LEVELS:
            raise ValueError(f"{level!r} is no level; give one of {', '.join(LOG_LEVELS)}")
        least = logging.getLevelNamesMapping()[level.upper()]
        with self._database.connect() as connection:
            found = attempt_logs.read(connection, self.id, path=path, level=least)
        return [row | {"level": logging.getLevelName(row["level"])} for row in found]

    def attempts(self, path: str | None = None) -> list[AttemptRecord]:
        """The attempts at all steps, or at the one with this path, in the order in which they began."""
        with self._database.connect() as connection:
            return attempts.attempts(connection, self.id, path)

    async def astatus(self) -> ExecutionStatus:
        """`status`, awaitable."""
        return await asyncio.to_thread(self.status)

    async def aresult(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - same signature as its twin
        """`result`, awaitable."""
        return await asyncio.to_thread(self.result, timeout)

    async def aevents(self, after: int = 0) -> list[dict[str, Any]]:
        """`events`, awaitable."""
        return await asyncio.to_thread(self.events, after)

    async def aattempts(self, path: str | None = None) -> list[AttemptRecord]:
        """`attempts`, awaitable."""
        return await asyncio.to_thread(self.attempts, path)

    async def alogs(self, path: str | None = None, level: str = "INFO") -> list[dict[str, Any]]:
        """`logs`, awaitable."""
        return await asyncio.to_thread(self.logs, path, level)

    def _read(self) -> tuple[str, Any, Any, bool, datetime | None]:
        def read() -> tuple[str, Any, Any, bool, datetime | None] | None:
            with self._database.connect() as connection:
                return views.outcome(connection, self.id)

        found = ledger_database.persist(read, give_up_after=30, at=self._database)
        if found is None:
            raise ExecutionNotFound(f"no execution has the id {self.id}; its start may not have committed")
        return found
