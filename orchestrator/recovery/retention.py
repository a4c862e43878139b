"""Retention: what ended longer ago than the settings keep is purged, a few batches a fire."""

from __future__ import annotations

import logging

from orchestrator.ledger import purges
from orchestrator.ledger.purges import Purge
from orchestrator.recovery.sweep import Context, Sweep

logger = logging.getLogger("orchestrator.recovery")

#: Executions of one transaction, and transactions of one fire: the sweep's queue is everybody's.
BATCH, BATCHES = 100, 20


def sweep(context: Context) -> int:
    """Purge some of what is too old, and what has grown beside it."""
    keep = context.core.settings.retention
    if not keep:
        return 0
    before, gone = purges.ago(context.connection, keep), 0
    for _ in range(BATCHES):
        count = purges.purge(context.connection, Purge(before=before), BATCH)
        gone += count
        if count < BATCH:
            break
    purges.purge_rest(context.connection, before)
    if gone:
        logger.info("executions were purged", extra={"executions": gone})
    return 0


SWEEP = Sweep(
    name="retention", interval=lambda settings: settings.sweep_retention if settings.retention else 0, sweep=sweep
)
