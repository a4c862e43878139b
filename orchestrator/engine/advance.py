"""advance: the one road. Ledger -> snapshot -> compile -> plan -> canvas -> publish.

Start, timers, released claims, recovery and compensation all end here. It decides nothing by itself: each write is a
guarded statement of the ledger, so any number of callers at once, and a crash anywhere, do no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from orchestrator.compiler.compile import CHAIN_LIMIT, compile_plan
from orchestrator.compiler.graph import Graph
from orchestrator.dispatch.publish import Planned
from orchestrator.engine.core import Core
from orchestrator.engine.finish import finish
from orchestrator.engine.saga import retreat
from orchestrator.ledger import executions, snapshots
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.state import DRAINING_EXECUTIONS, ExecutionStatus


def publish_ready(core: Core, graph: Graph, definition_id: str, execution_id: str, ready: Sequence[str]) -> None:
    """Publish steps that a settle has just made ready; reads nothing."""
    snapshot = Snapshot(status=ExecutionStatus.RUNNING, ready=tuple(ready))
    plan = compile_plan(graph, snapshot)
    core.publisher.publish([Planned(execution_ids=(execution_id,), definition_id=definition_id, plan=plan)])


def advance(core: Core, connection: Connection, execution_id: str, only: Sequence[str] | None = None) -> None:
    """Take an execution up wherever it stands.

    Args:
        only: publish just these of its ready paths; None publishes all that are ready.
    """
    planned = _plan(core, connection, execution_id, only)
    if planned is not None:
        core.publisher.publish([planned])


def advance_many(core: Core, connection: Connection, paths: Iterable[tuple[str, str]]) -> None:
    """Publish ready paths of many executions, as (execution id, path), in few round trips to the broker."""
    by_execution: dict[str, list[str]] = defaultdict(list)
    for execution_id, path in paths:
        by_execution[execution_id].append(path)
    plans = [_plan(core, connection, execution_id, only) for execution_id, only in by_execution.items()]
    core.publisher.publish([planned for planned in plans if planned is not None])


def _plan(core: Core, connection: Connection, execution_id: str, only: Sequence[str] | None) -> Planned | None:
    about = executions.about(connection, execution_id)
    if about is None:
        return None
    graph = core.graphs.get(connection, about.definition_id)
    status = ExecutionStatus(about.status)
    if only is None and status is ExecutionStatus.RUNNING:
        finish(connection, graph, execution_id, core.settings.max_payload)
        status = _status(connection, execution_id)
    if status in DRAINING_EXECUTIONS:
        if not retreat(connection, graph, execution_id):
            return None
        only = None
    found = snapshots.snapshot(connection, execution_id, only, CHAIN_LIMIT)
    if found is None or not found.ready:
        return None
    plan = compile_plan(graph, found)
    return Planned(execution_ids=(execution_id,), definition_id=about.definition_id, plan=plan)


def _status(connection: Connection, execution_id: str) -> ExecutionStatus:
    about = executions.about(connection, execution_id)
    return ExecutionStatus(about.status) if about else ExecutionStatus.FAILED
