"""What an operator does to executions. Every command is one guarded statement, recorded with who did it and why."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reopen import undo_again
from orchestrator.engine import reopen
from orchestrator.engine.advance import advance, child_ended
from orchestrator.engine.by_hand import ByHand, stands
from orchestrator.engine.handle import ExecutionHandle
from orchestrator.engine.reopen import CHANGED, RETRYABLE, require
from orchestrator.engine.saga import undo_ended, undo_order
from orchestrator.errors import ControlRefused
from orchestrator.ledger import children, controls, maintenance, reopens
from orchestrator.ledger.controls import By
from orchestrator.ledger.maintenance import Maintenance
from orchestrator.ledger.reopens import Standing
from orchestrator.model.identity import new_id, undone_path
from orchestrator.model.state import STANDING_STILL, ExecutionStatus

#: Leave the input as it is.
UNCHANGED: Final = object()

_UNDOABLE = RETRYABLE | {ExecutionStatus.SUCCEEDED}


class Control(ByHand):
    """Commands executions."""

    def cancel(
        self,
        execution_id: str,
        *,
        actor: str,
        reason: str | None = None,
        children: bool = True,
        compensate: bool | None = None,
    ) -> None:
        """Cancel an execution: once this returns none of its steps starts; those that run are interrupted.

        Args:
            children: cancel what it has started and waits for, too; without, that goes on alone.
            compensate: whether what was done is undone; None as the definition says (`on_cancel`).

        Raises:
            ExecutionNotFound, ControlRefused: there is no such execution, or it has ended or goes back already.
        """
        by = By(actor=actor, reason=reason)

        def act(connection: Connection) -> None:
            def flag() -> bool:
                return controls.cancel(connection, execution_id, reason, by=by, undo=compensate, detach=not children)

            flagged = flag()
            if not flagged and controls.call_off(connection, execution_id, by):
                child_ended(self.core, connection, execution_id, anyway=True)
                return
            # Between the two a sweep may have retried it.
            if not flagged and not flag():
                status = require(connection, execution_id).status
                if status != ExecutionStatus.CANCELLING:
                    raise ControlRefused(execution_id, f"it {stands(status)}, and cannot be cancelled any more")
            advance(self.core, connection, execution_id, ())

        self._command(execution_id, by, act)

    def pause(self, execution_id: str, *, actor: str, reason: str | None = None, children: bool = True) -> None:
        """Let no further step of an execution start; running ones end. Once paused already, nothing happens.

        Args:
            children: pause what it has started and waits for, too.

        Raises:
            ExecutionNotFound, ControlRefused: it does not run.
        """
        by = By(actor=actor, reason=reason)

        def act(connection: Connection) -> None:
            if not controls.pause(connection, execution_id, by):
                status = require(connection, execution_id).status
                if status not in STANDING_STILL:
                    raise ControlRefused(execution_id, f"it {stands(status)}; only what runs can be paused")
            controls.settle_pause(connection, execution_id)

        self._command(execution_id, by, act)
        if children:
            self._with_children(execution_id, lambda child: self.pause(child, actor=actor, reason=reason))

    def resume(self, execution_id: str, *, actor: str, reason: str | None = None, children: bool = True) -> None:
        """Let a paused execution go on; its deadline is later by as long as it stood still.

        Args:
            children: resume its children too.

        Raises:
            ExecutionNotFound, ControlRefused: it is not paused.
        """
        by = By(actor=actor, reason=reason)

        def act(connection: Connection) -> None:
            if not controls.resume(connection, execution_id, by):
                status = require(connection, execution_id).status
                # One that goes on may have children that do not: whoever resumed it died before them.
                if not (children and status == ExecutionStatus.RUNNING and self._still(connection, execution_id)):
                    raise ControlRefused(execution_id, f"it {stands(status)}; only what is paused can be resumed")
            advance(self.core, connection, execution_id)

        self._command(execution_id, by, act)
        if children:
            self._with_children(execution_id, lambda child: self.resume(child, actor=actor, reason=reason))

    def retry(
        self,
        execution_id: str,
        *,
        actor: str,
        reason: str | None = None,
        input: Any = UNCHANGED,  # noqa: A002 - the field's word
    ) -> None:
        """Let an execution go on that failed, timed out or was cancelled; all that is done is kept. Of one that goes
        on, steps that wait for their next attempt make it now.

        Args:
            input: another input, for the steps to come.

        Raises:
            ExecutionNotFound, ControlRefused: it has not ended so, and nothing of it waits; or what it did is undone.
            InvalidInput, PayloadError: the input does not fit.
        """
        by = By(actor=actor, reason=reason)

        def act(connection: Connection) -> None:
            value = self._other_input(connection, execution_id, input)
            reopen.retry(self.core, connection, execution_id, by, value=value)

        def rest(connection: Connection) -> None:
            reopen.retry_children(self.core, connection, execution_id, by)

        self._command(execution_id, by, act, rest)

    def compensate(self, execution_id: str, *, actor: str, reason: str | None = None, to: str | None = None) -> None:
        """Undo what an execution did that has ended; or what of it could not be undone, once more.

        Args:
            to: undo only what was done after this step. A fork from the next one does that part again.

        Raises:
            ExecutionNotFound, ControlRefused: it goes on, or there is nothing to undo.
        """
        by = By(actor=actor, reason=reason)

        def act(connection: Connection) -> None:
            standing = require(connection, execution_id)
            if standing.status == ExecutionStatus.COMPENSATION_FAILED and to is None:
                self._undo_again(connection, execution_id, standing, by)
            elif standing.status in _UNDOABLE:
                if not undo_ended(self.core, connection, execution_id, standing, to=to, by=by):
                    gone_on = require(connection, execution_id) != standing
                    after = "" if to is None else f" after step {to}"
                    nothing = f"nothing that it did{after} has a compensation"
                    raise ControlRefused(execution_id, CHANGED if gone_on else nothing)
            else:
                raise ControlRefused(execution_id, _no_undo(standing.status))
            advance(self.core, connection, execution_id)

        self._command(execution_id, by, act)

    def fork(
        self,
        execution_id: str,
        path: str,
        *,
        actor: str,
        reason: str | None = None,
        input: Any = UNCHANGED,  # noqa: A002 - the field's word
    ) -> ExecutionHandle:
        """Start another execution from a step of one that has ended; what came before is copied, not done again.

        Args:
            path: a step at the top of the workflow.
            input: another input, for the steps to come.

        Raises:
            ExecutionNotFound, ControlRefused: it goes on still, is a machine, or has no such step.
            InvalidInput, PayloadError: the input does not fit.
        """
        by, new = By(actor=actor, reason=reason), str(new_id())

        def act(connection: Connection) -> None:
            value = self._other_input(connection, execution_id, input)
            reopen.fork(self.core, connection, execution_id, path, by, new=new, value=value)

        self._command(execution_id, by, act)
        return ExecutionHandle(id=new, created=True, _database=self.core.database)

    def maintenance(self, on: bool, *, actor: str, reason: str | None = None, tenant: str | None = None) -> bool:
        """Begin or end maintenance, in which executions are accepted and held, and what runs is finished.

        Returns:
            False when it was so already.
        """
        by, whose = By(actor=actor, reason=reason), tenant or self.core.settings.tenant
        change = maintenance.begin if on else maintenance.end
        return self._persist(lambda connection: change(connection, whose, by))

    def in_maintenance(self, tenant: str | None = None) -> Maintenance | None:
        """The tenant's maintenance, if it is in one."""
        whose = tenant or self.core.settings.tenant
        return self._persist(lambda connection: maintenance.facts(connection, whose))

    # How they do it.

    def _still(self, connection: Connection, execution_id: str) -> bool:
        """Whether a child of an execution stands still."""
        found = (reopens.standing(connection, child) for child in children.open_children(connection, execution_id))
        return any(each is not None and each.status in STANDING_STILL for each in found)

    def _with_children(self, execution_id: str, command: Any) -> None:
        for child in self._persist(lambda connection: children.open_children(connection, execution_id)):
            try:
                command(child)
            except ControlRefused:
                continue  # it stands otherwise than its parent, by another's word

    def _other_input(self, connection: Connection, execution_id: str, given: Any) -> str | None:
        if given is UNCHANGED:
            return None
        standing = require(connection, execution_id)
        graph = self._graph(connection, standing)
        return self._admitted(standing.tenant, given, f"input of {graph.name}", graph.definition.input_schema)

    def _graph(self, connection: Connection, standing: Standing) -> Graph:
        return self.core.graphs.get(connection, standing.definition_id)

    def _undo_again(self, connection: Connection, execution_id: str, standing: Standing, by: By) -> None:
        again = undo_again(reopens.rows(connection, execution_id), undo_order(connection, execution_id))
        for each in again:
            # A child whose own compensations have failed goes back first, or its parent would only find it so.
            child = children.latest(connection, execution_id, undone_path(each.path) or "")
            found = reopens.standing(connection, child) if child is not None else None
            if child is not None and found is not None and found.status == ExecutionStatus.COMPENSATION_FAILED:
                self._undo_again(connection, child, found, by)
                advance(self.core, connection, child)
        if not reopens.undo_again(connection, execution_id, seen=standing.settled_at, reopened=again, by=by):
            raise ControlRefused(execution_id, CHANGED)


def _no_undo(status: str) -> str:
    if status == ExecutionStatus.COMPENSATED:
        return "it is compensated already"
    if status == ExecutionStatus.COMPENSATION_FAILED:
        return "a compensation of it has failed: that is tried again as a whole, without a step to stop at"
    return f"it is {status}; cancel it, with compensation, or wait for its end"
