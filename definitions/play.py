"""What an example's checks work with: they start executions, send to them, wait, and compare."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from definitions import books
from orchestrator import ExecutionFailed, ExecutionHandle, Orchestrator, SignalRefused

#: Seconds for anything that is waited for.
PATIENCE = 45.0
_POLL = 0.05
#: Of executions that have ended.
_FINAL = frozenset({"succeeded", "failed", "compensated", "compensation_failed", "cancelled", "timed_out"})

#: Makes the timers of an execution's waiting steps due so much earlier.
_AGE = text("""
    UPDATE orchestrator.step SET due_at = due_at - CAST(:seconds AS float8) * interval '1 second'
    WHERE execution_id = :execution AND status = 'waiting' AND due_at IS NOT NULL
""")


class CheckFailed(AssertionError):
    """An example did not do what it promises."""


class Play:
    """One check at work. Executions that it starts are its own: `tag` keeps their data from that of others."""

    def __init__(self, orchestrator: Orchestrator, stopped: threading.Event) -> None:
        self.orchestrator = orchestrator
        #: A text that no other check has.
        self.tag = uuid4().hex[:8]
        #: What was compared so far.
        self.compared = 0
        self._stopped = stopped
        books.use(orchestrator.settings.require_database_url())

    def start(self, name: str, input: Any, **options: Any) -> ExecutionHandle:  # noqa: A002 - the facade's word
        """Start an execution; for the options see `Orchestrator.start`."""
        return self.orchestrator.start(name, input, **options)

    def output(self, handle: ExecutionHandle) -> Any:
        """The output of an execution that must succeed."""
        try:
            return self._result(handle)
        except ExecutionFailed as error:
            raise CheckFailed(str(error)) from None

    def error(self, handle: ExecutionHandle, status: str) -> dict[str, Any]:
        """The error of an execution that must end with a status other than succeeded."""
        try:
            output = self._result(handle)
        except ExecutionFailed as failed:
            self.same(str(failed.status), status, f"the status of {failed}")
            return dict(failed.error or {})
        raise CheckFailed(f"it was to end {status}, and has succeeded with {output!r}")

    def _result(self, handle: ExecutionHandle) -> Any:
        self.wait(
            lambda: handle.status() in _FINAL, lambda: f"execution {handle.id} is {handle.status()}, and not ended"
        )
        return handle.result(0)

    def state(self, handle: ExecutionHandle, state: str) -> None:
        """Wait until a machine is in a state."""
        self.wait(
            lambda: handle.state() == state, lambda: f"{handle.state()} ({handle.status()}) was to become {state}"
        )

    def ended(self, handle: ExecutionHandle, status: str) -> None:
        """Wait until an execution ends, with a status."""
        self.wait(lambda: handle.status() in _FINAL, lambda: f"{handle.status()} was to become {status}")
        self.same(str(handle.status()), status, "the status")

    def send(self, handle: ExecutionHandle, event: str, payload: Any = None, *, by: str, role: str) -> None:
        """Send an event to a machine."""
        try:
            self.orchestrator.send(handle.id, event, payload, actor=by, roles=(role,))
        except SignalRefused as refused:
            raise CheckFailed(str(refused)) from None

    def refused(self, handle: ExecutionHandle, event: str, payload: Any = None, *, by: str, role: str) -> str:
        """Why a machine does not take an event, which it must not."""
        try:
            self.orchestrator.send(handle.id, event, payload, actor=by, roles=(role,))
        except SignalRefused as refused:
            self.compared += 1
            return str(refused)
        raise CheckFailed(f"{event} by {by} as {role} was to be refused, and was accepted")

    def wait(self, holds: Callable[[], bool], what: Callable[[], str]) -> None:
        """Wait until something holds; CheckFailed with what was waited for if it does not within PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if self._stopped.is_set() or time.monotonic() > deadline:
                raise CheckFailed(what())
            time.sleep(_POLL)
        self.compared += 1

    def same(self, found: Any, expected: Any, what: str) -> None:
        """Compare."""
        self.compared += 1
        if found != expected:
            raise CheckFailed(f"{what}: {found!r}, where {expected!r} was expected")

    def true(self, holds: bool, what: str) -> None:
        """See that something holds."""
        self.same(holds, True, what)

    def age(self, handle: ExecutionHandle, seconds: float) -> None:
        """Let so much time pass for what an execution waits for, as soon as it does."""

        def passed() -> bool:
            with self.orchestrator.core.database.begin() as connection:
                return connection.execute(_AGE, {"execution": handle.id, "seconds": seconds}).rowcount == 1

        self.wait(passed, lambda: f"execution {handle.id} was to wait for one time")

    # The history.

    def states(self, handle: ExecutionHandle) -> list[str]:
        """The states that a machine has come to, in order; where it stayed is left out."""
        entered = [event["data"]["state"] for event in handle.events() if event["type"] == "state_entered"]
        return [state for number, state in enumerate(entered) if number == 0 or entered[number - 1] != state]

    def begun(self, handle: ExecutionHandle) -> list[str]:
        """Names of the steps and compensations that were begun, in order, further attempts left out."""
        first = [e["path"] for e in handle.events() if e["type"] == "step_started" and e["attempt"] == 1]
        return [f"{'undo ' if path.startswith('undo:') else ''}{path.rpartition('/')[2].removeprefix('undo:')}"
                for path in first]  # fmt: skip

    def attempts(self, handle: ExecutionHandle, path: str) -> int:
        """How often a step was begun."""
        return sum(event["type"] == "step_started" and event["path"] == path for event in handle.events())

    def steps(self, handle: ExecutionHandle) -> dict[str, str]:
        """Path -> what became of it last, such as waiting, started or succeeded, of every step that has come up."""
        events = [event for event in handle.events() if event["type"].startswith("step_")]
        return {event["path"]: event["type"].removeprefix("step_") for event in events}
