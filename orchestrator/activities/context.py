"""What an activity may know of the step that calls it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from orchestrator.activities.connectors.kinds import Connector
from orchestrator.activities.isolation.policy import ScriptPolicy
from orchestrator.activities.net import Network
from orchestrator.errors import ConfigurationError

T = TypeVar("T")

_LOGGER = logging.getLogger("orchestrator.activity")


#: Parts of a log record, which no field may be named as.
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class ActivityLog(logging.LoggerAdapter[logging.Logger]):
    """Writes to `orchestrator.activity`; every record carries the step's facts as fields, besides the caller's own.

    The worker keeps them with the attempt, also those that Python's logging would drop for the level of its loggers.
    """

    def __init__(self, extra: Mapping[str, object], services: AttemptServices | None) -> None:
        super().__init__(_LOGGER, extra)
        self._services = services

    def __call__(self, level: str | int, message: str, **fields: Any) -> None:
        """Log a message with fields.

        Args:
            level: debug, info, warning, error or critical, or a number of Python's logging.
            fields: whatever belongs to it; one named like a part of Python's log records gets an underscore behind.

        Raises:
            ValueError: there is no such level.
        """
        number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
        if number is None:
            raise ValueError(f"{level!r} is no level; give debug, info, warning, error or critical")
        named = {f"{name}_" if name in _RESERVED else name: value for name, value in fields.items()}
        self.log(number, message, extra=named, stacklevel=3)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As any logger's."""
        if self.isEnabledFor(level):
            message, options = self.process(msg, kwargs)
            self.logger.log(level, message, *args, **{"stacklevel": 2, **options})
        elif self._services is not None:
            message, options = self.process(msg, kwargs)
            record = self.logger.makeRecord(
                self.logger.name, level, "", 0, message, args, None, extra=options.get("extra")
            )
            self._services.keep(record)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the step's facts; they win over a caller's field of the same name, since records are found by them."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


class AttemptServices(Protocol):
    """What a worker does for an attempt while it goes on."""

    def side_effect(self, name: str, function: Callable[[], Any]) -> Any:
        """The value recorded under a name for the step; the first time, the function's."""

    def heartbeat(self, progress: Any = None) -> None:
        """Say that the attempt goes on."""

    def keep(self, record: logging.LogRecord) -> None:
        """Keep a log record with the attempt."""


class ConnectorSource(Protocol):
    """Gives connectors by name."""

    @property
    def networks(self) -> Sequence[Network]:
        """Private networks that every request may reach."""

    def get(self, name: str) -> Connector:
        """The connector of a name, its secrets resolved; ConfigurationError when it cannot be had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepContext:
    """One attempt at a step. An activity gets it in a parameter annotated `StepContext`, whatever its name."""

    #: Whose execution it is.
    tenant: str
    #: The execution's id.
    execution_id: str
    #: The definition's name.
    definition: str
    #: The definition's version.
    version: int
    #: The step's path within the execution.
    path: str
    #: Counts the attempts at this step, from 1.
    attempt: int
    #: The same for every attempt at this step: hand it to outside services, so that they act once.
    idempotency_key: str
    #: Ties the execution to the request that caused it; the starter's choice.
    correlation_id: str | None = None
    #: The execution's labels.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Whether the call is a compensation.
    undo: bool = False
    #: Seconds that this attempt may take; None is unlimited.
    timeout: float | None = None
    #: What this installation lets scripts do.
    scripts: ScriptPolicy = field(default_factory=ScriptPolicy, repr=False, compare=False)
    #: Where connectors come from. Read one as `connector(name)`.
    connectors: ConnectorSource | None = field(default=None, repr=False, compare=False)
    #: What the worker does while the attempt goes on; None outside a worker.
    services: AttemptServices | None = field(default=None, repr=False, compare=False)
    #: The ledger's transaction; only transactional activities get one. Read it as `connection`.
    transaction: Connection | None = field(default=None, repr=False, compare=False)

    @property
    def connection(self) -> Connection:
        """The ledger's own transaction: what is written through it commits together with the step's record.

        Leave commit and rollback to the orchestrator.

        Raises:
            ConfigurationError: the activity is not transactional.
        """
        if self.transaction is None:
            raise ConfigurationError(
                f"step {self.path} has no connection: only transactional activities share the ledger's transaction; "
                "declare the activity with @activity(transactional=True)"
            )
        return self.transaction

    def connector(self, name: str) -> Connector:
        """The connector of that name, its secrets resolved; its `kind` says which one it is.

        Raises:
            ConfigurationError: there is none, or one of its secrets cannot be had; names both and the fix.
        """
        if self.connectors is None:
            raise ConfigurationError(
                f'step {self.path} has no connectors to take "{name}" from; hand them to the context: '
                "StepContext(connectors=Connectors({...}))"
            )
        return self.connectors.get(name)

    def side_effect(self, name: str, function: Callable[[], T]) -> T:
        """The same value for every attempt at this step: what `function` returned the first time.

        It is recorded at once, in a transaction of its own: it stays when the attempt fails, its process dies, or the
        transaction of a transactional activity is rolled back. An attempt that dies between the call and the record
        leaves nothing, and the next one calls anew; of two at the same time both may call, and both get one's value.

        Args:
            name: tells the step's side effects from each other; at most 200 characters. A compensation has its own.
            function: called without arguments; returns JSON data of at most `max_payload` bytes.

        Returns:
            What was recorded, as it comes back from JSON: tuples are lists, dates are texts.

        Raises:
            PayloadError: the value is not JSON, or too large.
            ConfigurationError: there is no worker to record it, or the name is none.
        """
        if self.services is None:
            raise ConfigurationError(
                f"step {self.path} can record no side effect {name!r}: only a worker's context can; in a test, hand "
                "one to it: StepContext(services=...)"
            )
        found: T = self.services.side_effect(name, function)
        return found

    def heartbeat(self, progress: Any = None) -> None:
        """Say that this attempt goes on, and how far it is. Outside a worker nothing happens.

        Call it as often as you like: it is sent about once a second. It puts off the end that `heartbeat_timeout` would
        bring, but no timeout. In a thread pool it is also how an attempt learns that it is not wanted any more.

        Args:
            progress: JSON data of at most 4096 bytes, which `orchestrator show` shows; None leaves what was said last.

        Raises:
            AttemptCancelled: the execution was cancelled, or has passed its deadline.
            AttemptFenced: the step was given to another attempt. Neither if the activity is not interruptible.
            PayloadError: the progress is not JSON, or too large.
            ConfigurationError: the activity's transaction is at repeatable read or serializable.
        """
        if self.services is not None:
            self.services.heartbeat(progress)

    @property
    def log(self) -> ActivityLog:
        """Logs to `orchestrator.activity` with the execution, the step and the attempt as fields.

        Either as a logger, `ctx.log.info("charged %s", card, extra={...})`, or by itself:
        `ctx.log("info", "charged", card=card)`. The worker keeps it with the attempt: `orchestrator logs` shows it.
        """
        facts = {
            "tenant": self.tenant,
            "execution_id": self.execution_id,
            "definition": self.definition,
            "definition_version": self.version,
            "step_path": self.path,
            "attempt": self.attempt,
            "correlation_id": self.correlation_id,
            "undo": self.undo,
        }
        return ActivityLog(facts, self.services)
