"""A message's connection, and the claims that come with it: none of them outlives the message's work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from orchestrator.engine.mend import after_stragglers
from orchestrator.engine.release import publish_released
from orchestrator.ledger import owners, stragglers
from orchestrator.runtime.link import Link
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.segment")


@contextmanager
def holding(worker: Worker) -> Iterator[Link]:
    """A link for the work on one message.

    Whoever works must not leave a claim behind, as it lives on, and nobody takes anything from the living. So where our
    own code fails, and fails once more as it settles that as the step's failure, what is still claimed is given back as
    if this process had died: others take it up, or it has killed too many (`max_crashes`) and is failed. No two
    messages are worked on under one owner's name at a time, so nothing is taken from another; and if this process dies
    before the publish, the sweep of steps that are ready publishes.

    Nor must it stay noted as at work on a step that was settled without it. Whoever is fenced says so itself; but a
    step whose claim was carried out, and its reply lost, may have been cancelled before it was adopted.
    """
    link, has_failed = worker.link(), False
    try:
        yield link
    except Exception:
        has_failed = True
        owner, most = worker.node.owner(), worker.core.settings.max_crashes
        released = link.call(owners.release, owner, max_crashes=most)
        if released:
            logger.exception("claims are given back after a failure", extra={"owner": owner, "steps": len(released)})
            try:
                link.call(lambda connection: publish_released(worker.core, connection, released))
            except Exception:
                # A step that cannot be failed either: somebody else may, once the ledger lets them.
                link.call(owners.release, owner)
                raise
        raise
    finally:
        try:
            # Also behind the release: what that left running, to be failed, may have lost its race since.
            if has_failed or link.was_doubtful:
                link.call(_at_work_no_more, worker)
        finally:
            link.close()


def _at_work_no_more(connection: Connection, worker: Worker) -> None:
    after_stragglers(worker.core, connection, stragglers.end_owners(connection, worker.node.owner()))
