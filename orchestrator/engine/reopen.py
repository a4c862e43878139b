"""Executions that have ended, taken up again: retried as they are, with a step given, or as a fork from a step.

Everything is worked out from the rows of an execution that is final, and carried out by one guarded statement. Joins
and bodies are looked after behind it; if whoever commands dies before that, the stalled sweep does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reopen import Reopening, exit_given, reopen
from orchestrator.engine.advance import advance, child_ended
from orchestrator.engine.core import Core
from orchestrator.engine.mend import decide_joins, wake_containers
from orchestrator.engine.signal import match
from orchestrator.engine.spread import bare_spread
from orchestrator.errors import ControlRefused, ExecutionNotFound
from orchestrator.ledger import children, controls, forks, maintenance, parks, reopens
from orchestrator.ledger.controls import By
from orchestrator.ledger.reopens import Standing
from orchestrator.model.reopened import Reopened, Row
from orchestrator.model.state import BACKWARD_EXECUTIONS, FINAL_EXECUTIONS, ExecutionStatus, StepStatus

#: Ends from which an execution may go on.
RETRYABLE = frozenset({ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.TIMED_OUT})

#: Executions whose work is undone.
_BACK = frozenset({ExecutionStatus.COMPENSATING, ExecutionStatus.COMPENSATED, ExecutionStatus.COMPENSATION_FAILED})

CHANGED = "somebody else took it up at the same moment; look at it again"


def require(connection: Connection, execution_id: str) -> Standing:
    """How an execution stands. Raises ExecutionNotFound, and ControlRefused for one that was purged."""
    found = reopens.standing(connection, execution_id)
    if found is None:
        raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
    if found.purged_at is not None:
        raise ControlRefused(execution_id, f"it was purged on {found.purged_at:%Y-%m-%d}; only its key is kept")
    return found


def retry(
    core: Core,
    connection: Connection,
    execution_id: str,
    by: By,
    *,
    command: str = "retry",
    path: str | None = None,
    given: Mapping[str, str] | None = None,
    value: str | None = None,
    by_itself: bool = False,
    awaited: bool = False,
) -> None:
    """Let an execution go on that has failed, was cancelled or timed out; what is done stays done. Of one that has not
    ended, the steps that wait for their next attempt make it now.

    Args:
        given: outputs (JSON text) by path of failed steps that count as succeeded.
        value: another input, as JSON text.
        by_itself: no operator's doing, but the definition's.
        awaited: a child that goes on for its parent, and so only while that waits for it; as by itself.

    Raises:
        ControlRefused: it has not ended so, or none of it waits for what is given.
    """
    standing = require(connection, execution_id)
    if standing.status not in RETRYABLE:
        if not given and value is None and controls.hurry(connection, execution_id, by):
            return
        raise ControlRefused(execution_id, _no_retry(standing.status))
    if standing.parent is not None:
        parent = require(connection, standing.parent[0])
        if parent.status in BACKWARD_EXECUTIONS:
            raise ControlRefused(execution_id, f"its parent {standing.parent[0]} is {parent.status}: it goes back")
    graph = core.graphs.get(connection, standing.definition_id)
    rows = reopens.rows(connection, execution_id)
    if given:
        _require_waiting(graph, rows, execution_id, given)
    begun: list[str] = []
    found = reopen(graph, rows, given=given, child=lambda at: _child(connection, execution_id, at, awaited=begun))
    successors = _missing(core, connection, execution_id, found, {row.path for row in rows})
    _race_on(successors, {each.path for each in found.rows if each.status == StepStatus.BLOCKED})
    done = reopens.retry(
        connection,
        execution_id,
        seen=standing.settled_at,
        command=command,
        reopened=found.rows,
        successors=successors,
        by=by,
        path=path,
        value=value,
        by_itself=by_itself,
        awaited=awaited or by_itself,
    )
    if not done:
        raise ControlRefused(execution_id, CHANGED)
    for child in begun:
        # After their parent, which waits for them: if this is lost, the sweep does it.
        retry_awaited(core, connection, child, by)
    _mend(core, connection, graph, execution_id, found=found, successors=successors)


def retry_awaited(core: Core, connection: Connection, child: str, by: By) -> None:
    """Let a child go on for its parent, which waits for it, or tell that how it has ended."""
    with suppress(ControlRefused):
        retry(core, connection, child, by, awaited=True)
    child_ended(core, connection, child, anyway=True)


def retry_children(core: Core, connection: Connection, execution_id: str, by: By) -> None:
    """The rest of a retry that was broken off behind its own statement: what it waits for goes on with it."""
    for row in reopens.rows(connection, execution_id):
        if row.status == StepStatus.WAITING and row.awaits == "child":
            child = parks.resume(connection, execution_id, row.path).get("child")
            standing = reopens.standing(connection, child) if child else None
            # One that goes on by itself was not what the retry was about.
            if standing is None or standing.status not in RETRYABLE:
                continue
            retry_awaited(core, connection, str(child), by)
    advance(core, connection, execution_id)


def _require_waiting(graph: Graph, rows: Iterable[Row], execution_id: str, given: Mapping[str, str]) -> None:
    """Refuse what cannot be given before anything is changed: children that go on do so at once."""
    try:
        found = reopen(graph, rows, given=given, child=lambda at: Reopened(path=at, status=StepStatus.READY))
    except ValueError as error:
        raise ControlRefused(execution_id, str(error)) from error
    unasked = given.keys() - {each.path for each in found.rows}
    if unasked:
        raise ControlRefused(
            execution_id,
            f"nothing waits for step {min(unasked)}: others have borne that it did not succeed, or go on without it",
        )


def exit_by(graph: Graph, execution_id: str, path: str, output: str) -> str | None:
    """The exit of a step that is given an output (JSON text); ControlRefused when it can go on by none."""
    try:
        return exit_given(graph, path, output)
    except ValueError as error:
        raise ControlRefused(execution_id, str(error)) from error


def _no_retry(status: str) -> str:
    if status == ExecutionStatus.COMPENSATED:
        return "it is compensated: what it did is undone; fork it from a step, or start another"
    if status == ExecutionStatus.COMPENSATION_FAILED:
        return "a compensation of it has failed; `orchestrator compensate` tries that again"
    if status in FINAL_EXECUTIONS:
        return f"it has ended {status}; only failed, cancelled and timed_out executions are retried"
    return (
        f"it is {status}, and nothing of it waits for its next attempt; what has ended unluckily is retried as a whole"
    )


def _race_on(successors: Iterable[dict[str, Any]], undecided: set[str]) -> None:
    """Let nothing lose a race to a join that is open again: the statement would still see it as it was."""
    for row in successors:
        if unless := row.pop("unless", None):
            row["unless"] = [join for join in unless if join not in undecided] or None


def _child(connection: Connection, execution_id: str, path: str, *, awaited: list[str]) -> Reopened:
    """A step with an execution of its own: that one is waited for, unless it went back; then another begins.

    Args:
        awaited: takes note of those that are waited for.
    """
    resume = parks.resume(connection, execution_id, path)
    child = resume.get("child")
    standing = reopens.standing(connection, child) if child else None
    if standing is not None and standing.parent == (execution_id, path) and standing.status not in _BACK:
        awaited.append(str(child))
        waiting = Reopened(path=path, status=StepStatus.WAITING, awaits="child", wait_name=child)
        if standing.status not in RETRYABLE or standing.settled_at is None:
            return waiting
        # The step is not to be told of that end: the child is retried next.
        return replace(waiting, fresh=True, resume=resume | {children.PASSED_OVER: standing.settled_at.isoformat()})
    return Reopened(path=path, status=StepStatus.READY, fresh=True, resume={"again": resume.get("again", 0) + 1})


def _missing(
    core: Core, connection: Connection, execution_id: str, found: Reopening, known: set[str]
) -> list[dict[str, Any]]:
    """Rows that ought to stand behind what is done: a settle of a flagged execution inserts none."""
    spread = bare_spread(core, connection, execution_id)
    return [] if spread is None else missing(found.done, known, lambda at, by: spread[1].following(at, by).rows)


def missing(done: Iterable[tuple[str, str | None]], known: set[str], following: Any) -> list[dict[str, Any]]:
    """Rows behind steps that are done which are not among the known paths, each once."""
    rows: dict[str, dict[str, Any]] = {}
    for path, exit_by in done:
        for row in json.loads(following(path, exit_by)):
            if row["path"] not in known:
                rows.setdefault(row["path"], row)
    return list(rows.values())


def _mend(
    core: Core,
    connection: Connection,
    graph: Graph,
    execution_id: str,
    *,
    found: Reopening,
    successors: Iterable[Mapping[str, Any]],
) -> None:
    """Decide the joins that are open now, wake bodies and signals' steps, and publish."""
    blocked = [each.path for each in found.rows if each.status == StepStatus.BLOCKED]
    blocked += [str(row["path"]) for row in successors if row["status"] == StepStatus.BLOCKED]
    decide_joins(core, connection, [(execution_id, path) for path in dict.fromkeys(blocked)])
    for each in found.rows:
        if each.awaits == "body":
            inner = parks.resume(connection, execution_id, each.path).get("inner", f"{each.path}[")
            wake_containers(core, connection, [(execution_id, each.path, inner, False)])
    match(connection, graph, execution_id)
    advance(core, connection, execution_id)


