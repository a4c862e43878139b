"""A segment: the steps that one Celery task runs back to back.

    claim the head -> attempt -> settle it and claim the next, in one statement -> attempt -> ... -> spread or finish

A message may be lost, doubled, late, or for a step long settled. The claim decides what there is to do; what comes
after the settle (join, wake, publish) is done by whoever's statement made it possible, and by a sweep if that one dies.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.compiler.graph import Graph
from orchestrator.engine.advance import advance, child_ended, publish_ready
from orchestrator.engine.finish import result
from orchestrator.engine.mend import after_stragglers
from orchestrator.engine.scope import Scope, about
from orchestrator.engine.spread import Spread
from orchestrator.errors import ExpressionError, InvalidInput, PayloadError
from orchestrator.kinds.kinds import ACTIVITY
from orchestrator.ledger import claims, joins, lost_replies, results, stragglers, walks
from orchestrator.ledger.claims import Claim, Facts, Settled
from orchestrator.model.exits import JOIN_UNMET
from orchestrator.model.outcome import Failure
from orchestrator.model.state import StepStatus
from orchestrator.runtime import guard
from orchestrator.runtime.control import Control, Let, Succeeded
from orchestrator.runtime.failing import fail
from orchestrator.runtime.guard import Attempt
from orchestrator.runtime.link import Link, Recovered
from orchestrator.runtime.message import Message, attempt
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.segment")


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
        self._known: tuple[Facts, Scope, Spread] | None = None

    def work(self) -> bool:
        """Do what there is to do; whether the canvas that the message came in goes on."""
        held = self._claim(self._message.head) or self._walk()
        while held is not None:
            held = self._guarded_step(held)
        # A header that ends otherwise would never be counted; the join itself is the ledger's to decide.
        return self._goes_on or self._message.chord_body is not None

    def _guarded_step(self, held: Claim) -> Claim | None:
        """A step, whatever goes wrong in our own code around it: a claim must not be left with a living owner."""
        try:
            return self._step(held)
        except Exception as error:
            logger.exception("segment failed", extra={"execution_id": held.execution_id, "path": held.path})
            failure = guard.classify(error)
            # This step's claim, or the next one's, if the settle that took it has committed already.
            for claim in self._link.call(lost_replies.owned, self._execution_id, self._owner):
                self._fail(claim, failure)
            raise

    def _facts(self) -> tuple[Facts, Scope, Spread]:
        if self._known is None:
            raise LookupError("a claim brings its execution's facts")
        return self._known

    def _know(self, facts: Facts) -> None:
        scope = Scope(self._link.call, self._graph, about(self._execution_id, facts))
        self._known = (facts, scope, Spread(self._link.call, self._graph, self._execution_id, scope))

    def _spread(self) -> Spread:
        """Also for a message that found nothing to claim."""
        if self._known is not None:
            return self._known[2]
        scope = Scope(self._link.call, self._graph, about(self._execution_id, None))
        return Spread(self._link.call, self._graph, self._execution_id, scope)

    # One step.

    def _timeout(self, path: str) -> float | None:
        return self._worker.timeout(self._graph, path)

    def _due(self, path: str) -> float | None:
        return self._worker.due(self._graph, path, self._timeout(path))

    def _claim(self, path: str) -> Claim | None:
        taken = self._link.claim(
            self._execution_id,
            path,
            owner=self._owner,
            transactional=self._worker.is_transactional(self._graph, path),
            timeout=self._due(path),
        )
        if taken is None:
            return None
        held, facts = taken
        if self._known is None:
            self._know(facts)
        if losers := self._graph.losers(path):
            self._link.call(joins.cancel_losers, self._execution_id, losers)  # once more: who decided may have died
        return held

    def _step(self, held: Claim) -> Claim | None:
        """Attempt one step and settle it; the claim to go on with, if there is one."""
        step = self._graph.step(held.path)
        if held.woken is not None and held.woken.unmet:
            message = f"{held.path}: too few of the steps before it have succeeded (join {step.join})"
            self._fail(held, Failure(category="business", name=JOIN_UNMET, message=message), final=True)
            return None
        if step.kind != ACTIVITY:
            return self._control(held)
        ended = guard.perform(self._attempt(held), self._worker.registry, self._link, self._settle(held, None))
        if isinstance(ended, Failure):
            self._fail(held, ended)
            return None
        return self._ended(held, None, ended)

    def _ended(self, held: Claim, exit_by: str | None, ended: Settled | Recovered | None) -> Claim | None:
        """What follows a success that was sent to the ledger."""
        if ended is None:
            self._fenced(held)
            return None
        self._remember(held, exit_by)
        if isinstance(ended, Recovered):
            return self._recover(held)
        return self._after(held, exit_by, ended)

    def _control(self, held: Claim) -> Claim | None:
        """A step that calls no activity: its kind decides, and what it decides is settled like anything else."""
        facts, scope, _ = self._facts()
        definition_id = self._message.definition_id
        control = Control(self._worker, self._link, self._graph, definition_id=definition_id, facts=facts, scope=scope)
        outcome = control.carry_out(held)
        if isinstance(outcome, Failure):
            self._fail(held, outcome, final=control.failed_by_definition)
            return None
        if isinstance(outcome, Succeeded):
            send = self._settle(held, outcome.exit)
            ended = self._link.settle(held, lambda connection: send(connection, outcome.output), guard.SUCCEEDED)
            return self._ended(held, outcome.exit, ended)
        if outcome is None:
            self._fenced(held)
            return None
        return self._let(held, outcome)

    def _let(self, held: Claim, let: Let) -> Claim | None:
        """The step waits now; what that made ready is published, or taken up in place."""
        if let.halted:
            return self._halted(held.path)
        if let.ready and (self._message.chained or (let.body and len(let.ready) > 1)):
            self._publish(let.ready, held.path if let.body else None)
            return None
        return self._go_on(held.path, list(let.ready))

    def _attempt(self, held: Claim) -> Attempt:
        facts, scope, _ = self._facts()
        timeout, parameters = self._timeout(held.path), lambda: scope.parameters(held.path)
        return attempt(self._worker, self._graph, held, facts, parameters, timeout=timeout)

    def _settle(self, held: Claim, exit_by: str | None) -> Callable[[Connection, str], Settled | None]:
        """How a success is recorded: with the claim of the next step, with the successors' rows, or as the end."""

        def settle(connection: Connection, output: str) -> Settled | None:
            self._last = output
            # Asked here and not before the activity, which may take longer than a shutdown should wait for two.
            self._stop = self._worker.node.draining or clock.elapsed() > self._deadline
            following = None if self._stop or exit_by is not None else self._next(held.path)
            if following is not None:
                return claims.settle_and_claim(
                    connection,
                    held,
                    output,
                    following=following,
                    queue=self._graph.queue(following),
                    transactional=self._worker.is_transactional(self._graph, following),
                    timeout=self._due(following),
                )
            behind = self._facts()[2].following(held.path, exit_by)
            if behind.ends and behind.rows == "[]":
                return self._settle_last(connection, held, output, exit_by)
            return claims.settle_and_spread(connection, held, output, successors=behind.rows, exit_by=exit_by)

        return settle

    def _next(self, path: str) -> str | None:
        """The step that this task goes on with once `path` has succeeded."""
        return self._graph.fused(path, self._facts()[1].lanes)

    def _settle_last(self, connection: Connection, held: Claim, output: str, exit_by: str | None) -> Settled | None:
        """End the execution with the step, if its output is sure to be whole: another last step may be at work yet.

        An output that cannot be had is no failure of this step: `advance` meets it again and fails the execution.
        """
        self._remember(held, exit_by)
        scope = self._facts()[1]
        try:
            final = result(self._graph, scope, self._core.settings.max_payload)
        except (ExpressionError, InvalidInput, PayloadError):
            final = None
        if final is None or not scope.has_all(self._graph.output):
            return claims.settle_and_spread(connection, held, output, successors="[]", exit_by=exit_by)
        return claims.settle_and_finish(connection, held, output, result=final, exit_by=exit_by)

    def _remember(self, held: Claim, exit_by: str | None) -> None:
        if self._known is None:
            return
        if self._graph.step(held.path).kind == "each":
            self._known[1].remember_loop(held.path)
        else:
            self._known[1].remember(held.path, json.loads(self._last), exit_by)

    def _after(self, held: Claim, exit_by: str | None, settled: Settled) -> Claim | None:
        """What follows a success: the step claimed with it, the end, or whatever it made ready."""
        facts, _, spread = self._facts()
        if settled.claimed:
            following = self._next(held.path)
            if following is None:
                raise LookupError(f"nothing follows {held.path}")
            return Claim(execution_id=self._execution_id, path=following, attempt=1, owner=self._owner)
        if settled.finished is not None:
            if facts.parent_id is not None:
                self._link.call(lambda connection: child_ended(self._core, connection, self._execution_id))
            return None
        if settled.halted:
            return self._halted(held.path)
        behind = spread.following(held.path, exit_by)
        ready = [*settled.ready, *spread.after(behind, leave=self._message.chord_body)]
        if not ready and (behind.ends or spread.ended):
            self._advance()
            return None
        return self._go_on(held.path, ready)

    def _halted(self, path: str) -> Claim | None:
        """The execution is flagged, or a body around the step is broken off: whoever waits for its end is told."""
        woken = self._facts()[2].wake_around(path)
        if not woken:
            self._advance()
        elif self._message.chained:
            self._publish(woken)
        else:
            return self._go_on(path, woken)
        return None

    def _advance(self) -> None:
        self._link.call(lambda connection: advance(self._core, connection, self._execution_id, ()))

    def _go_on(self, path: str, ready: list[str]) -> Claim | None:
        """Publish what is ready, leave it to the chain, or take it up in place where this worker may."""
        if not ready:
            return None
        if self._message.chained and path == self._tail:
            self._goes_on = True
            return None
        if len(ready) == 1 and not self._stop and self._may_take(path, ready[0]):
            return self._claim(ready[0])
        self._publish(ready)
        return None

    def _publish(self, ready: Sequence[str], container: str | None = None) -> None:
        definition_id = self._message.definition_id
        publish_ready(self._core, self._graph, definition_id, self._execution_id, ready, container=container)

    def _may_take(self, path: str, following: str) -> bool:
        """Whether the next segment may be worked on within this task."""
        return (
            not self._message.chained
            and clock.elapsed() <= self._deadline
            and self._graph.fuses(path)
            and self._graph.fuses(following)
            and self._graph.queue(path) == self._graph.queue(following)
        )

    def _fail(self, held: Claim, failure: Failure, *, final: bool = False) -> None:
        if not fail(
            self._core,
            self._link,
            self._graph,
            held,
            failure,
            spread=self._spread(),
            definition_id=self._message.definition_id,
            final=final,
        ):
            self._fenced(held)

    def _fenced(self, held: Claim) -> None:
        logger.warning(
            "attempt fenced: its claim went to another owner, its result is dropped",
            extra={"execution_id": held.execution_id, "path": held.path, "attempt": held.attempt},
        )
        self._link.call(claims.record_fenced, held)
        if self._link.call(stragglers.end, held):
            # The loser of a race: what goes back may have waited for its end.
            ended = [(held.execution_id, held.path)]
            self._link.call(lambda connection: after_stragglers(self._core, connection, ended))

    # Messages that come late or twice, and replies that never come.

    def _recover(self, held: Claim) -> Claim | None:
        """The settle's reply was lost: adopt what it claimed, or take up what it made ready."""
        adopted = self._link.call(lost_replies.owned, self._execution_id, self._owner)
        if adopted:
            return adopted[0]
        return self._heal(held.path, recovering=True)

    def _walk(self) -> Claim | None:
        """The head cannot be claimed. A redelivered message finds it settled, and goes on to the first step that can be
        claimed; a doubled one finds somebody at work, and ends."""
        self.found_done = True
        paths = set(self._graph.segment(self._message.head))
        for path, status in self._link.call(walks.open_steps, self._execution_id):
            if path in paths:
                return self._claim(path) if status == StepStatus.READY else None
        return self._heal(self._tail)

    def _heal(self, path: str, *, recovering: bool = False) -> Claim | None:
        """Take up successors that nobody has claimed: their publish was lost."""
        if self._message.chord_body is not None:
            return None
        found = self._link.call(results.outcomes, self._execution_id, [path]).get(path)
        if found is None:
            return None
        spread = self._spread()
        behind = spread.following(path, found["exit"])
        made = [row["path"] for row in json.loads(behind.rows)]
        ready = dict.fromkeys(spread.after(behind))
        if made:
            look = walks.unclaimed if recovering else walks.forsaken
            ready |= dict.fromkeys(self._link.call(look, self._execution_id, made))
        if not ready and (behind.ends or spread.ended):
            self._advance()
            return None
        return self._go_on(path, list(ready))
