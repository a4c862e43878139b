"""A segment: the steps that one Celery task runs back to back.

    claim the head -> attempt -> settle it and claim the next, in one statement -> attempt -> ... -> spread or finish

A message may be lost, doubled, late, or for a step long settled. The claim decides what there is to do; what comes
after the settle (join, publish) is done by whoever's statement made it possible, and by a sweep if that one dies.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.activities.context import StepContext
from orchestrator.compiler.graph import Graph
from orchestrator.engine.advance import advance, publish_ready
from orchestrator.engine.finish import result
from orchestrator.errors import ExpressionError, InvalidInput, PayloadError
from orchestrator.ledger import claims, joins, lost_replies, walks
from orchestrator.ledger.claims import Claim, Facts, Settled
from orchestrator.model.identity import step_key
from orchestrator.model.outcome import Failure
from orchestrator.model.state import ExecutionStatus, StepStatus
from orchestrator.runtime import guard
from orchestrator.runtime.failing import fail
from orchestrator.runtime.guard import Attempt
from orchestrator.runtime.link import Link, Recovered
from orchestrator.runtime.scope import Scope
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.segment")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What a segment's Celery message says, and where in a canvas it stands."""

    execution_id: str
    definition_id: str
    head: str
    #: Celery publishes the next segment of a chain when this one returns.
    chained: bool = False
    #: Celery calls the result backend, which counts the join, when this one returns.
    in_chord: bool = False


