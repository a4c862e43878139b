"""The idempotency guard around one attempt: resolve the input, call the activity, settle.

The claim is made already, and the settle is handed in, as it also says what comes next. Whoever else may be here: a
second owner, if this one was taken for dead. The settle's token decides, and for a transactional activity it decides
inside the activity's own transaction, which a lost claim rolls back.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from orchestrator import clock
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import Activity, Registry
from orchestrator.errors import ActivityError, UnknownActivity
from orchestrator.ledger import database, lost_replies
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.outcome import Failure
from orchestrator.model.payload import encode
from orchestrator.model.state import StepStatus
from orchestrator.runtime import loop
from orchestrator.runtime.alarm import AttemptTimedOut, time_limit
from orchestrator.runtime.link import Link, Recovered
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
    #: Most bytes of JSON that the result may have.
    limit: int


Ended = Settled | Recovered | Failure | None


def perform(attempt: Attempt, registry: Registry, link: Link, settle: Settle) -> Ended:
    """Make the attempt and settle it if it succeeds.

    Returns:
        What the settle did; None when the claim was lost and nothing was written; or a Failure, which is not settled.
    """
    with attempt_fields(
        execution_id=attempt.held.execution_id,
        path=attempt.held.path,
        attempt=attempt.held.attempt,
        correlation_id=attempt.context.correlation_id,
    ):
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
    except (Exception, AttemptTimedOut) as error:
        return classify(error)
    try:
        return link.settle(attempt.held, lambda connection: settle(connection, output), SUCCEEDED)
    except DBAPIError as error:
        # The database will not have this output (nested too deep, say): that is how the attempt ended.
        return classify(error)


def _perform_in_transaction(attempt: Attempt, activity: Activity, link: Link, settle: Settle) -> Ended:
    """Effect and record commit together, or neither does.

    A connection lost at the commit leaves open whether it happened: the step's row tells. If it still stands under this
    claim, the transaction was rolled back, and calling the activity again is right.
    """
    for retry in range(SERIALIZATION_RETRIES + 1):
        try:
            with database.transaction(link.engine) as connection:
                if attempt.timeout is not None:
                    connection.execute(_STATEMENT_TIMEOUT, {"limit": f"{attempt.timeout * 1000:.0f}ms"})
                output = _call(attempt, activity, replace(attempt.context, transaction=connection))
                settled = settle(connection, output)
                if settled is None:
                    raise Fenced
                return settled
        except Fenced:
            return None
        except DBAPIError as error:
            if database.is_lost(error):
                status = link.call(lost_replies.standing, attempt.held)
                if status != StepStatus.RUNNING:
                    return Recovered() if status == StepStatus.SUCCEEDED else None
            elif not database.is_retryable(error) or retry == SERIALIZATION_RETRIES:
                return classify(error)
        except (Exception, AttemptTimedOut) as error:
            return classify(error)
        clock.pause(0.01 * 2**retry)
    return classify(TimeoutError(f"the database was lost {SERIALIZATION_RETRIES} times within one attempt"))


#: Also ends what the alarm cannot interrupt: a statement that waits for a lock.
_STATEMENT_TIMEOUT = text("SELECT set_config('statement_timeout', :limit, true)")


def _call(attempt: Attempt, activity: Activity, context: StepContext) -> str:
    """The activity's result as JSON text."""
    arguments = activity.bind(attempt.parameters(), context)
    with time_limit(attempt.timeout):
        if activity.is_async:
            value = loop.call(activity.function(**arguments), attempt.timeout)
        else:
            value = activity.function(**arguments)
    value = activity.result.fit(value)
    return encode(value, limit=attempt.limit, what=f"output of step {attempt.held.path}")


def classify(error: BaseException) -> Failure:
    """An exception as data: an activity's own errors say what they are, others are the system's."""
    if isinstance(error, ActivityError):
        category, name = error.category, error.name
    elif isinstance(error, AttemptTimedOut | TimeoutError):
        category, name = "timeout", type(error).__name__
    elif isinstance(error, ConnectionError | DBAPIError):
        category, name = "transient", type(error).__name__
    else:
        category, name = "system", type(error).__name__
    trace = "".join(traceback.format_exception(error)) if category != "business" else ""
    return Failure(category=category, name=name, message=str(error) or name, traceback=trace)
