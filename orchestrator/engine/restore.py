"""After a restore from a backup: what may be done again is, what may not waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from orchestrator.activities.registry import registry
from orchestrator.authoring.discovery import discover
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.repeats import unrepeatable
from orchestrator.engine.inbox import PATIENCE, Inbox
from orchestrator.engine.incidents import of_restore
from orchestrator.engine.reopen import retry
from orchestrator.errors import ControlRefused, WorkersAlive
from orchestrator.ledger import database, incidents, restores
from orchestrator.ledger.controls import By
from orchestrator.ledger.incidents import Subject
from orchestrator.ledger.restores import Doubted

#: Precedes the paths, for the history and the audit.
BECAUSE = "restored from a backup; this may have been done since: "
#: Of what was to be retried by itself.
RETRIED_BECAUSE = "restored from a backup; it was to be retried by itself, and may have been since"


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Executions of one definition that wait for a person."""

    tenant: str
    definition: str
    version: int
    executions: int
    #: What of them may have been done after the backup, and may not be done twice.
    steps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What was found in the ledger and done to it."""

    #: When it was last worked on before the backup; None if it never was.
    heard: datetime | None
    #: How long ago that was, in seconds: deadlines are later by as much.
    stood_still: float
    #: Claims of the time before that were taken back.
    released: int
    held: tuple[Held, ...]
    #: Executions that go on by themselves.
    going_on: int

    @property
    def executions_held(self) -> int:
        """How many executions wait for a person."""
        return sum(each.executions for each in self.held)

    def as_data(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self) | {"executions_held": self.executions_held}


class Restores(Inbox):
    """Makes a restored ledger fit to be worked on."""

    def restored(self, *, actor: str, reason: str | None = None, dry_run: bool = False) -> Restored:
        """Take up a ledger that was restored from a backup, before any worker does; of all tenants.

        What the nodes of the time before held is taken back, and deadlines are later by the time since. Executions in
        which a step that is not done yet, by this ledger, may have been done since are paused, with one incident for
        each definition; those that had failed, and were to be retried as a whole by themselves, are among them.
        Activities that are transactional or `idempotent` are in no doubt, and simply run again. An activity that this
        process does not know is in doubt. Done twice, it finds what was done the first time.

        Args:
            dry_run: tell what would be done, and do nothing.

        Raises:
            WorkersAlive: a node is at work, or was a moment ago; nothing is done.
            DatabaseUnavailable, SchemaNotMigrated: the ledger cannot be reached or used.
        """
        core, by = self.core, By(actor=actor, reason=reason)
        discover(core.settings.modules, registry)

        def act() -> Restored:
            with database.transaction(core.database) as connection:
                self._nobody_works(connection)
                found = self._take_up(connection, by)
                self._nobody_works(connection)
                if dry_run:
                    connection.rollback()
                return found

        return database.persist(act, give_up_after=PATIENCE, at=core.database)

    def _nobody_works(self, connection: Connection) -> None:
        dead_after = self.core.settings.dead_after
        node = restores.alive(connection, dead_after)
        if node is not None:
            raise WorkersAlive(*node, dead_after)

    def _take_up(self, connection: Connection, by: By) -> Restored:
        heard, now = restores.times(connection)
        released = restores.take_back(connection, heard)
        self._retry(connection, by)
        held: list[Held] = []
        for tenant, definition_id in restores.definitions(connection):
            graph = self.core.graphs.get(connection, definition_id)
            tops = self._tops(graph)
            doubted = restores.hold(connection, definition_id, tops, BECAUSE, by) if tops else []
            if doubted:
                held.append(self._enter(connection, tenant, graph, doubted, now))
        restores.rest(connection)
        found = Restored(
            heard=heard,
            stood_still=0.0 if heard is None else max(0.0, (now - heard).total_seconds()),
            released=released,
            held=tuple(held),
            going_on=restores.going_on(connection),
        )
        facts = {"heard": heard and heard.isoformat(), "held": found.executions_held, "going_on": found.going_on}
        restores.enter(connection, self.core.settings.tenant, by, facts)
        return found

    def _retry(self, connection: Connection, by: By) -> None:
        """Retry what would be retried by itself and is in doubt: as no worker works, it can be paused before it goes
        on, and then a person decides of it as of everything else. Nothing is published: workers find it when they
        come, if it may go on."""
        core = self.core.silent()
        because = By(actor=by.actor, reason=RETRIED_BECAUSE)
        for definition_id in restores.definitions_retried(connection):
            tops = self._tops(core.graphs.get(connection, definition_id))
            for execution_id in restores.retried(connection, definition_id, tops) if tops else ():
                # Where its parent goes back, the sweep will not retry it either.
                with suppress(ControlRefused):
                    retry(core, connection, execution_id, because, by_itself=True)

    def _tops(self, graph: Graph) -> dict[str, list[str]]:
        return unrepeatable(graph.definition, registry.is_repeatable)

    def _enter(
        self, connection: Connection, tenant: str, graph: Graph, doubted: Sequence[Doubted], now: datetime
    ) -> Held:
        steps = tuple(dict.fromkeys(path for each in doubted for path in each.paths))
        subjects = [Subject(execution_id=each.id, path="", at=now) for each in doubted]
        incidents.count(connection, of_restore(tenant, graph.name, steps), subjects)
        return Held(tenant=tenant, definition=graph.name, version=graph.version, executions=len(doubted), steps=steps)