def fork(
    core: Core, connection: Connection, execution_id: str, path: str, by: By, *, new: str, value: str | None = None
) -> None:
    """A new execution that begins at a step of one that has ended. Sent once more, it goes on with what is there.

    Args:
        new: the id of the new one.
        value: another input, as JSON text.

    Raises:
        ControlRefused: it goes on still, is a machine, or has no such step at its top.
    """
    standing = require(connection, execution_id)
    graph = core.graphs.get(connection, standing.definition_id)
    if not forks.made(connection, new, origin=execution_id):
        _require_forkable(connection, graph, execution_id, standing, path)
        kept, successors = _parts(core, connection, graph, execution_id, path)
        forked = forks.fork(
            connection,
            new,
            origin=execution_id,
            seen=standing.settled_at,
            path=path,
            kept=sorted(kept),
            successors=successors,
            value=value,
            by=by,
        )
        # The first sending may have been at work yet when this one looked.
        if not forked and not forks.made(connection, new, origin=execution_id):
            raise ControlRefused(execution_id, CHANGED)
    begun = [{"path": row.path, "status": row.status} for row in reopens.rows(connection, new)]
    _mend(core, connection, graph, new, found=Reopening(), successors=begun)


def _require_forkable(connection: Connection, graph: Graph, execution_id: str, standing: Standing, path: str) -> None:
    if standing.status not in FINAL_EXECUTIONS:
        raise ControlRefused(execution_id, f"it is {standing.status}; a fork is made of one that has ended")
    if graph.definition.machine is not None:
        raise ControlRefused(execution_id, "it is a machine, which has no step to begin at; start another")
    if path not in graph.root.steps:
        known = ", ".join(graph.root.steps)
        raise ControlRefused(execution_id, f"{graph.name} has no step {path} at its top to begin at; it has {known}")
    if maintenance.facts(connection, standing.tenant) is not None:
        raise ControlRefused(execution_id, "nothing begins in maintenance; `orchestrator maintenance off` ends that")


