"""The idempotency guard around one attempt: resolve the input, call the activity, settle.

The claim is made already, and the settle is handed in, as it also says what comes next. Whoever else may be here: a
second owner, if this one was taken for dead. The settle's token decides, and for a transactional activity it decides
inside the activity's own transaction, which a lost claim rolls back.
"""

from __future__ import annotations

import logging
import os
import random
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from billiard.common import terminate_handler_fired
from celery.exceptions import WorkerShutdown, WorkerTerminate
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from orchestrator import clock, fault_points
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import Activity, Registry
from orchestrator.errors import (
    ActivityError,
    AttemptCancelled,
    AttemptInterrupted,
    AttemptTimedOut,
    TransientError,
    UnknownActivity,
)
from orchestrator.ledger import database, lost_replies
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.seals import NO_KEYS
from orchestrator.model.outcome import Failure, classes_of
from orchestrator.model.payload import encode
from orchestrator.model.state import StepStatus
from orchestrator.redaction import redact
from orchestrator.runtime import loop
from orchestrator.runtime.link import Link, Recovered
from orchestrator.runtime.opening import Opening
from orchestrator.telemetry import attempt_fields

logger = logging.getLogger("orchestrator.guard")

#: How often a transactional activity is called anew in place after the database undid it for the sake of another.
SERIALIZATION_RETRIES = 8

#: What a success makes of a step.
SUCCEEDED = frozenset({StepStatus.SUCCEEDED})

Settle = Callable[[Connection, str], Settled | None]


