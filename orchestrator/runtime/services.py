"""What a worker does for an attempt while it goes on; activities reach it through their context."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import clock
from orchestrator.activities.registry import Activity
from orchestrator.errors import ConfigurationError, PayloadError
from orchestrator.ledger import database, heartbeats, side_effects, stragglers
from orchestrator.ledger.claims import Claim
from orchestrator.model.payload import encode
from orchestrator.runtime.attendance import interruption
from orchestrator.runtime.opening import Opening
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.attempt")

R = TypeVar("R")

#: Most bytes of JSON that a progress may have.
MAX_PROGRESS = 4096
#: Most characters of a side effect's name.
MAX_NAME = 200
#: Heartbeats are sent no more often, in seconds.
BEAT_EVERY = 1.0
#: Transactions that a heartbeat, which changes the step's row beside them, would spoil.
_STRICT = ("repeatable read", "serializable")


class Services:
    """Of one attempt.

    Args:
        opening: what it has opened of its sealed parameters.
        activity: what it calls, if that is known here.
        timeout: seconds that it may take.
        patience: seconds that it may let pass between two heartbeats.
    """

    def __init__(
        self,
        worker: Worker,
        held: Claim,
        opening: Opening,
        activity: Activity | None,
        *,
        timeout: float | None,
        patience: float | None,
    ) -> None:
        self._worker, self._held, self._opening, self._activity = worker, held, opening, activity
        self._timeout, self._patience = timeout, patience
        self._begun = clock.elapsed()
        self._sent = float("-inf")
        self._progress: str | None = None

    def side_effect(self, name: str, function: Callable[[], Any]) -> Any:
        """The value recorded under a name, or, the first time, the function's."""
        where = f"side effect {name!r} of step {self._held.path}"
        if not 0 < len(name) <= MAX_NAME or "\0" in name:
            raise ConfigurationError(f"{where}: give it a name of 1 to {MAX_NAME} characters")
        execution_id, path = self._held.execution_id, self._held.path
        found = self._ask(lambda connection: side_effects.recorded(connection, execution_id, path, name))
        if found is not None:
            return self._opening.open(found[0])
        value = function()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise PayloadError(f"{where} is a coroutine; give a function that returns the value itself")
        text = self._opening.keep(encode(value, limit=self._worker.core.settings.max_payload, what=where))
        return self._opening.open(
            self._ask(lambda connection: side_effects.record(connection, execution_id, path, name, text))
        )

    def _ask(self, statement: Callable[[Connection], R]) -> R:
        """Send a statement, safe to send twice, until it is answered; in a transaction of its own."""

        def attempt() -> R:
            with self._worker.core.database.connect() as connection:
                return statement(connection)

        return database.persist(attempt)

    def heartbeat(self, progress: Any = None) -> None:
        """Say that the attempt goes on; what the ledger answers may interrupt it."""
        if self._activity is not None and self._activity.isolation in _STRICT:
            raise ConfigurationError(
                f"step {self._held.path}: no heartbeats in a transaction at {self._activity.isolation}, which they "
                "would spoil; use read committed"
            )
        if progress is not None:
            what = f"progress of step {self._held.path}"
            self._progress = self._opening.keep(encode(progress, limit=MAX_PROGRESS, what=what))
        now = clock.elapsed()
        if now - self._sent < BEAT_EVERY:
            return
        self._sent = now
        try:
            with self._worker.core.database.connect() as connection:
                unwanted = heartbeats.beat(
                    connection, self._held, progress=self._progress, timeout=self._timeout, patience=self._patience
                )
                goes_on = unwanted is not None or self._straggles(connection)
        except SQLAlchemyError as error:
            if not database.is_lost(error):
                raise
            logger.warning("heartbeat is not sent: the database is away", extra={"reason": str(error)})
            return
        if goes_on and self._patience is not None:
            self._move(now)
        reason = interruption(unwanted)
        if reason is not None and (self._activity is None or self._activity.interruptible):
            raise reason

    def _straggles(self, connection: Connection) -> bool:
        """Whether it works on though its step has lost a race; as long as it is heard, it is waited for."""
        if self._patience is None:
            return False
        return stragglers.beat(connection, self._held, timeout=self._timeout, patience=self._patience)

    def _move(self, now: float) -> None:
        """The node is told of the new deadline, too."""
        limits = [now + (self._patience or 0)]
        if self._timeout is not None:
            limits.append(self._begun + self._timeout)
        self._worker.attendance.presence.move(min(limits))

    def keep(self, record: logging.LogRecord) -> None:
        """Keep a record that Python's logging would drop for its level."""
        self._worker.logs.handle(record)
