"""The result backend of our own tasks: Celery's chord, counted by the ledger.

Set on our tasks only, so the application's own result backend stays as it is. Celery calls it from three places: the
client that publishes a chord, the child that ends a header, and the worker's main process when a task fails there. In
the main process nothing may raise (it would end the worker) or wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import states
from celery.backends.base import Backend

from orchestrator.errors import OrchestratorError

logger = logging.getLogger("orchestrator.backend")

#: Called with a chord body's arguments and whether the header found its work done already.
JoinChord = Callable[[str, str, str, bool], None]


class LedgerBackend(Backend):
    """Keeps no results: outcomes are in the ledger, and an execution's handle reads them."""

    supports_native_join = False
    #: A body must not be looked for by polling.
    supports_autoexpire = True

    def __init__(self, app: Any, join_chord: JoinChord) -> None:
        super().__init__(app=app)
        self._join_chord = join_chord

    def apply_chord(self, *_: Any, **__: Any) -> None:
        """The ledger counts; Celery's own way would publish a polling task."""

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """A header has ended: claim the join, and publish the body if it was ours to claim."""
        body = getattr(request, "chord", None)
        if state != states.SUCCESS or not body:
            return
        try:
            execution_id, definition_id, head = body["args"]
            self._join_chord(execution_id, definition_id, head, result is True)
        except Exception:
            # The stalled sweep finds a join that nobody made ready.
            logger.exception("join left to the sweep")

    def _store_result(self, *_: Any, **__: Any) -> None:
        """Nothing is stored; without this, an unknown task name in a message would end the worker."""

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        return {"task_id": task_id, "status": states.PENDING, "result": None}

    def wait_for_pending(self, result: Any, *_: Any, **__: Any) -> Any:
        """A client that waits for a segment's result is told where results are."""
        raise OrchestratorError(
            f"task {result.id} is a segment of an execution and keeps no result; use the handle that start() returned: "
            "handle.result(timeout=...)"
        )

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        """Nothing is pending here."""
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Nothing is pending here."""
        return result

    def _forget(self, task_id: str) -> None:
        """There is nothing to forget."""

    def _save_group(self, group_id: str, result: Any) -> Any:
        return result

    def _restore_group(self, group_id: str) -> None:
        """Groups are not kept."""

    def _delete_group(self, group_id: str) -> None:
        """Groups are not kept."""

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """A chord of the ledger's is never added to: its header is the definition's."""
        raise OrchestratorError("a workflow's chord cannot be extended; publish a new version of its definition")
