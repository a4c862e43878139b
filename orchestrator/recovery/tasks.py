"""Our Celery tasks for sweeps and probes, registered with an application."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import Ignore
from sqlalchemy import Engine

from orchestrator.dispatch.publish import PROBE_TASK, SWEEP_TASK
from orchestrator.ledger import database, probes
from orchestrator.recovery.sweep import Context, call
from orchestrator.recovery.sweeps import SWEEPS

logger = logging.getLogger("orchestrator.recovery")

#: How long a sweep waits for the database, in seconds; the next one is due soon.
PATIENCE = 2.0


def register(app: Celery, context: Callable[[], tuple[Any, Engine, str]], backend: Any) -> None:
    """Add the sweep and probe tasks to an application.

    Args:
        context: gives the engine's core, the connections of whatever a worker carries out, and the node's boot id.
        backend: the ledger's result backend, so that nothing reaches the application's own.
    """

    @app.task(name=SWEEP_TASK, ignore_result=True, shared=False, backend=backend)
    def sweep(name: str) -> None:
        core, engine, observer = context()
        found = SWEEPS.get(name)
        if found is None:
            # Sent by a newer release's beat; one of its own workers does it.
            raise Ignore

        def work() -> int:
            with engine.connect() as connection:
                return call(found, Context(core=core, connection=connection, observer=observer))

        count = database.persist(work, give_up_after=PATIENCE)
        if count:
            logger.info("swept", extra={"sweep": name, "found": count})

    @app.task(name=PROBE_TASK, ignore_result=True, shared=False, backend=backend)
    def probe(probe_id: int) -> None:
        _, engine, _ = context()

        def work() -> None:
            with engine.connect() as connection:
                probes.consume(connection, probe_id)

        database.persist(work, give_up_after=PATIENCE)
