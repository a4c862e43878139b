"""What operators have done by hand, for application code."""

from __future__ import annotations

from orchestrator.engine.inbox import Inbox
from orchestrator.ledger import audit


class Audited(Inbox):
    """Tells what was done to executions by hand."""

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
        whose = tenant or self.core.settings.tenant
        return self._persist(lambda connection: audit.entries(connection, whose, execution_id, actor, limit=limit))
