"""Taking up, from outside a worker, what a crash or a timeout has left of one execution's steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection

from orchestrator.compiler.graph import MACHINE
from orchestrator.engine.advance import advance, advance_many, child_ended
from orchestrator.engine.apart import Apart
from orchestrator.engine.core import Core
from orchestrator.engine.failure import follow_failure, settle_failure
from orchestrator.engine.part import after_undo, woken_at_once
from orchestrator.engine.spread import bare, bare_spread
from orchestrator.ledger import children, halts, parks, walks
from orchestrator.ledger.claims import Claim
from orchestrator.model.identity import undone_path
from orchestrator.model.outcome import Failure
from orchestrator.model.state import StepStatus


def decide_joins(core: Core, connection: Connection, found: Iterable[tuple[str, str]]) -> None:
    """Decide joins that nobody decided, as (execution id, path), and publish what that makes ready."""
    by_execution: dict[str, list[str]] = defaultdict(list)
    for execution_id, path in found:
        by_execution[execution_id].append(path)
    ready = []
    with Apart() as apart:
        for execution_id, paths in by_execution.items():
            with apart.one(execution_id):
                opened = bare_spread(core, connection, execution_id)
                if opened is None:
                    continue
                made = opened[1].decide(paths)
                ready += [(execution_id, path) for path in made]
                if not made:
                    # What was skipped may have been the last of it.
                    advance(core, connection, execution_id, ())
        advance_many(core, connection, ready)


def wake_containers(core: Core, connection: Connection, found: Iterable[tuple[str, str, str, bool]]) -> None:
    """Wake steps whose body has ended: execution id, path, what the paths of the body begin with, whether it broke."""
    ready = []
    with Apart() as apart:
        for execution_id, path, inner, broken in found:
            with apart.one(execution_id):
                if broken:
                    # Not of others: a loop may have begun its next iteration meanwhile.
                    halts.drain(connection, execution_id, inner, container=path)
                opened = bare_spread(core, connection, execution_id)
                if opened is not None and opened[1].wake(path, inner):
                    ready.append((execution_id, path))
        advance_many(core, connection, ready)


def after_stragglers(core: Core, connection: Connection, found: Iterable[tuple[str, str]]) -> None:
    """Go on where attempts have ended whose steps were settled without them, as (execution id, path).

    What goes back may have waited for that.
    """
    with Apart() as apart:
        for execution_id, path in found:
            with apart.one(execution_id):
                opened = bare_spread(core, connection, execution_id)
                if opened is not None:
                    advance(core, connection, execution_id, opened[1].wake_around(path))


def tell_parents(core: Core, connection: Connection, found: Iterable[str]) -> None:
    """Wake the steps that wait for children which have ended."""
    with Apart() as apart:
        for child in found:
            with apart.one(child):
                child_ended(core, connection, child)


def cancel_orphans(core: Core, connection: Connection, limit: int) -> int:
    """Cancel the children of steps that were cancelled themselves; how many."""
    found = children.cancel_orphans(connection, limit)
    take_up(core, connection, found)
    return len(found)


def take_up(core: Core, connection: Connection, found: Iterable[str]) -> None:
    """Take executions up wherever they stand."""
    with Apart() as apart:
        for execution_id in found:
            with apart.one(execution_id):
                advance(core, connection, execution_id)


def end_of_header(
    core: Core, connection: Connection, execution_id: str, definition_id: str, *, body: str, found_done: bool
) -> list[str]:
    """A header of a chord has ended: what that makes ready, its body or what follows a body that is skipped.

    Args:
        found_done: the header found its work done already. It may stand for one that died between making the body ready
            and publishing it.
    """
    graph = core.graphs.get(connection, definition_id)
    spread = bare(connection, graph, execution_id)
    # The body of a chord of lanes is the loop itself, which waits for them.
    inner = f"{body}["
    if body == MACHINE:
        inner = parks.resume(connection, execution_id, body).get("inner", inner)
    ready = spread.decide([body], [(body, inner)] if graph.has_body(body) else [])
    if not ready and found_done:
        ready = walks.forsaken(connection, execution_id, [body])
    if not ready and spread.ended:
        # The body was skipped, and was the last of it.
        advance(core, connection, execution_id, ())
    return ready


def fail_attempt(core: Core, connection: Connection, held: Claim, failure: Failure, *, final: bool = False) -> None:
    """Settle an attempt that its worker could not end, with its own token, and go on from there.

    Args:
        final: no other attempt follows, whatever the policy says.
    """
    opened = bare_spread(core, connection, held.execution_id)
    if opened is None:
        return
    graph, spread = opened
    settled = settle_failure(connection, graph, held, failure, spread=spread, final=final)
    if settled is None or settled.status == StepStatus.RETRYING:
        return
    if settled.status == StepStatus.WAITING:
        advance(core, connection, held.execution_id, settled.ready or woken_at_once(spread, held.path))
        return
    if undone_path(held.path) is not None:
        after_undo(core, connection, held, spread=spread, settled=settled)
        return
    ready = follow_failure(core, connection, graph, held, failure, spread=spread, settled=settled)
    if ready is None:
        advance(core, connection, held.execution_id, ())
    else:
        advance_many(core, connection, [(held.execution_id, path) for path in ready])
