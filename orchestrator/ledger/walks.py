"""What a redelivered message asks: what of its segment is still to be done."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from orchestrator.ledger.tables import OPEN

OPEN_STEPS = text(f"""
SELECT path, status FROM orchestrator.step WHERE execution_id = :execution AND {OPEN}
""")

UNCLAIMED = text("""
SELECT path FROM orchestrator.step
WHERE execution_id = :execution AND path = ANY(:paths) AND status = 'ready' AND attempt = 0 AND NOT halt
""")

#: Successors that were made ready a while ago: their publish was probably lost. However many duplicates of a message
#: find them, each is taken up once in that while, or doubled messages would breed.
FORSAKEN = text("""
UPDATE orchestrator.step SET ready_at = clock_timestamp(), ready_xid = pg_current_xact_id()
WHERE execution_id = :execution AND path = ANY(:paths) AND status = 'ready' AND attempt = 0 AND NOT halt
  AND ready_at < clock_timestamp() - interval '1 second'
RETURNING path
""")


def open_steps(connection: Connection, execution_id: str) -> list[tuple[str, str]]:
    """Path and status of an execution's open steps."""
    return [(row[0], row[1]) for row in connection.execute(OPEN_STEPS, {"execution": execution_id})]


def unclaimed(connection: Connection, execution_id: str, paths: Sequence[str]) -> list[str]:
    """Those of the paths that are ready and that nobody has ever claimed."""
    return list(connection.execute(UNCLAIMED, {"execution": execution_id, "paths": list(paths)}).scalars())


def forsaken(connection: Connection, execution_id: str, paths: Sequence[str]) -> list[str]:
    """Those of the paths that have been ready for a second, nobody has ever claimed, and nobody else takes up now."""
    return list(connection.execute(FORSAKEN, {"execution": execution_id, "paths": list(paths)}).scalars())
