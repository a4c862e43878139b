"""After a release: the claims of a dead owner go back to work, or are failed when they have killed too many."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Connection

from orchestrator.engine.advance import advance, advance_many
from orchestrator.engine.apart import Apart
from orchestrator.engine.core import Core
from orchestrator.engine.mend import after_stragglers, fail_attempt
from orchestrator.ledger.claims import Claim
from orchestrator.ledger.owners import ENDED, Released
from orchestrator.model.outcome import Failure
from orchestrator.model.state import StepStatus

logger = logging.getLogger("orchestrator.release")


def publish_released(core: Core, connection: Connection, released: Sequence[Released]) -> None:
    """Publish what a release made ready, take up executions that it left with nothing running or at work, and fail the
    steps that it left with their dead owners.

    Whoever dies before the last of it leaves those to the next release, the rest to the other sweeps.
    """
    ready = [(found.execution_id, found.path) for found in released if found.status == StepStatus.READY]
    with Apart() as apart:
        with apart.one():
            advance_many(core, connection, ready)
        for execution_id in {found.execution_id for found in released if found.status == StepStatus.CANCELLED}:
            with apart.one(execution_id):
                advance(core, connection, execution_id, ())
        with apart.one():
            ended = [(found.execution_id, found.path) for found in released if found.status == ENDED]
            after_stragglers(core, connection, ended)
        for found in released:
            if found.held is not None:
                with apart.one(found.execution_id):
                    _fail(core, connection, found.held, found.crashes)


def _fail(core: Core, connection: Connection, held: Claim, crashes: int) -> None:
    """Fail a step for good with its dead owner's token; whoever bears it bears it as any other failure."""
    message = (
        f"the worker of step {held.path} died {crashes} times while it had the step in its hands, the last time as "
        f"{held.owner}; it is not given to another"
    )
    logger.error(
        "a step has killed too many workers and is failed",
        extra={"execution_id": held.execution_id, "path": held.path, "crashes": crashes, "owner": held.owner},
    )
    failure = Failure(category="system", name="WorkerLost", message=message, classes=("WorkerLost",))
    fail_attempt(core, connection, held, failure, final=True)
