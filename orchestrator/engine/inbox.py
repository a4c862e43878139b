"""What application code sends to executions that go on: signals, events, and events for machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.engine import machine, signal
from orchestrator.engine import start as starting
from orchestrator.engine.admission import admit
from orchestrator.engine.advance import advance_many
from orchestrator.engine.core import Core
from orchestrator.engine.handle import ExecutionHandle
from orchestrator.engine.signal import admitted
from orchestrator.engine.start import Options, Target
from orchestrator.errors import ExecutionNotFound, LedgerBusy, SignalRefused
from orchestrator.kinds.machine import Event
from orchestrator.ledger import database, signals, views
from orchestrator.model.identity import new_id
from orchestrator.model.payload import encode

R = TypeVar("R")

#: How long a client waits for a database that is away, in seconds.
PATIENCE = 5.0


class Inbox(ABC):
    """Reaches executions that go on."""

    core: Core

    @abstractmethod
    def _target(self, name: str, version: int | None, tenant: str | None) -> Target:
        """A registered definition."""

    def signal(
        self,
        execution_id: str,
        name: str,
        payload: Any = None,
        *,
        id: str | None = None,  # noqa: A002 - the sender's word
        actor: str | None = None,
    ) -> bool:
        """Send a signal to an execution; it is accepted for good when this returns, also if nobody waits for it yet.

        Args:
            payload: JSON data.
            id: the sender's own; the same under the same name is accepted once.
            actor: who sends it, for the history.

        Returns:
            False when the id was known.

        Raises:
            InvalidInput, PayloadError: the payload does not fit.
            ExecutionNotFound, SignalRefused: there is no such execution, or it has ended.
        """
        self._encoded(payload, f"payload of signal {name}")
        signal_id = str(new_id())

        def send(connection: Connection) -> bool | None:
            return signal.send(
                self.core,
                connection,
                execution_id,
                signal_id=signal_id,
                name=name,
                payload=payload,
                dedup_id=id,
                actor=actor,
            )

        accepted = self._persist(send)
        if accepted is None:
            raise self._unreached(execution_id)
        return accepted

    def emit(
        self,
        name: str,
        payload: Any = None,
        *,
        correlation: str,
        id: str | None = None,  # noqa: A002 - the sender's word
        actor: str | None = None,
        tenant: str | None = None,
    ) -> bool:
        """Record an event, for every execution that waits for one of its name and correlation, now or later.

        Returns:
            False when the id was known.
        """
        whose, what = tenant or self.core.settings.tenant, f"payload of event {name}"
        # No schema says what of it is secret: it is for whoever waits.
        text = self._admitted(whose, payload, what)
        signal_id = str(new_id())

        def send(connection: Connection) -> bool:
            return signal.emit(
                self.core,
                connection,
                signal_id=signal_id,
                tenant=whose,
                name=name,
                correlation=correlation,
                payload=text,
                dedup_id=id,
                actor=actor,
            )

        return self._persist(send)

    def signal_with_start(
        self,
        name: str,
        input: Any = None,  # noqa: A002 - the facade's word
        *,
        signal: str,
        payload: Any = None,
        idempotency_key: str,
        id: str | None = None,  # noqa: A002 - the sender's word
        actor: str | None = None,
        version: int | None = None,
        tenant: str | None = None,
    ) -> ExecutionHandle:
        """Start an execution under a key unless there is one, and send it a signal: both, or neither.

        Raises:
            As `start` and `signal` do.
        """
        target = self._target(name, version, tenant)
        text = admitted(self.core, target.graph, target.tenant, signal, payload)
        options = Options(idempotency_key=idempotency_key, actor=actor)
        new = starting.prepare(target, input, options, self.core.settings.max_payload, self.core.seals)
        signal_id = str(new_id())

        def insert() -> starting.Started:
            with database.transaction(self.core.database) as connection:
                (started,) = starting.insert(connection, target, [new])
                accepted = signals.insert(
                    connection,
                    signal_id=signal_id,
                    execution_id=started.execution_id,
                    name=signal,
                    payload=text,
                    dedup_id=id,
                    actor=actor,
                )
                if accepted is None:
                    raise SignalRefused(started.execution_id, "it has ended, and takes no signal any more")
                return started

        started = database.persist(insert, give_up_after=PATIENCE, at=self.core.database)
        starting.publisher(self.core, target, [started])()
        self._persist(lambda connection: self._match(connection, target, started.execution_id))
        return ExecutionHandle(id=started.execution_id, created=started.created, _database=self.core.database)

    def send(
        self,
        execution_id: str,
        event: str,
        payload: Any = None,
        *,
        actor: str | None = None,
        roles: Sequence[str] = (),
        id: str | None = None,  # noqa: A002 - the sender's word
    ) -> bool:
        """Send an event to a machine. Once accepted it is taken, in the order of acceptance.

        Args:
            actor: who sends it; the caller vouches for them and their roles.
            id: the sender's own; the same under the same name is accepted once.

        Returns:
            False when the id was known.

        Raises:
            SignalRefused: it is not allowed now, and what is.
        """
        self._encoded(payload, f"payload of event {event}")
        given = Event(name=event, payload=payload, actor=actor, roles=tuple(roles))
        signal_id = str(new_id())

        def send(connection: Connection) -> bool:
            return machine.send(self.core, connection, execution_id, given, signal_id=signal_id, dedup_id=id)

        return self._persist(send)

    def allowed(self, execution_id: str) -> tuple[str | None, tuple[str, ...]]:
        """A machine's state, and the events that it takes now."""
        return self._persist(lambda connection: machine.allowed_events(self.core, connection, execution_id))

    def _match(self, connection: Connection, target: Target, execution_id: str) -> None:
        woken = signal.match(connection, target.graph, execution_id)
        advance_many(self.core, connection, [(execution_id, path) for path in woken])

    def _encoded(self, payload: Any, what: str) -> str:
        return encode(payload, limit=self.core.settings.max_payload, what=what)

    def _admitted(self, tenant: str, value: Any, what: str, schema: dict[str, Any] | None = None) -> str:
        return admit(self.core.seals, tenant, value, schema, limit=self.core.settings.max_payload, what=what).text

    def _persist(self, send: Callable[[Connection], R]) -> R:
        def attempt() -> R:
            with self.core.database.connect() as connection:
                return send(connection)

        try:
            return database.persist(attempt, give_up_after=PATIENCE, at=self.core.database)
        except DBAPIError as error:
            if database.sqlstate(error) == database.LOCK_TIMEOUT:
                raise LedgerBusy("somebody else holds it for so long that nothing was done; try again") from error
            raise

    def _unreached(self, execution_id: str) -> Exception:
        with self.core.database.connect() as connection:
            found = views.status(connection, execution_id)
        if found is None:
            return ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
        return SignalRefused(execution_id, f"it has ended {found[0]}, and takes no signal any more")
