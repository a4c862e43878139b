"""Undoing a part: what a step with a body did goes back before somebody bears the step's failure.

A step with a body fails in the hands of a worker, who has claimed it when nothing of the body, and no child of it, was
open. If a `catch`, `on_error: continue` or a tolerant join is to bear the failure, the claim is exchanged for the
compensations of what the body did (ledger/undos.py); the step is woken once more by the last of them, and only then
ends. If nobody bears it, the whole execution goes back, and what the body did with that.

Whoever dies in between leaves rows behind: a compensation that is ready, or a step that waits for an undo of which
nothing is open. Both are looked for by the sweeps, and every wake-up is one guarded statement.
"""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reverse import inner, reverse
from orchestrator.engine.advance import advance
from orchestrator.engine.core import Core
from orchestrator.engine.saga import queued
from orchestrator.engine.spread import Spread
from orchestrator.ledger import children, halts
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.identity import undone_path


def to_undo(connection: Connection, graph: Graph, held: Claim) -> list[tuple[str, str]]:
    """What the body of a claimed step did and nothing has undone yet, in order, each with its compensation's queue."""
    attempted = halts.attempted(connection, held.execution_id, inner(held.path))
    succeeded = children.succeeded(connection, held.execution_id)
    return queued(graph, reverse(graph, (found for found in attempted if found.undo is None), succeeded))


def woken_at_once(spread: Spread, path: str) -> list[str]:
    """The step itself, if it waits for a loser of a race in its body that has ended in the same moment: whoever ended
    found it in hand still."""
    return [path] if spread.wake(path, inner(path)) else []


def after_undo(core: Core, connection: Connection, held: Claim, *, spread: Spread, settled: Settled | None) -> None:
    """Go on from the end of a compensation, but for the end of its execution.

    Args:
        settled: what the settle did; None when its reply was lost.
    """
    if settled is not None and settled.finished is not None:
        return
    if settled is not None and settled.ready:
        advance(core, connection, held.execution_id, settled.ready)
        return
    woken = spread.wake_around(undone_path(held.path) or held.path)
    # With a lost reply, whatever is ready is published: what this one has made ready is among it.
    advance(core, connection, held.execution_id, woken if settled is not None else None)