class Fenced(Exception):
    """The claim was lost while the activity ran; its transaction is rolled back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """Everything that one attempt needs."""

    held: Claim
    #: The activity's name.
    activity: str
    #: Computes the parameters, with their {{ }} values.
    parameters: Callable[[], Mapping[str, Any]]
    context: StepContext
    #: Seconds; None is unlimited.
    timeout: float | None
    #: The block in which the activity is called, and may be interrupted; given whether that is so.
    within: Callable[[bool], AbstractContextManager[None]]
    #: Most bytes of JSON that the result may have.
    limit: int
    #: What the attempt opens of its sealed parameters.
    opening: Opening = field(default_factory=lambda: Opening(NO_KEYS, ""))


Ended = Settled | Recovered | Failure | None


def perform(attempt: Attempt, registry: Registry, link: Link, settle: Settle) -> Ended:
    """Make the attempt and settle it if it succeeds.

    Returns:
        What the settle did; None when the claim was lost and nothing was written; or a Failure, which is not settled.
    """
    fields = attempt_fields(
        execution_id=attempt.held.execution_id,
        path=attempt.held.path,
        attempt=attempt.held.attempt,
        correlation_id=attempt.context.correlation_id,
    )
    with attempt.opening, fields:
        fault_points.reach(fault_points.CLAIMED, attempt.held.execution_id, attempt.held.path)
        try:
            activity = registry.get(attempt.activity)
        except UnknownActivity as error:
            return classify(error)
        if activity.transactional:
            ended = _perform_in_transaction(attempt, activity, link, settle)
        else:
            ended = _perform(attempt, activity, link, settle)
        if isinstance(ended, Failure):
            logger.warning("attempt failed", extra={"error": ended.name, "reason": ended.message})
        return ended


def _perform(attempt: Attempt, activity: Activity, link: Link, settle: Settle) -> Ended:
    try:
        output = _call(attempt, activity, attempt.context)
    except BaseException as error:
        go_if_told(error)
        return classify(error)
    try:
        return link.settle(attempt.held, lambda connection: settle(connection, output), SUCCEEDED)
    except DBAPIError as error:
        # The database will not have this output (nested too deep, say): that is how the attempt ended.
        return classify(error)


def _perform_in_transaction(attempt: Attempt, activity: Activity, link: Link, settle: Settle) -> Ended:
    """Effect and record commit together, or neither does.

    A connection lost at the commit leaves open whether it happened, and above `read committed` a claim that was lost
    looks like any other serialization failure: the settle cannot change a row that has changed since its snapshot. The
    step's row tells both. If it still stands under this claim, nothing was committed, and calling the activity again
    is right.
    """
    error: DBAPIError | None = None
    for retry in range(SERIALIZATION_RETRIES + 1):
        if retry:
            # Those that met would meet again, if each waited equally long.
            clock.pause(0.01 * 2**retry * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
        try:
            with link.transaction(activity.isolation.upper()) as connection:
                if attempt.timeout is not None:
                    connection.execute(_STATEMENT_TIMEOUT, {"limit": f"{attempt.timeout * 1000:.0f}ms"})
                output = _call(attempt, activity, replace(attempt.context, transaction=connection))
                settled = settle(connection, output)
                if settled is None:
                    raise Fenced
            fault_points.reach(fault_points.SETTLED, attempt.held.execution_id, attempt.held.path)
            return settled
        except Fenced:
            return None
        except BaseException as raised:
            go_if_told(raised)
            error = _undone(raised) if isinstance(raised, Exception) else None
            if error is None:
                return classify(raised)
        status = link.call(lost_replies.standing, attempt.held)
        if status != StepStatus.RUNNING:
            return Recovered() if status == StepStatus.SUCCEEDED else None
    assert error is not None
    return classify(error)


def go_if_told(error: BaseException) -> None:
    """Raise SystemExit on if a signal has told this process to end: billiard's handler in a pool's child, Celery's in a
    solo pool. What the attempt raises then is no outcome of its own, and its claim is given back by whoever sees the
    process end.

    All else is how the attempt has ended, an activity's `sys.exit` and a cancelled asyncio task too: let through, that
    would end the process, or be swallowed by a pool of threads, and the claim stay.
    """
    if isinstance(error, WorkerShutdown | WorkerTerminate):
        raise error
    if terminate_handler_fired():
        # Or else what it raised as it cleaned up.
        raise error if isinstance(error, SystemExit) else SystemExit(os.EX_TEMPFAIL) from error


def _undone(raised: BaseException) -> DBAPIError | None:
    """The database's error behind an exception, if another call may end otherwise: it undid the transaction for the
    sake of another, or was lost. Activities may have wrapped it."""
    seen: BaseException | None = raised
    while seen is not None:
        if isinstance(seen, DBAPIError) and (database.is_lost(seen) or database.is_retryable(seen)):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


#: Also ends what the alarm cannot interrupt: a statement that waits for a lock.
_STATEMENT_TIMEOUT = text("SELECT set_config('statement_timeout', :limit, true)")


def _call(attempt: Attempt, activity: Activity, context: StepContext) -> str:
    """The activity's result as JSON text."""
    arguments = activity.bind(attempt.opening.open(attempt.parameters()), context)
    with attempt.within(activity.interruptible):
        if activity.is_async:
            value = loop.call(activity.function(**arguments), attempt.timeout)
        else:
            value = activity.function(**arguments)
    value = activity.result.fit(value)
    text = encode(value, limit=attempt.limit, what=f"output of step {attempt.held.path}")
    if activity.result.secret_schema is not None:
        text = attempt.opening.marked(value, text, activity.result.secret_schema)
    return attempt.opening.keep(text)


def classify(error: BaseException) -> Failure:
    """An exception as data. An activity's own errors say what they are; of others it is guessed, and a definition's
    table of errors may know better (engine/failure.py)."""
    classes = classes_of(type(error))
    if isinstance(error, ActivityError):
        category, name, classes = error.category, error.name, ()
    elif isinstance(error, AttemptTimedOut | TimeoutError):
        category, name = "timeout", type(error).__name__
    elif isinstance(error, AttemptInterrupted):
        category, name = "cancelled", type(error).__name__
    elif isinstance(error, ConnectionError | DBAPIError):
        category, name = "transient", type(error).__name__
    else:
        category, name = "system", type(error).__name__
    trace = "".join(traceback.format_exception(error))
    retry_after = error.retry_after if isinstance(error, TransientError) else None
    message, trace = redact(str(error) or name), redact(trace)
    return Failure(
        category=category,
        name=name,
        message=message,
        traceback=trace,
        retry_after=retry_after,
        classes=classes,
        interrupted=isinstance(error, AttemptCancelled),
    )
