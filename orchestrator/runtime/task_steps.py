"""A step that is a Celery task of the application's own: claimed, called, and settled by what Celery reports of it.

    claim -> resolve the input -> the task, by Celery's own tracer -> succeeded | failed | asked to be called again

It is a segment of one step, and what comes before and after the call is the segment's affair. A task that retries
itself is let go of until its time has come: the ledger's timers publish it again, and the row keeps how often it has
retried, so that no message has to be trusted, or to wait in a worker's memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

from orchestrator.activities.context import StepContext
from orchestrator.compiler.graph import Graph
from orchestrator.errors import PayloadError
from orchestrator.ledger import parks
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.outcome import Failure
from orchestrator.model.payload import encode
from orchestrator.model.state import StepStatus
from orchestrator.redaction import redact
from orchestrator.runtime import guard
from orchestrator.runtime.control import Let
from orchestrator.runtime.link import Link
from orchestrator.runtime.message import Message, context, within
from orchestrator.runtime.opening import Opening
from orchestrator.runtime.segment import Segment
from orchestrator.runtime.worker import Worker
from orchestrator.telemetry import attempt_fields

#: What letting go of a step may have made of it by the time that a lost reply is asked after.
_LET_GO = frozenset({StepStatus.WAITING, StepStatus.READY, StepStatus.CANCELLED})
#: In the step's `resume`.
_KEY = "task"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """What the task is called with."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any]
    #: How often it has retried itself in this attempt of the step's policy.
    retries: int = 0
    #: Whether they are the task's own choice, made when it retried itself.
    chosen: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """The task has returned."""

    value: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """The task wants to be called once more."""

    arguments: Arguments
    #: After so many seconds, or at this time, an ISO 8601 text with its zone.
    seconds: float | None = None
    until: str | None = None
    #: Why, for whoever asks what the step waits for.
    reason: str = ""


#: Calls the task, within a block in which it may be interrupted, and says how that ended.
Call = Callable[[Arguments, StepContext, AbstractContextManager[None]], Returned | Again | Failure]


class TaskStep(Segment):
    """One message of such a step.

    Args:
        limit: seconds that the application itself lets the task take; None is unlimited.
    """

    def __init__(
        self, worker: Worker, link: Link, graph: Graph, message: Message, call: Call, *, limit: float | None = None
    ) -> None:
        super().__init__(worker, link, graph, message)
        self._call, self._limit = call, limit

    def _timeout(self, path: str) -> float | None:
        limits = [limit for limit in (self._graph.timeout(path), self._limit) if limit is not None]
        return min(limits, default=None)

    def _control(self, held: Claim) -> Claim | None:
        with Opening(self._core.seals, self._facts()[0].tenant) as opening:
            return self._work_on(held, opening)

    def _work_on(self, held: Claim, opening: Opening) -> Claim | None:
        ended = self._called(held, opening)
        if isinstance(ended, Returned):
            try:
                return self._returned(held, ended.value, opening)
            except (PayloadError, DBAPIError) as error:
                # Nothing that could be kept (no JSON, nested too deep): that is how the attempt ended.
                ended = guard.classify(error)
        if isinstance(ended, Again):
            try:
                return self._again(held, ended, opening)
            except PayloadError as error:
                ended = guard.classify(error)
        self._fail(held, ended)
        return None

    def _called(self, held: Claim, opening: Opening) -> Returned | Again | Failure:
        facts, scope, _ = self._facts()
        try:
            arguments = _chosen(held, opening) or Arguments(
                kwargs=opening.open(scope.parameters(held.path)), retries=_retries(held)
            )
        except Exception as error:
            return guard.classify(error)
        timeout = self._timeout(held.path)
        with attempt_fields(
            execution_id=held.execution_id, path=held.path, attempt=held.attempt, correlation_id=facts.correlation_id
        ):
            known = context(self._worker, self._graph, held, facts, timeout, opening=opening)
            return self._call(arguments, known, within(self._worker, self._graph, held, timeout))

    def _returned(self, held: Claim, value: Any, opening: Opening) -> Claim | None:
        limit = self._core.settings.max_payload
        output = opening.keep(encode(value, limit=limit, what=f"output of step {held.path}"))
        send = self._settle(held, None)
        ended = self._link.settle(held, lambda connection: send(connection, output), guard.SUCCEEDED)
        return self._ended(held, None, ended)

    def _again(self, held: Claim, again: Again, opening: Opening) -> Claim | None:
        """Let go of the step until its time has come. Whatever it retries with is kept here, in the ledger."""
        kept: dict[str, Any] = {
            "failures": held.failures,
            "retries": again.arguments.retries,
            "reason": redact(again.reason),
        }
        if again.arguments.chosen:
            kept |= {"args": again.arguments.args, "kwargs": again.arguments.kwargs}
        text = encode({_KEY: kept}, limit=self._core.settings.max_payload, what=f"arguments of step {held.path}")
        resume = json.loads(opening.sealed(text))
        ended = self._link.settle(
            held,
            lambda connection: parks.park(connection, held, resume=resume, seconds=again.seconds, until=again.until),
            _LET_GO,
        )
        if ended is None:
            self._fenced(held)
            return None
        return self._let(held, Let(halted=isinstance(ended, Settled) and ended.halted))


class RefusedStep(Segment):
    """A step whose message no worker will call: an attempt that has failed before it began."""

    def __init__(self, worker: Worker, link: Link, graph: Graph, message: Message, failure: Failure) -> None:
        super().__init__(worker, link, graph, message)
        self._failure = failure

    def _control(self, held: Claim) -> Claim | None:
        self._fail(held, self._failure)
        return None


def _kept(held: Claim) -> dict[str, Any]:
    """What the task left when it asked to be called again. Another attempt of the step's policy begins anew."""
    resume = held.woken.resume if held.woken is not None else None
    kept = resume.get(_KEY) if isinstance(resume, dict) else None
    return kept if isinstance(kept, dict) and kept.get("failures") == held.failures else {}


def _retries(held: Claim) -> int:
    return int(_kept(held).get("retries", 0))


def _chosen(held: Claim, opening: Opening) -> Arguments | None:
    kept = _kept(held)
    if "kwargs" not in kept:
        return None
    args, kwargs = opening.open([kept["args"], kept["kwargs"]])
    return Arguments(args=tuple(args), kwargs=kwargs, retries=kept["retries"], chosen=True)
