"""The workflows of the suite: together they go every road of the engine, and each activity leaves a line outside.

Loaded by workers and clients alike, which from then on fall into traps.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

import orchestrator
from fault_suite import breakers, outside, tampering
from fault_suite.outside import Call
from orchestrator import (
    BusinessError,
    RetryPolicy,
    StepContext,
    TransientError,
    activity,
    block,
    compensation,
    delay,
    each,
    handle,
    parallel,
    sequence,
    step,
    wait,
    workflow,
)
from orchestrator.model.definition import Step

if outside.FOLDER in os.environ:
    # Only in processes that were started to be hurt: not in the suite's own, and not in a test that imports this.
    breakers.arm()
    tampering.install()

#: Where transactional activities write; the suite makes the table.
SCHEMA = """CREATE TABLE effect (number bigint GENERATED ALWAYS AS IDENTITY, execution uuid, path text, attempt int,
    undo boolean, at timestamptz DEFAULT clock_timestamp())"""
_EFFECT = text("INSERT INTO effect (execution, path, attempt, undo) VALUES (:execution, :path, :attempt, :undo)")

_ENGINE = str(Path(orchestrator.__file__).parents[1])
_PATIENT = RetryPolicy(max_attempts=5, backoff=0.1, jitter=0.5)


@contextmanager
def _noted(ctx: StepContext, point: str = breakers.IN_ACTIVITY) -> Iterator[None]:
    """A line when the call begins, and one when it ends; between the two it may fall into a trap."""
    place, mark = outside.present(), ctx.correlation_id or "none"

    def note(phase: str) -> None:
        call = Call(
            execution=ctx.execution_id,
            path=ctx.path,
            attempt=ctx.attempt,
            undo=ctx.undo,
            phase=phase,
            pid=os.getpid(),
            at=time.monotonic(),
            clock=time.time(),
            engine=_ENGINE,
        )
        place.note(mark, call)

    note("begun")
    breakers.strike(point)
    try:
        yield
    finally:
        note("ended")


@activity
def note(ctx: StepContext, value: Any = None, seconds: float = 0) -> Any:
    """Leave a line, take some time, and return the value."""
    with _noted(ctx):
        time.sleep(seconds)
    return value


@activity(interruptible=False)
def work(ctx: StepContext, seconds: float) -> int:
    """Work that is not interrupted."""
    with _noted(ctx, breakers.IN_WORK):
        time.sleep(seconds)
    return ctx.attempt


@activity(transactional=True)
def effect(ctx: StepContext, seconds: float = 0) -> None:
    """Write through the ledger's own transaction."""
    given = {"execution": ctx.execution_id, "path": ctx.path, "attempt": ctx.attempt, "undo": ctx.undo}
    with _noted(ctx):
        ctx.connection.execute(_EFFECT, given)
        time.sleep(seconds)


@activity(transactional=True, isolation="serializable")
def strict_effect(ctx: StepContext) -> int:
    """Write what depends on what others write at the same moment: the database refuses some for the others' sake."""
    given = {"execution": ctx.execution_id, "path": ctx.path, "attempt": ctx.attempt, "undo": ctx.undo}
    with _noted(ctx):
        seen = ctx.connection.execute(text("SELECT count(*) FROM (SELECT FROM effect ORDER BY number DESC LIMIT 9) e"))
        ctx.connection.execute(_EFFECT, given)
        return int(seen.scalar_one())


@activity
def refuse(ctx: StepContext) -> None:
    """Fail for good."""
    with _noted(ctx):
        raise BusinessError("refused", name="Refused")


@activity
def stumble(ctx: StepContext) -> int:
    """Fail in the first attempt."""
    with _noted(ctx):
        if ctx.attempt == 1:
            raise TransientError("stumbled")
    return ctx.attempt


@activity
def kill_worker(ctx: StepContext) -> None:
    """End the process that it is called in."""
    with _noted(ctx):
        os.kill(os.getpid(), signal.SIGKILL)


# Everything that the load is made of. What each must end as is in ENDS.

chain = workflow("chain", step("a", note), step("b", effect), step("c", note), step("d", effect), retry=_PATIENT)

fan = workflow(
    "fan",
    step("before", effect),
    parallel(*[step(f"part_{n}", note, {"seconds": 0.01}) for n in range(4)]),
    step("join", effect),
    step("after", note),
    retry=_PATIENT,
)

