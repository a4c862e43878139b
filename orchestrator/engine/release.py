"""After a release: the claims of a dead owner go back to work."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from orchestrator.engine.advance import advance, advance_many
from orchestrator.engine.core import Core
from orchestrator.ledger.owners import Released
from orchestrator.model.state import StepStatus


def publish_released(core: Core, connection: Connection, released: Sequence[Released]) -> None:
    """Publish what a release made ready, and take up executions that it left with nothing running."""
    ready = [(found.execution_id, found.path) for found in released if found.status == StepStatus.READY]
    advance_many(core, connection, ready)
    for execution_id in {found.execution_id for found in released if found.status != StepStatus.READY}:
        advance(core, connection, execution_id, ())
