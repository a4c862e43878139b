"""Executions that nothing would move: flagged and not drained, drained and not ended, or without any open step.

Each is what a crash between two statements leaves behind; `advance` takes them up where it was.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from orchestrator.ledger.tables import FINAL, OPEN

STALLED = text(f"""
SELECT x.id FROM orchestrator.execution x
WHERE x.status NOT IN ({FINAL}) AND x.status <> 'paused' AND x.created_at < clock_timestamp() - interval '2 seconds'
  AND (
    (x.status = 'pausing'
     AND NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.status = 'running'))
    OR x.status <> 'pausing' AND NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.{OPEN})
    OR (x.status IN ('failing', 'cancelling', 'timing_out') AND (
        NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.status = 'running')
        OR EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND NOT s.halt AND s.{OPEN}))
    )
  )
LIMIT :limit
""")


def stalled(connection: Connection, limit: int) -> list[str]:
    """Ids of executions that need somebody to advance them."""
    return [str(found) for found in connection.execute(STALLED, {"limit": limit}).scalars()]