_UNDO = compensation(effect, retry=_PATIENT)
saga = workflow(
    "saga",
    step("one", effect, compensation=_UNDO),
    step("two", effect, compensation=_UNDO),
    parallel(
        sequence(step("three", effect, {"seconds": 0.02}, compensation=_UNDO), step("refuses", refuse)),
        step("slow", work, {"seconds": 0.1}, compensation=compensation(note)),
    ),
    step("never", note),
    retry=_PATIENT,
)

partly = workflow(
    "partly",
    step("before", effect),
    block(
        "part",
        step("one", effect, compensation=_UNDO),
        parallel(
            sequence(step("two", effect, {"seconds": 0.02}, compensation=_UNDO), step("refuses", refuse)),
            step("slow", work, {"seconds": 0.1}, compensation=compensation(note)),
        ),
        catch=handle(step("instead", effect)),
    ),
    step("behind", effect),
    retry=_PATIENT,
)

#: Who has lost the race works on while the winner goes on, and the whole goes back.
race = workflow(
    "race",
    step("before", effect, compensation=_UNDO),
    parallel(
        step("quick", note, {"seconds": 0.05}),
        step("late", work, {"seconds": 0.3}, compensation=compensation(note)),
    ),
    step("won", effect, join="any", compensation=_UNDO),
    step("refuses", refuse),
    retry=_PATIENT,
)

approval = workflow("approval", step("asked", effect), wait("approved", "go"), step("done", effect), retry=_PATIENT)

doomed = workflow(
    "doomed",
    step("first", effect, compensation=_UNDO),
    *[step(f"slow_{n}", note, {"seconds": 0.15}, fuse=n % 5 != 0) for n in range(20)],
    retry=_PATIENT,
)

later = workflow("later", step("early", note), delay("pause", 0.4), step("late", effect), retry=_PATIENT)

unsteady = workflow("unsteady", step("stumbles", stumble), step("after", strict_effect), retry=_PATIENT)

loop = workflow(
    "loop",
    step("before", note),
    each("items", "{{ input.items }}", step("send", effect), concurrency=4),
    step("behind", effect),
    retry=_PATIENT,
)

# For single faults.

brief = workflow("brief", *[step(f"step_{n}", note, {"seconds": 0.02}) for n in range(2)], retry=_PATIENT)

long_step = workflow("long-step", step("long", work, {"seconds": 1.0}), step("after", effect), retry=_PATIENT)

poison = workflow("poison", step("kills", kill_worker), step("never", note))

patient = workflow("patient", step("first", note), step("elsewhere", note, queue="elsewhere"), retry=_PATIENT)

#: Two queues, so that no two executions share a message, and neither that of the load, which would wait behind 50,000
#: messages where the broker keeps their order; and time enough to wait behind 50,000 others.
queued = workflow(
    "queued",
    step("slowly", note, {"seconds": 0.002}, queue="slow"),
    step("after", note, queue="behind"),
    timeout=2 * 3600,
)

#: What an execution of each must end as, if nothing but faults comes in its way.
ENDS = {
    "chain": {"succeeded"},
    "fan": {"succeeded"},
    "saga": {"compensated"},
    "partly": {"succeeded"},
    "race": {"compensated"},
    "approval": {"succeeded"},
    "doomed": {"cancelled", "compensated", "succeeded"},
    "later": {"succeeded"},
    "unsteady": {"succeeded"},
    "loop": {"succeeded"},
    "brief": {"succeeded"},
    "long-step": {"succeeded"},
    "poison": {"failed"},
    "patient": {"succeeded"},
    "queued": {"succeeded"},
}
#: What goes back by itself while the rest goes on: what its paths begin with, and the step that begins then.
PARTS = {"partly": ("part[", "instead")}


def _undoable(steps: Iterable[Step], inner: str = "") -> Iterator[str]:
    """Paths of the steps that have a compensation; bodies are carried out once."""
    for found in steps:
        if found.compensation is not None:
            yield inner + found.id
        yield from _undoable(found.steps, f"{inner}{found.id}[0].")


#: Which steps have a compensation.
UNDOABLE = {found.name: frozenset(_undoable(found.definition.steps)) for found in (saga, partly, race, doomed)}
#: Which step may lose a race while somebody is at work on it.
LOSERS = {"race": "late"}
#: Which step is a join, and of what.
JOINS = {"fan": ("join", tuple(f"part_{n}" for n in range(4)))}
