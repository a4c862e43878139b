"""The engine as application code sees it: start workflows, find executions."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from orchestrator.activities.registry import registry
from orchestrator.authoring.discovery import Catalog, discover
from orchestrator.engine import start as starting
from orchestrator.engine.after_commit import Transaction, connection_of, publish_after_commit
from orchestrator.engine.audit import Audited
from orchestrator.engine.control import Control
from orchestrator.engine.handle import ExecutionHandle
from orchestrator.engine.inbox import PATIENCE
from orchestrator.engine.oversight import Oversight
from orchestrator.engine.replay import Replays
from orchestrator.engine.restore import Restores
from orchestrator.engine.start import Options, Started, Target
from orchestrator.errors import ExecutionNotFound, UnknownDefinition
from orchestrator.ledger import database, definitions, views
from orchestrator.ledger.definitions import Published
from orchestrator.model.definition import Definition


class RunsSync(Protocol):
    """SQLAlchemy's AsyncSession and AsyncConnection, which an application without greenlet cannot even import."""

    async def run_sync(self, function: Callable[[Any], ExecutionHandle], /) -> ExecutionHandle:
        """Call a function with the synchronous session or connection within."""


class Service(Audited, Control, Oversight, Replays, Restores):
    """Starts executions, reaches, commands and oversees them, and finds them again."""

    @cached_property
    def catalog(self) -> Catalog:
        """The definitions in the modules that the settings name; imported at the first use."""
        # As Celery, uvicorn and flask do: modules beside the working folder are found without installation.
        if not {"", os.getcwd()} & set(sys.path):
            sys.path.insert(0, os.getcwd())
        return discover(self.core.settings.modules, registry)

    @cached_property
    def _targets(self) -> dict[tuple[str, str, int], Target]:
        return {}

    def start(
        self,
        name: str,
        input: Any = None,  # noqa: A002 - the field's word for it
        *,
        idempotency_key: str | None = None,
        key_from_input: bool = False,
        version: int | None = None,
        correlation_id: str | None = None,
        timeout: float | None = None,
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
        start_at: datetime | None = None,
        actor: str | None = None,
        session: Transaction | None = None,
    ) -> ExecutionHandle:
        """Start an execution of a workflow; it is durable when this returns.

        Args:
            name: the definition's name.
            input: JSON data, a pydantic model or a dataclass; at most 1 MiB by default.
            idempotency_key: the same key with the same input gives the same execution, also after it ended.
            key_from_input: without a key, use the SHA-256 of the input's canonical JSON as one.
            version: of the definition; by default the one that this process has loaded, else the newest published.
            correlation_id: found in logs, activities and lists.
            timeout: seconds that the execution may take; by default as the definition says, or 300 for a workflow.
            labels: texts by name, for finding executions.
            tenant: by default the settings' one.
            start_at: not before this time, with its zone.
            actor: who starts it, for the history.
            session: start inside this transaction, of a Session, a scoped one or a Connection on the ledger's database:
                the execution commits or vanishes with it. For Django, see `orchestrator.integrations.django`.

        Raises:
            UnknownDefinition, DefinitionConflict: no such definition, or not with this content.
            InvalidInput, PayloadError: the input does not fit.
            IdempotencyConflict, IdempotencyKeyHeld: the key was used with another input, or is being used.
            DatabaseUnavailable, SchemaNotMigrated: the ledger cannot be reached or used.
        """
        options = Options(
            idempotency_key=idempotency_key,
            key_from_input=key_from_input,
            correlation_id=correlation_id,
            timeout=timeout,
            labels=labels,
            start_at=start_at,
            actor=actor,
        )
        target = self._target(name, version, tenant)
        new = starting.prepare(target, input, options, self.core.settings.max_payload, self.core.seals)
        if session is not None:
            started = starting.insert(connection_of(session), target, [new])
            publish = starting.publisher(self.core, target, started)
            publish_after_commit(session, self.core.database, started[0].execution_id, publish)
        else:

            def insert() -> list[Started]:
                with database.limited(self.core.database) as connection:
                    return starting.insert(connection, target, [new])

            started = database.persist(insert, give_up_after=PATIENCE, at=self.core.database)
            starting.publisher(self.core, target, started)()
        return self._handle(started[0])

    def start_many(
        self,
        name: str,
        items: Iterable[tuple[str | None, Any]],
        *,
        version: int | None = None,
        correlation_id: str | None = None,
        timeout: float | None = None,
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
        start_at: datetime | None = None,
        actor: str | None = None,
    ) -> list[ExecutionHandle]:
        """Start many executions of one workflow in one transaction: all or none.

        Args:
            items: idempotency key (or None) and input of each; the rest is as in `start` and the same for all.
        """
        target = self._target(name, version, tenant)
        limit, seals = self.core.settings.max_payload, self.core.seals
        shared = {
            "correlation_id": correlation_id,
            "timeout": timeout,
            "labels": labels,
            "start_at": start_at,
            "actor": actor,
        }
        news = [
            starting.prepare(target, value, Options(idempotency_key=key, **shared), limit, seals)  # type: ignore[arg-type]
            for key, value in items
        ]

        def insert() -> list[Started]:
            with database.transaction(self.core.database) as connection:
                return starting.insert(connection, target, news)

        started = database.persist(insert, give_up_after=PATIENCE, at=self.core.database)
        starting.publisher(self.core, target, started)()
        return [self._handle(found) for found in started]

    async def astart(
        self,
        name: str,
        input: Any = None,  # noqa: A002 - as in its twin
        *,
        session: RunsSync | None = None,
        **options: Any,
    ) -> ExecutionHandle:
        """`start`, awaitable; takes SQLAlchemy's async sessions and connections."""
        if session is not None:
            # What is known of the definition then need not be asked for while the loop waits.
            await asyncio.to_thread(self._target, name, options.get("version"), options.get("tenant"))
            return await session.run_sync(lambda sync: self.start(name, input, session=sync, **options))
        return await asyncio.to_thread(lambda: self.start(name, input, **options))

    async def astart_many(
        self, name: str, items: Iterable[tuple[str | None, Any]], **options: Any
    ) -> list[ExecutionHandle]:
        """`start_many`, awaitable."""
        return await asyncio.to_thread(lambda: self.start_many(name, items, **options))

    def execution(self, execution_id: str) -> ExecutionHandle:
        """A handle on an execution that exists; ExecutionNotFound otherwise."""
        with self.core.database.connect() as connection:
            if views.status(connection, execution_id) is None:
                raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
        return self._handle(Started(execution_id=execution_id, created=False))

    def publish_definitions(self, tenant: str | None = None) -> list[Published]:
        """Publish every definition of the configured modules.

        Raises:
            DefinitionError: one of them cannot be loaded.
            DefinitionConflict: one is published with other content under the same version.
        """
        self.catalog.raise_problems()
        tenant, new_version = tenant or self.core.settings.tenant, self.core.settings.dev_mode
        with self.core.database.connect() as connection:
            return [
                definitions.publish(connection, tenant, found, new_version=new_version)
                for found in self.catalog.definitions
            ]

    def _handle(self, started: Started) -> ExecutionHandle:
        return ExecutionHandle(id=started.execution_id, created=started.created, _database=self.core.database)

    def _target(self, name: str, version: int | None, tenant: str | None) -> Target:
        """The published definition to start: this process's own, else the ledger's."""
        tenant = tenant or self.core.settings.tenant
        own, missing = self._own(name, version)
        if own is not None and (known := self._targets.get((tenant, name, own.version))) is not None:
            return known
        new_version = self.core.settings.dev_mode

        def resolve() -> Target:
            with self.core.database.connect() as connection:
                found = (
                    definitions.publish(connection, tenant, own, new_version=new_version)
                    if own is not None
                    else definitions.find(connection, tenant, name, version)
                )
                if found is None:
                    raise missing or UnknownDefinition(name)
                graph = self.core.graphs.get(connection, found.id)
            return Target(tenant=tenant, definition_id=found.id, graph=graph)

        target = database.persist(resolve, give_up_after=PATIENCE, at=self.core.database)
        if own is not None:
            self._targets[(tenant, name, own.version)] = target
        return target

    def _own(self, name: str, version: int | None) -> tuple[Definition | None, UnknownDefinition | None]:
        """What this process has loaded under a name, or the error that says what it has."""
        try:
            return self.catalog.get(name, version), None
        except UnknownDefinition as error:
            return None, error
