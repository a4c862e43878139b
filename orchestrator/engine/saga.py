"""Rolling back: from the flag on an execution to its compensations, or to its end.

Everyone who settles or releases a step of a flagged execution calls `retreat`; so does the stalled sweep. Whoever finds
that no attempt runs any more tries to begin the undo; the guarded statement lets one of them.
"""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reverse import reverse
from orchestrator.ledger import halts
from orchestrator.model.identity import undo_path


def retreat(connection: Connection, graph: Graph, execution_id: str) -> bool:
    """Halt what is open and, once nothing runs, begin the undo or end the execution.

    Returns:
        True to the one caller who began the undo, and who has it published.
    """
    if halts.drain(connection, execution_id):
        return False
    undo = reverse(graph, halts.attempted(connection, execution_id))
    if not undo:
        halts.end(connection, execution_id)
        return False
    return halts.begin_undo(connection, execution_id, [(path, graph.queue(undo_path(path))) for path in undo])