class Segment:
    """One run through a segment."""

    def __init__(self, worker: Worker, link: Link, graph: Graph, message: Message) -> None:
        self._worker, self._core, self._link, self._graph = worker, worker.core, link, graph
        self._message = message
        self._execution_id = message.execution_id
        self._owner = worker.node.owner()
        self._deadline = clock.elapsed() + worker.core.settings.segment_budget
        self._tail = graph.segment(message.head)[-1]
        self._goes_on = False
        #: Whether the message was late or doubled: its head was settled already.
        self.found_done = False
        self._stop = False
        self._last = ""
        self._facts: Facts | None = None
        self._scope: Scope | None = None

    def work(self) -> bool:
        """Do what there is to do; whether the canvas that the message came in goes on."""
        held = self._claim(self._message.head) or self._walk()
        while held is not None:
            held = self._guarded_step(held)
        # A header that ends otherwise would never be counted; the join itself is the ledger's to decide.
        return self._goes_on or self._message.in_chord

    def _guarded_step(self, held: Claim) -> Claim | None:
        """A step, whatever goes wrong in our own code around it: a claim must not be left with a living owner."""
        try:
            return self._step(held)
        except Exception as error:
            logger.exception("segment failed", extra={"execution_id": held.execution_id, "path": held.path})
            failure = guard.classify(error)
            # This step's claim, or the next one's, if the settle that took it has committed already.
            for claim in self._link.call(lost_replies.owned, self._execution_id, self._owner):
                fail(self._core, self._link, self._graph, claim, failure)
            raise

    def _claim(self, path: str) -> Claim | None:
        call = self._graph.call(path)
        taken = self._link.claim(
            self._execution_id,
            path,
            owner=self._owner,
            want=ExecutionStatus.RUNNING,
            transactional=self._is_transactional(call.activity),
            timeout=self._graph.timeout(path),
        )
        if taken is None:
            return None
        held, facts = taken
        self._know(facts)
        return held

    def _know(self, facts: Facts) -> Scope:
        if self._scope is None:
            self._facts = facts
            self._scope = Scope(self._link, self._graph, self._execution_id, facts)
        return self._scope

    def _is_transactional(self, activity: str) -> bool:
        return self._worker.registry.is_transactional(activity)

    def _step(self, held: Claim) -> Claim | None:
        """Attempt one step and settle it; the claim to go on with, if there is one."""
        ended = guard.perform(self._attempt(held), self._worker.registry, self._link, self._settle(held))
        if isinstance(ended, Failure):
            self._failed(held, ended)
            return None
        if ended is None:
            self._fenced(held)
            return None
        self._remember(held)
        if isinstance(ended, Recovered):
            return self._recover(held)
        return self._after(held, ended)

    def _attempt(self, held: Claim) -> Attempt:
        scope, facts = self._scope, self._facts
        if scope is None or facts is None:
            raise LookupError("a claim brings its execution's facts")
        return Attempt(
            held=held,
            activity=self._graph.steps[held.path].activity,
            parameters=lambda: scope.parameters(held.path),
            context=context(self._graph, held, facts),
            timeout=self._graph.timeout(held.path),
            limit=self._core.settings.max_payload,
        )

    def _settle(self, held: Claim) -> Callable[[Connection, str], Settled | None]:
        """How a success is recorded: with the claim of the next step, with the successors' rows, or as the end."""

        def settle(connection: Connection, output: str) -> Settled | None:
            self._last = output
            # Asked here and not before the activity, which may take longer than a shutdown should wait for two.
            self._stop = self._worker.node.draining or clock.elapsed() > self._deadline
            following = None if self._stop else self._graph.fused.get(held.path)
            if following is not None:
                return claims.settle_and_claim(
                    connection,
                    held,
                    output,
                    following=following,
                    queue=self._graph.queue(following),
                    transactional=self._is_transactional(self._graph.steps[following].activity),
                    timeout=self._graph.timeout(following),
                )
            if self._graph.children[held.path]:
                return claims.settle_and_spread(connection, held, output, successors=self._graph.successors(held.path))
            return self._settle_last(connection, held, output)

        return settle

    def _settle_last(self, connection: Connection, held: Claim, output: str) -> Settled | None:
        """An output that cannot be had is no failure of this step: `advance` meets it again and fails the execution."""
        self._remember(held)
        scope = self._scope
        try:
            values = scope.values(self._graph.output) if scope else {}
            final = result(self._graph, values, self._core.settings.max_payload)
        except (ExpressionError, InvalidInput, PayloadError):
            return claims.settle_and_spread(connection, held, output, successors="[]")
        return claims.settle_and_finish(connection, held, output, result=final)

    def _remember(self, held: Claim) -> None:
        if self._scope is not None:
            self._scope.remember(held.path, json.loads(self._last))

    def _after(self, held: Claim, settled: Settled) -> Claim | None:
        """What follows a success: the step claimed with it, the end, or whatever it made ready."""
        if settled.claimed:
            return Claim(
                execution_id=self._execution_id, path=self._graph.fused[held.path], attempt=1, owner=self._owner
            )
        if settled.finished is not None:
            return None
        children = self._graph.children[held.path]
        if settled.halted or not children:
            self._link.call(lambda connection: advance(self._core, connection, self._execution_id))
            return None
        return self._go_on(held.path, [*settled.ready, *self._join(children)])

    def _join(self, children: tuple[str, ...]) -> list[str]:
        """Joins that this settle completed; a chord's own is left to the result backend."""
        if self._message.in_chord:
            return []
        wide = [child for child in children if len(self._graph.parents[child]) > 1]
        return [child for child in wide if self._link.call(joins.join, self._execution_id, child)]

    def _go_on(self, path: str, ready: list[str]) -> Claim | None:
        """Publish what is ready, leave it to the chain, or take it up in place where this worker may."""
        if not ready:
            return None
        if self._message.chained and path == self._tail:
            self._goes_on = True
            return None
        if len(ready) == 1 and not self._stop and self._may_take(path, ready[0]):
            return self._claim(ready[0])
        definition_id = self._message.definition_id
        publish_ready(self._core, self._graph, definition_id, self._execution_id, ready)
        return None

    def _may_take(self, path: str, following: str) -> bool:
        """Whether the next segment may be worked on within this task."""
        return (
            not self._message.in_chord
            and not self._message.chained
            and self._graph.fuses(path)
            and self._graph.fuses(following)
            and self._graph.queue(path) == self._graph.queue(following)
        )

    def _failed(self, held: Claim, failure: Failure) -> None:
        if not fail(self._core, self._link, self._graph, held, failure):
            self._fenced(held)

    def _fenced(self, held: Claim) -> None:
        logger.warning(
            "attempt fenced: its claim went to another owner, its result is dropped",
            extra={"execution_id": held.execution_id, "path": held.path, "attempt": held.attempt},
        )
        self._link.call(claims.record_fenced, held)

    def _recover(self, held: Claim) -> Claim | None:
        """The settle's reply was lost: adopt what it claimed, or take up what it made ready."""
        adopted = self._link.call(lost_replies.owned, self._execution_id, self._owner)
        if adopted:
            return adopted[0]
        return self._heal(held.path)

    def _walk(self) -> Claim | None:
        """The head cannot be claimed: find what this message still has to do, if anything.

        A redelivered message finds its head settled and goes on to the first step that can be claimed; a doubled one
        finds somebody at work and ends.
        """
        self.found_done = True
        paths = set(self._graph.segment(self._message.head))
        for path, status in self._link.call(walks.open_steps, self._execution_id):
            if path in paths:
                return self._claim(path) if status == StepStatus.READY else None
        return self._heal(self._tail)

    def _heal(self, path: str) -> Claim | None:
        """Take up successors that nobody has claimed: the publish that should have followed their commit was lost."""
        children = self._graph.children[path]
        if self._message.in_chord:
            return None
        if not children:
            self._link.call(lambda connection: advance(self._core, connection, self._execution_id))
            return None
        ready = set(self._join(children))
        ready |= set(self._link.call(walks.unclaimed, self._execution_id, children))
        return self._go_on(path, [child for child in children if child in ready])


def context(graph: Graph, held: Claim, facts: Facts, *, undoes: str | None = None) -> StepContext:
    """What the activity may know of this attempt."""
    return StepContext(
        tenant=facts.tenant,
        execution_id=held.execution_id,
        definition=graph.name,
        version=graph.version,
        path=held.path,
        attempt=held.attempt,
        idempotency_key=step_key(held.execution_id, held.path),
        correlation_id=facts.correlation_id,
        labels=facts.labels,
        undo=undoes is not None,
    )
