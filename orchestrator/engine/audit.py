"""What operators have done by hand, for application code."""

from __future__ import annotations

from orchestrator.engine.core import Core
from orchestrator.ledger import audit, database

#: Seconds that a client waits for a database that is away.
_PATIENCE = 5.0


class Audited:
    """Tells what was done to executions by hand."""

    core: Core

    def audit(
        self,
        execution_id: str | None = None,
        *,
        actor: str | None = None,
        tenant: str | None = None,
        limit: int = 100,
    ) -> list[audit.Entry]:
        """The commands of operators that took effect, newest first.

        Args:
            execution_id: only what was done to this one.
            actor: only what this one did.
            tenant: by default the settings' one.
            limit: so many at most.

        Raises:
            DatabaseUnavailable, SchemaNotMigrated: the ledger cannot be reached or used.
        """

        def read() -> list[audit.Entry]:
            with self.core.database.connect() as connection:
                whose = tenant or self.core.settings.tenant
                return audit.entries(connection, whose, execution_id, actor, limit=limit)

        return database.persist(read, give_up_after=_PATIENCE, at=self.core.database)
