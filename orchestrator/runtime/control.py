"""Steps that call no activity: asks their kind what to do, and carries that out with the claim's token.

Who else may be here: a second owner, if this one was taken for dead. Every decision ends in one statement that matches
the token, so of two decisions one is recorded. What a kind must remember is on the row, written with the decision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.engine import children, signal
from orchestrator.engine.advance import advance, cancel_children
from orchestrator.engine.scope import Scope
from orchestrator.errors import ActivityError, OrchestratorError
from orchestrator.expressions import Template
from orchestrator.kinds.kind import (
    Break,
    Decision,
    Done,
    Emit,
    Enter,
    Failed,
    Park,
    Refuse,
    Situation,
    Spawn,
    Start,
)
from orchestrator.ledger import executions, halts, machines, parks, signals, walks
from orchestrator.ledger.claims import Claim, Facts, Settled, Woken
from orchestrator.ledger.controls import cancel
from orchestrator.model.identity import new_id
from orchestrator.model.outcome import Failure
from orchestrator.model.payload import encode
from orchestrator.model.state import StepStatus
from orchestrator.runtime import guard
from orchestrator.runtime.link import Link, Recovered
from orchestrator.runtime.worker import Worker

#: What letting go of a step may have made of it by the time that a lost reply is asked after.
_LET_GO = frozenset({StepStatus.WAITING, StepStatus.READY, StepStatus.CANCELLED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Succeeded:
    """The step has succeeded; to be settled."""

    #: JSON text.
    output: str
    exit: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Let:
    """The step was let go of."""

    #: Its execution is flagged, so it was cancelled instead.
    halted: bool = False
    #: Steps made ready: the first ones of its body, or itself, already woken again.
    ready: tuple[str, ...] = ()
    #: Whether those are its body.
    body: bool = False


#: None means that the claim was lost and nothing was written.
Outcome: TypeAlias = Succeeded | Let | Failure | None


class Control:
    """Carries out the decision of one step's kind."""

    def __init__(
        self, worker: Worker, link: Link, graph: Graph, *, definition_id: str, facts: Facts, scope: Scope
    ) -> None:
        self._worker, self._core, self._link, self._graph = worker, worker.core, link, graph
        self._definition_id, self._facts, self._scope = definition_id, facts, scope
        #: The failure is the kind's own word, which no other attempt would change.
        self.failed_by_definition = False
        self._acts: dict[type, Callable[[Claim, Any], Outcome]] = {
            Done: self._done,
            Failed: self._failed,
            Park: self._park,
            Spawn: self._spawn,
            Break: self._break,
            Start: self._start,
            Emit: self._emit,
            Enter: self._enter,
            Refuse: self._refuse,
        }

    def carry_out(self, held: Claim) -> Outcome:
        """Decide and act; None means that the claim was lost and nothing was written."""
        try:
            decision = self._graph.kind(held.path).decide(self._situation(held))
            return self._act(held, decision)
        except (OrchestratorError, ActivityError, ValueError, TypeError, ArithmeticError) as error:
            return guard.classify(error)

    def _situation(self, held: Claim) -> Situation:
        place, woken = self._graph.place(held.path), held.woken

        def value(template: Template, iteration: int | None = None, own: Mapping[str, Any] | None = None) -> Any:
            prefix = place.prefix if iteration is None else f"{held.path}[{iteration}]."
            return self._scope.value(template, prefix, own)

        return Situation(
            path=held.path,
            resume=woken.resume if woken else None,
            woken_by=woken.by if woken else None,
            error=woken.error if woken and woken.by == "broken" else None,
            value=value,
            result=lambda iteration: self._scope.result(held.path, iteration),
        )

    def _act(self, held: Claim, decision: Decision) -> Outcome:
        carry_out: Callable[[Claim, Any], Outcome] = self._acts[type(decision)]
        return carry_out(held, decision)

    def _done(self, held: Claim, done: Done) -> Succeeded:
        limit = self._core.settings.max_payload
        output = encode(done.output, limit=limit, what=f"output of step {held.path}")
        return Succeeded(output=output, exit=done.exit)

    def _failed(self, _: Claim, failed: Failed) -> Failure:
        self.failed_by_definition = True
        return failed.failure

    def _refuse(self, held: Claim, refuse: Refuse) -> Let | None:
        self._link.call(signals.refused, held.execution_id, refuse.name, refuse.actor, refuse.reason)
        return self._park(held, refuse.then)

    def _let_go(self, held: Claim, send: Callable[[Connection], Settled | None]) -> Settled | Recovered | None:
        return self._link.settle(held, send, _LET_GO)

    def _spawn(self, held: Claim, spawn: Spawn) -> Let | None:
        if spawn.transition is not None:
            prefixes: tuple[str, ...] = (spawn.inner,)
            body = self._graph.transition_body(spawn.transition)
        else:
            prefixes = tuple(f"{held.path}[{index}]." for index in spawn.iterations)
            body = self._graph.body(held.path)
        rows = self._graph.body_rows(prefixes, body)
        ended = self._let_go(
            held,
            lambda connection: parks.park(
                connection, held, resume=spawn.resume, awaits="body", seconds=spawn.seconds, body=rows
            ),
        )
        if ended is None:
            return None
        if isinstance(ended, Settled):
            return Let(halted=ended.halted, ready=ended.ready, body=True)
        heads = [prefix + root for prefix in prefixes for root in body.roots]
        return Let(ready=tuple(self._link.call(walks.unclaimed, held.execution_id, heads)), body=True)

    def _park(self, held: Claim, park: Park) -> Let | None:
        ended = self._let_go(
            held,
            lambda connection: parks.park(
                connection,
                held,
                resume=park.resume,
                awaits="event" if park.events else None if park.signal is None else "signal",
                wait_name=park.signal,
                correlation=park.correlation,
                seconds=park.seconds,
                until=park.until,
            ),
        )
        if ended is None:
            return None
        halted = isinstance(ended, Settled) and ended.halted
        if halted or (park.signal is None and not park.events):
            return Let(halted=halted)
        # It may be there already: asked after the commit, as whoever sends one asks after theirs.
        woken = self._link.call(signal.match, self._graph, held.execution_id, held.path)
        return Let(ready=(held.path,) if woken else ())

    def _enter(self, held: Claim, enter: Enter) -> Outcome:
        """A machine's state is recorded under the claim, which goes on with the next decision."""
        resume, data = json.dumps(enter.resume), json.dumps(dict(enter.data))
        if enter.back:
            # First, so that a crash in between still goes back.
            reason = f"the machine goes back, to state {enter.state}"
            self._link.call(lambda connection: cancel(connection, held.execution_id, reason))
        if not self._link.call(machines.enter, held, state=enter.state, resume=resume, data=data):
            return None
        if enter.back:
            return Succeeded(output=json.dumps({"state": enter.state}), exit=None)
        entered = Woken(unmet=False, resume=enter.resume, by=None, error=None)
        return self.carry_out(replace(held, woken=entered))

    def _break(self, held: Claim, decision: Break) -> Let | None:
        """Wait for the body again, but for its end by force."""
        error = json.dumps(decision.failure.as_data())
        ended = self._let_go(
            held,
            lambda connection: parks.park(connection, held, resume=decision.resume, awaits="body", broken=error),
        )
        if ended is None:
            return None
        self._link.call(halts.drain, held.execution_id, decision.inner, container=held.path)
        self._link.call(
            lambda connection: cancel_children(self._core, connection, held.execution_id, inner=decision.inner)
        )
        woken = self._link.call(parks.wake_for_body, held.execution_id, held.path, decision.inner)
        return Let(ready=(held.path,) if woken else ())

    def _start(self, held: Claim, start: Start) -> Succeeded | Let | None:
        child = self._link.call(
            lambda connection: children.start_child(self._core, connection, self._facts.tenant, held, start)
        )
        if start.detached:
            return Succeeded(output=encode({"execution_id": child}, limit=1_000, what="child"), exit=None)
        resume = {"child": child, "again": children.begun_again(held)}
        ended = self._let_go(
            held,
            lambda connection: parks.park(connection, held, resume=resume, awaits="child", wait_name=child),
        )
        if ended is None:
            return None
        if isinstance(ended, Settled) and ended.halted:
            self._link.call(self._take_back, held.execution_id, child)
            return Let(halted=True)
        woken = self._link.call(children.wake_for_child, child)
        return Let(ready=(held.path,) if woken else ())

    def _take_back(self, connection: Connection, parent: str, child: str) -> None:
        """Cancel a child whose step was cancelled after it was started; one that was not started is not there. Whoever
        has cancelled its parent may have let it go on alone, or what it did stand."""
        about = executions.about(connection, parent)
        undo = None if about is None or about.rollback else False
        cancel(connection, child, "the step that waits for it was cancelled", undo=undo, parent=parent)
        advance(self._core, connection, child)

    def _emit(self, held: Claim, emit: Emit) -> Succeeded:
        limit = self._core.settings.max_payload
        payload = encode(emit.payload, limit=limit, what=f"payload of event {emit.name}")
        self._link.call(
            lambda connection: signal.emit(
                self._core,
                connection,
                tenant=self._facts.tenant,
                name=emit.name,
                correlation=emit.correlation,
                payload=payload,
                dedup_id=f"{held.execution_id}/{held.path}",
                signal_id=str(new_id()),
            )
        )
        return Succeeded(output=payload, exit=None)
