"""What an activity may know of the step that calls it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from orchestrator.activities.connectors.kinds import Connector
from orchestrator.activities.isolation.policy import ScriptPolicy
from orchestrator.activities.net import Network
from orchestrator.errors import ConfigurationError

_LOGGER = logging.getLogger("orchestrator.activity")


class ActivityLog(logging.LoggerAdapter[logging.Logger]):
    """Writes to `orchestrator.activity`; every record carries the step's facts as fields, besides the caller's own."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the step's facts; they win over a caller's field of the same name, since records are found by them."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


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

    @property
    def log(self) -> ActivityLog:
        """Logs to `orchestrator.activity` with the execution, the step and the attempt as fields."""
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
        return ActivityLog(_LOGGER, facts)
