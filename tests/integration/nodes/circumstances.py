"""What may keep an execution from going on, for the note of a failed test."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import text

from nodes.messages import Message
from orchestrator import ExecutionHandle, Orchestrator

_OPEN_STEPS = text("""
SELECT execution_id, path, status, attempt, owner, ready_at, queue FROM orchestrator.step
WHERE status IN ('ready', 'running', 'retrying') ORDER BY ready_at DESC LIMIT 40
""")
_PROBES = text("SELECT * FROM orchestrator.probe")


def circumstances(orchestrator: Orchestrator, waiting: Sequence[Message], handle: ExecutionHandle) -> str:
    """An explanation, the open steps and probes, what waits in the broker, and what Celery's workers say they do."""
    inspect = orchestrator.app.control.inspect(timeout=2)
    with orchestrator.core.database.connect() as connection:
        steps = [list(row) for row in connection.execute(_OPEN_STEPS)]
        probes = [list(row) for row in connection.execute(_PROBES)]
    told = {
        "explained": orchestrator.explain(handle.id).as_data(),
        "waiting": [str(message) for message in waiting],
        "open steps": steps,
        "probes": probes,
        "active": inspect.active(),
        "reserved": inspect.reserved(),
        "pools": {node: stats.get("pool") for node, stats in (inspect.stats() or {}).items()},
    }
    return json.dumps(told, indent=1, default=str)
