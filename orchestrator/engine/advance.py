"""advance: the one road. Ledger -> snapshot -> compile -> plan -> canvas -> publish.

Start, timers, signals, released claims, recovery and compensation all end here. It decides nothing by itself: each
write is a guarded statement of the ledger, so any number of callers at once, and a crash anywhere, do no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from orchestrator.compiler.compile import CHAIN_LIMIT, compile_plan
from orchestrator.compiler.graph import Graph
from orchestrator.dispatch.publish import Planned
from orchestrator.engine.apart import Apart
from orchestrator.engine.core import Core
from orchestrator.engine.finish import finish
from orchestrator.engine.saga import retreat
from orchestrator.engine.spread import bare_spread
from orchestrator.ledger import children, controls, executions, halts, snapshots
from orchestrator.model.identity import undone_path
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.state import DRAINING_EXECUTIONS, FINAL_EXECUTIONS, STANDING_STILL, ExecutionStatus

#: Executions that are read before the first of them is published: a step that is ready for long without a message looks
#: like one whose message was lost.
AT_ONCE = 50


def publish_ready(
    core: Core,
    graph: Graph,
    definition_id: str,
    execution_id: str,
    ready: Sequence[str],
    *,
    container: str | None = None,
) -> None:
    """Publish steps that a settle has just made ready; reads nothing.

    Args:
        container: the step whose body they begin.
    """
    snapshot = Snapshot(status=ExecutionStatus.RUNNING, ready=tuple(ready), container=container)
    plan = compile_plan(graph, snapshot)
    core.publisher.publish([Planned(execution_ids=(execution_id,), definition_id=definition_id, plan=plan)])


def advance(
    core: Core, connection: Connection, execution_id: str, only: Sequence[str] | None = None, *, tell: bool = True
) -> None:
    """Take an execution up wherever it stands.

    Args:
        only: publish just these of its ready paths; None publishes all that are ready; with none of them, the question
            is only whether it has ended or goes back.
        tell: tell its parent if it has ended.
    """
    planned = _plan(core, connection, execution_id, only, tell=tell)
    if planned is not None:
        core.publisher.publish([planned])


def advance_many(core: Core, connection: Connection, paths: Iterable[tuple[str, str]]) -> None:
    """Publish ready paths of many executions, as (execution id, path), in few round trips to the broker."""
    by_execution: dict[str, list[str]] = defaultdict(list)
    for execution_id, path in paths:
        by_execution[execution_id].append(path)
    with Apart() as apart:
        found = list(by_execution.items())
        for begin in range(0, len(found), AT_ONCE):
            plans = []
            for execution_id, only in found[begin : begin + AT_ONCE]:
                with apart.one(execution_id):
                    plans.append(_plan(core, connection, execution_id, only))
            with apart.one():
                core.publisher.publish([planned for planned in plans if planned is not None])


def child_ended(core: Core, connection: Connection, child: str, *, anyway: bool = False) -> None:
    """Tell the parent of an execution that has ended, if it has one.

    Args:
        anyway: also of an end that the parent's step passes over, as the child was to be retried.
    """
    told = children.wake(connection, child, anyway=anyway)
    if told is None:
        return
    if told.woken is not None:
        advance(core, connection, told.execution_id, [told.woken])
        return
    # The parent may be on its way back, or a body around the step, and wait for the child to be so too.
    opened = bare_spread(core, connection, told.execution_id)
    advance(core, connection, told.execution_id, opened[1].wake_around(told.path) if opened is not None else ())


def cancel_children(
    core: Core, connection: Connection, execution_id: str, *, inner: str = "", undo: bool | None = None
) -> bool:
    """Cancel whatever an execution has started and waits for; whether any of it goes on.

    Args:
        inner: only what steps have started whose paths begin with this.
        undo: whether what they did is undone; None as their definitions say.
    """
    found = children.open_children(connection, execution_id, inner)
    for child in found:
        controls.cancel(connection, child, f"its parent {execution_id} goes back", undo=undo, awaited=False)
        # Its end is seen here; told, its parent would come back here for each of many children.
        advance(core, connection, child, tell=False)
    return bool(found) and bool(children.open_children(connection, execution_id, inner))


def _plan(
    core: Core, connection: Connection, execution_id: str, only: Sequence[str] | None, *, tell: bool = True
) -> Planned | None:
    about = executions.about(connection, execution_id)
    if about is None:
        return None
    graph = core.graphs.get(connection, about.definition_id)
    status, parent = ExecutionStatus(about.status), about.parent_id if tell else None
    if not only and status is ExecutionStatus.RUNNING:
        finish(connection, graph, execution_id, core.settings.max_payload)
        status = _status(connection, execution_id)
    if status is ExecutionStatus.PAUSING:
        controls.settle_pause(connection, execution_id)
    if status in STANDING_STILL:
        return None
    if status in DRAINING_EXECUTIONS:
        begun = _turn_back(core, connection, graph, execution_id)
        status = _status(connection, execution_id)
        # A part of it that goes back does so to its end, before the whole does.
        only = None if begun else [path for path in only or () if undone_path(path) is not None]
    _tell(core, connection, execution_id, parent, status)
    if only is not None and not only:
        return None
    found = snapshots.snapshot(connection, execution_id, only, CHAIN_LIMIT)
    if found is None or not found.ready:
        return None
    plan = compile_plan(graph, found)
    return Planned(execution_ids=(execution_id,), definition_id=about.definition_id, plan=plan)


def _turn_back(core: Core, connection: Connection, graph: Graph, execution_id: str) -> bool:
    """Halt what is open and, once nothing of it or of its children goes on, undo or end; True to who began the undo."""
    running = halts.drain(connection, execution_id)
    about = executions.about(connection, execution_id)
    if about is None or about.status not in DRAINING_EXECUTIONS:
        # Others have been faster: it has ended, and may have been taken up again.
        return False
    # Children too start nothing more, whatever of this one still runs.
    if cancel_children(core, connection, execution_id, undo=None if about.rollback else False) or running:
        return False
    return retreat(connection, graph, execution_id, about)


def _tell(core: Core, connection: Connection, execution_id: str, parent: str | None, status: ExecutionStatus) -> None:
    if parent is not None and status in FINAL_EXECUTIONS:
        child_ended(core, connection, execution_id)


def _status(connection: Connection, execution_id: str) -> ExecutionStatus:
    about = executions.about(connection, execution_id)
    return ExecutionStatus(about.status) if about else ExecutionStatus.FAILED
