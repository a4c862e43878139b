"""A message's connection, and the claims that come with it: none of them outlives the message's work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection

from orchestrator.engine.core import Core
from orchestrator.engine.mend import after_stragglers
from orchestrator.engine.release import publish_released
from orchestrator.ledger import owners, stragglers
from orchestrator.runtime.link import Link
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.segment")


def _forgotten(core: Core, connection: Connection, owner: str) -> None:
    """A step that was settled without its attempt is nobody's claim; but that attempt, too, has ended."""
    after_stragglers(core, connection, stragglers.end_owners(connection, owner))


@contextmanager
def holding(worker: Worker) -> Iterator[Link]:
    """A link for the work on one message.

    Whoever works must not leave a claim behind, as it lives on, and nobody takes anything from the living. So where our
    own code fails, and fails once more as it settles that as the step's failure, what is still claimed is given back as
    if this process had died: others take it up, or it has killed too many (`max_crashes`) and is failed. No two
    messages are worked on under one owner's name at a time, so nothing is taken from another; and if this process dies
    before the publish, the sweep of steps that are ready publishes.
    """
    link = worker.link()
    try:
        yield link
    except Exception:
        owner, most = worker.node.owner(), worker.core.settings.max_crashes
        released = link.call(owners.release, owner, max_crashes=most)
        link.call(partial(_forgotten, worker.core), owner)
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
        link.close()
