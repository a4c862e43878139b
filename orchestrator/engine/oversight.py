"""What operators ask and say: why an execution is where it is, and what to do about incidents."""

from __future__ import annotations

from abc import ABC
from typing import Any, Literal

from orchestrator.engine import explain
from orchestrator.engine.core import Core
from orchestrator.engine.explain import Explanation
from orchestrator.errors import IncidentNotFound
from orchestrator.ledger import incidents

#: Which incidents are listed.
Which = Literal["open", "closed", "all"]


class Oversight(ABC):
    """Reads the ledger for people, and keeps what they say of incidents."""

    core: Core

    def explain(self, execution_id: str) -> Explanation:
        """Why an execution is where it is, and which command helps; ExecutionNotFound when there is none."""
        with self.core.database.connect() as connection:
            return explain.explanation(self.core, connection, execution_id)

    def incidents(
        self, status: Which = "open", kind: str | None = None, *, tenant: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Incidents, the latest first.

        Args:
            status: `open`, `closed` or `all`.
            kind: only of this one, such as `retries_exhausted`.
        """
        with self.core.database.connect() as connection:
            return incidents.listed(
                connection, tenant=tenant or self.core.settings.tenant, status=status, kind=kind, limit=limit
            )

    def incident(self, incident_id: str) -> dict[str, Any]:
        """One incident, its latest executions among it as `subjects`; IncidentNotFound when there is none."""
        with self.core.database.connect() as connection:
            found = incidents.incident(connection, incident_id)
        if found is None:
            raise IncidentNotFound(_missing(incident_id))
        return found

    def assign_incident(self, incident_id: str, assignee: str | None, actor: str | None = None) -> None:
        """Give an open incident to somebody, or with None to nobody; IncidentNotFound when none is open.

        Args:
            actor: who does this, for the incident's detail; by default the assignee.
        """
        with self.core.database.connect() as connection:
            if not incidents.assign(connection, incident_id, assignee, actor or assignee or "somebody"):
                raise IncidentNotFound(_missing(incident_id))

    def close_incident(self, incident_id: str, actor: str, reason: str) -> None:
        """Close an open incident; IncidentNotFound when none is open. What goes wrong later opens another."""
        with self.core.database.connect() as connection:
            if not incidents.close(connection, incident_id, actor, reason):
                raise IncidentNotFound(_missing(incident_id))


def _missing(incident_id: str) -> str:
    return f"no incident {incident_id} is there or open; `orchestrator incidents list --all` shows them"
