"""Commands: carried out once, whatever becomes of their answers. And those that end a step in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from orchestrator.engine import reopen
from orchestrator.engine.advance import advance, advance_many
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.reopen import CHANGED, RETRYABLE, require
from orchestrator.engine.spread import bare_spread
from orchestrator.errors import ControlRefused, LedgerBusy
from orchestrator.ledger import controls, reopens
from orchestrator.ledger.controls import By
from orchestrator.model.reopened import Row
from orchestrator.model.state import FINAL_EXECUTIONS, StepStatus

#: Steps that nobody works on.
_STAND_BY = frozenset({StepStatus.READY, StepStatus.WAITING, StepStatus.RETRYING})


class ByHand(Inbox):
    """Carries out commands, and ends steps in their place."""

    def _command(
        self,
        execution_id: str,
        by: By,
        act: Callable[[Connection], None],
        rest: Callable[[Connection], None] | None = None,
    ) -> None:
        """Carry out a command on an execution. Sent again after its answer was lost, it may find the execution as it
        has left it itself: its entry in the audit, which its statement wrote, tells. So it does when a row of the
        execution is held for too long, by a host that has vanished, say: what the command has written stands, and what
        follows from that is left to the sweeps.

        Args:
            rest: what is then done in the place of `act`; by default whatever the execution needs to go on.
        """
        sent = False

        def once(connection: Connection) -> None:
            nonlocal sent
            if sent and controls.carried_out(connection, execution_id, by):
                if rest is None:
                    advance(self.core, connection, execution_id)
                else:
                    rest(connection)
                return
            sent = True
            act(connection)

        try:
            self._persist(once)
        except LedgerBusy:
            if not self._persist(lambda connection: controls.carried_out(connection, execution_id, by)):
                raise

    def skip(self, execution_id: str, path: str, *, actor: str, reason: str | None = None, output: Any = None) -> None:
        """Let a step count as succeeded with an output: one that failed its execution, which goes on, or an open one.

        Raises:
            ExecutionNotFound, ControlRefused: there is no such step, it runs, is done, or waits for a body or child;
                it is a choice, and the output names none of its cases.
            PayloadError: the output does not fit.
        """
        by, what = By(actor=actor, reason=reason), f"output of step {path}"
        self._encoded(output, what)

        def act(connection: Connection) -> None:
            standing = require(connection, execution_id)
            text = self._admitted(standing.tenant, output, what)
            if standing.status not in RETRYABLE:
                self._complete(connection, execution_id, path, text, by=by)
                return
            row = _row(reopens.rows(connection, execution_id), execution_id, path)
            if row.status in {StepStatus.SUCCEEDED, StepStatus.SKIPPED}:
                raise ControlRefused(execution_id, f"step {path} is {row.status} already")
            given = {path: text}
            reopen.retry(self.core, connection, execution_id, by, command="skip", path=path, given=given)

        self._command(execution_id, by, act)

    def complete(
        self, execution_id: str, path: str, *, actor: str, reason: str | None = None, output: Any = None
    ) -> None:
        """End a step by hand that waits, for a signal, a time or its turn, with an output.

        Raises:
            ExecutionNotFound, ControlRefused: there is no such step, it runs, is done, or waits for a body or child;
                it is a choice, and the output names none of its cases.
            PayloadError: the output does not fit.
        """
        by, what = By(actor=actor, reason=reason), f"output of step {path}"
        self._encoded(output, what)

        def act(connection: Connection) -> None:
            text = self._admitted(require(connection, execution_id).tenant, output, what)
            self._complete(connection, execution_id, path, text, by=by)

        self._command(execution_id, by, act)

    def _complete(
        self, connection: Connection, execution_id: str, path: str, text: str, *, by: By, again: bool = True
    ) -> None:
        """End a step that stands by.

        Args:
            again: whether to try once more where the step stands as it stood. A pause that is settled at that moment
                puts another row in the place of its own, which no statement finds that was sent before.
        """
        standing = require(connection, execution_id)
        if standing.status in FINAL_EXECUTIONS:
            raise ControlRefused(execution_id, f"it {stands(standing.status)}; its steps are as they are")
        row = _row(reopens.rows(connection, execution_id), execution_id, path)
        if row.status not in _STAND_BY:
            raise ControlRefused(execution_id, f"step {path} is {row.status}; only one that waits is ended by hand")
        if row.undoes is not None:
            raise ControlRefused(execution_id, f"{path} is a compensation, which is not ended by hand")
        if row.awaits == "undo":
            raise ControlRefused(execution_id, f"step {path} has failed, and what it did is being undone")
        if row.awaits in {"body", "child", "event"}:
            raise ControlRefused(execution_id, f"step {path} waits for its {row.awaits}; end that instead")
        found = bare_spread(self.core, connection, execution_id)
        if found is None:
            raise ControlRefused(execution_id, CHANGED)
        graph, spread = found
        exit_by = reopen.exit_by(graph, execution_id, path, text)
        behind = spread.following(path, exit_by)
        ready = controls.complete(
            connection,
            execution_id,
            path,
            text,
            seen=row.attempt,
            stood=row.status,
            successors=behind.rows,
            by=by,
            exit_by=exit_by,
        )
        if ready is None:
            if again and row in reopens.rows(connection, execution_id):
                self._complete(connection, execution_id, path, text, by=by, again=False)
                return
            raise ControlRefused(execution_id, f"step {path} has gone on at the same moment; look at it again")
        ready += spread.after(behind)
        if ready:
            advance_many(self.core, connection, [(execution_id, each) for each in ready])
        else:
            advance(self.core, connection, execution_id, ())


def _row(rows: list[Row], execution_id: str, path: str) -> Row:
    found = next((row for row in rows if row.path == path), None)
    if found is None:
        raise ControlRefused(
            execution_id, f"it has no step {path} so far; `orchestrator show {execution_id}` lists them"
        )
    return found


def stands(status: str) -> str:
    """How an execution stands, as a part of a sentence."""
    return f"has ended {status}" if status in FINAL_EXECUTIONS else f"is {status}"