def _parts(
    core: Core, connection: Connection, graph: Graph, execution_id: str, path: str
) -> tuple[set[str], list[Mapping[str, Any]]]:
    """What a fork copies, as paths, and the rows that it begins with."""
    rows = reopens.rows(connection, execution_id)
    # What was undone must be done again, and so must all that came of it; not a part that went back by itself.
    borne = {row.path for row in rows if row.exit is not None and row.status == StepStatus.FAILED}
    undone = {row.undoes for row in rows if row.undoes is not None}
    behind = _behind(graph, [path, *{graph.top(each) for each in undone if borne.isdisjoint(graph.around(each))}])
    done = [(row.path, row.exit) for row in rows if row.path not in behind and _is_done(graph, row)]
    kept = {at for at, _ in done}
    # The statement that copies a decided join cannot see it: so those that have lost to it are left out here.
    lost = {loser for join in kept for loser in graph.losers(join)}
    kept |= {row.path for row in rows if row.undoes is None and graph.top(row.path) in kept}
    spread = bare_spread(core, connection, execution_id)
    successors: list[Mapping[str, Any]] = []
    successors += missing(done, kept, lambda at, exit_by: spread[1].following(at, exit_by).rows if spread else "[]")
    successors += [row for row in graph.root_rows() if row["path"] not in kept]
    return kept, [row for row in successors if row["path"] not in lost]


def _is_done(graph: Graph, row: Row) -> bool:
    """Whether a step at the top has ended in a way that the workflow goes on from."""
    if row.undoes is not None or row.path not in graph.root.steps:
        return False
    return row.status in {StepStatus.SUCCEEDED, StepStatus.SKIPPED} or (
        row.exit is not None and row.status in {StepStatus.FAILED, StepStatus.TIMED_OUT}
    )


def _behind(graph: Graph, paths: Iterable[str]) -> set[str]:
    """The steps and all that come after them."""
    waiting = list(paths)
    found = set(waiting)
    while waiting:
        new = set(graph.children(waiting.pop())) - found
        found |= new
        waiting += new
    return found
