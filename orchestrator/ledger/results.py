"""What steps have left behind, for those that refer to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, text

#: A loop that has gone through keeps its items, and leaves its results to its iterations. One that was given an output
#: by hand, or that had no items, has it on its row.
IN_ITERATIONS = "status = 'succeeded' AND resume ? 'items'"
#: Stands for an output that the iterations have.
ELSEWHERE: Final[Any] = object()

OUTCOMES = text(f"""
SELECT path, status, exit, output, error, {IN_ITERATIONS} FROM orchestrator.step
WHERE execution_id = :execution AND path = ANY(:paths) AND settled_at IS NOT NULL
""")

#: Of all iterations of a loop: bracket by bracket in the order of C collation, `[` being the last character before
#: `\\`.
ITERATIONS = text(f"""
SELECT path, output, {IN_ITERATIONS} FROM orchestrator.step
WHERE execution_id = :execution AND path >= CAST(:loop AS text) || '[' AND path < CAST(:loop AS text) || chr(92)
  AND path ~ :pattern
""")

#: The step of a machine's transitions that was carried out last; found by index, however often they were.
OF_TRANSITIONS = text("""
SELECT i.id, s.status, s.exit, s.output, s.error FROM unnest(CAST(:ids AS text[])) AS i(id), LATERAL (
    SELECT status, exit, output, error FROM orchestrator.step
    WHERE execution_id = :execution AND strpos(path, '/') > 0 AND undoes IS NULL
      AND substring(path FROM '[^/]*$') = i.id AND settled_at IS NOT NULL
    ORDER BY ready_at DESC LIMIT 1
) s
""")

#: What a step left, for its compensation.
STEP_RESULT = text("SELECT output, error FROM orchestrator.step WHERE execution_id = :execution AND path = :path")


def outcomes(connection: Connection, execution_id: str, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """path -> what expressions may know of those of the steps that have ended; a loop's output may be ELSEWHERE."""
    rows = connection.execute(OUTCOMES, {"execution": execution_id, "paths": list(paths)})
    return {row[0]: _outcome(row) | ({"output": ELSEWHERE} if row[5] else {}) for row in rows}


def of_transitions(connection: Connection, execution_id: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """id -> the same of the steps of a machine's transitions, each from the last time it was carried out."""
    rows = connection.execute(OF_TRANSITIONS, {"execution": execution_id, "ids": list(ids)})
    return {row[0]: _outcome(row) for row in rows}


def _outcome(row: Sequence[Any]) -> dict[str, Any]:
    return {"status": row[1], "exit": row[2], "output": row[3], "error": row[4]}


def iterations(connection: Connection, execution_id: str, loop: str, ends: Sequence[str]) -> dict[int, dict[str, Any]]:
    """iteration -> last step of its body -> output, which may be ELSEWHERE, of a loop's iterations in order."""
    pattern = rf"^{re.escape(loop)}\[[0-9]+\]\.({'|'.join(ends)})$"
    found: dict[int, dict[str, Any]] = {}
    parameters = {"execution": execution_id, "loop": loop, "pattern": pattern}
    for path, output, elsewhere in connection.execute(ITERATIONS, parameters):
        index, end = path[len(loop) + 1 :].split("].", 1)
        found.setdefault(int(index), {})[end] = ELSEWHERE if elsewhere else output
    return {index: found[index] for index in sorted(found)}


def step_result(connection: Connection, execution_id: str, path: str) -> tuple[Any, Any]:
    """Output and error that a step left; None for what it has not."""
    row = connection.execute(STEP_RESULT, {"execution": execution_id, "path": path}).first()
    return (row[0], row[1]) if row else (None, None)
