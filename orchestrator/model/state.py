"""Which states there are, and which may follow which: data that the ledger's statements and checks are built from."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class StepStatus(StrEnum):
    """Where a step, or a compensation of one, stands."""

    BLOCKED = "blocked"  #: some parent has not settled yet
    READY = "ready"  #: may be claimed; its own outbox
    RUNNING = "running"  #: an owner holds it
    WAITING = "waiting"  #: for a timer or the outside
    RETRYING = "retrying"  #: for the next attempt's time
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class ExecutionStatus(StrEnum):
    """Where an execution stands."""

    CREATED = "created"  #: starts at its start_at
    RUNNING = "running"
    PAUSING = "pausing"  #: flagged; running attempts drain
    PAUSED = "paused"
    FAILING = "failing"  #: a step has failed for good; running attempts drain
    CANCELLING = "cancelling"
    TIMING_OUT = "timing_out"
    COMPENSATING = "compensating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"


S, X = StepStatus, ExecutionStatus

#: An execution is unfinished if and only if it has a step in one of these.
OPEN_STEPS: Final = frozenset({S.BLOCKED, S.READY, S.RUNNING, S.WAITING, S.RETRYING})
#: A step in one of these has ended.
SETTLED_STEPS: Final = frozenset(S) - OPEN_STEPS
#: A compensation in one of these has ended; also an execution that nothing will change by itself.
FINAL_EXECUTIONS: Final = frozenset(
    {X.SUCCEEDED, X.FAILED, X.CANCELLED, X.TIMED_OUT, X.COMPENSATED, X.COMPENSATION_FAILED}
)
#: Executions whose forward steps start no more and whose running attempts drain.
DRAINING_EXECUTIONS: Final = frozenset({X.FAILING, X.CANCELLING, X.TIMING_OUT})
#: Executions that go back, or have. What they have started does not go forward again.
BACKWARD_EXECUTIONS: Final = DRAINING_EXECUTIONS | {X.COMPENSATING, X.COMPENSATED, X.COMPENSATION_FAILED}

#: Executions whose compensations may start: a whole one that goes back, or a part of one that goes on or drains.
UNDOING: Final = frozenset({X.COMPENSATING, X.RUNNING}) | DRAINING_EXECUTIONS
#: Executions of which no step starts, at an operator's word.
STANDING_STILL: Final = frozenset({X.PAUSING, X.PAUSED})

#: step status -> the statuses that may follow it.
STEP_TRANSITIONS: Final[dict[StepStatus, frozenset[StepStatus]]] = {
    S.BLOCKED: frozenset({S.READY, S.SKIPPED, S.CANCELLED}),
    S.READY: frozenset({S.RUNNING, S.SUCCEEDED, S.SKIPPED, S.CANCELLED}),
    S.RUNNING: frozenset({S.READY, S.WAITING, S.RETRYING, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.TIMED_OUT}),
    S.WAITING: frozenset({S.READY, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.TIMED_OUT}),
    S.RETRYING: frozenset({S.READY, S.SUCCEEDED, S.CANCELLED, S.TIMED_OUT}),
    S.SUCCEEDED: frozenset(),
    # An operator's: the step is taken up again where it stood, or given an output.
    S.FAILED: frozenset({S.READY, S.WAITING, S.BLOCKED, S.SUCCEEDED}),
    S.SKIPPED: frozenset(),
    S.CANCELLED: frozenset({S.READY, S.WAITING, S.BLOCKED, S.SUCCEEDED}),
    S.TIMED_OUT: frozenset({S.READY, S.WAITING, S.BLOCKED, S.SUCCEEDED}),
}

#: execution status -> the statuses that may follow it.
EXECUTION_TRANSITIONS: Final[dict[ExecutionStatus, frozenset[ExecutionStatus]]] = {
    X.CREATED: frozenset({X.RUNNING, X.CANCELLING, X.TIMING_OUT}),
    X.RUNNING: frozenset({X.SUCCEEDED, X.FAILING, X.CANCELLING, X.PAUSING, X.TIMING_OUT}),
    X.PAUSING: frozenset({X.PAUSED, X.RUNNING, X.FAILING, X.CANCELLING}),
    X.PAUSED: frozenset({X.RUNNING, X.FAILING, X.CANCELLING}),
    X.FAILING: frozenset({X.FAILED, X.COMPENSATING}),
    X.CANCELLING: frozenset({X.CANCELLED, X.COMPENSATING}),
    X.TIMING_OUT: frozenset({X.TIMED_OUT, X.COMPENSATING}),
    X.COMPENSATING: frozenset({X.COMPENSATED, X.COMPENSATION_FAILED}),
    X.SUCCEEDED: frozenset({X.COMPENSATING}),
    X.FAILED: frozenset({X.RUNNING, X.COMPENSATING}),
    X.CANCELLED: frozenset({X.RUNNING, X.COMPENSATING}),
    X.TIMED_OUT: frozenset({X.RUNNING, X.COMPENSATING}),
    X.COMPENSATED: frozenset(),
    X.COMPENSATION_FAILED: frozenset({X.COMPENSATING}),
}


def may_follow(before: ExecutionStatus, after: ExecutionStatus) -> bool:
    """Whether an execution may go from one status to the other."""
    return after in EXECUTION_TRANSITIONS[before]
