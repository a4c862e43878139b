"""Dead owners: nodes that fell silent, and children that a node no longer lists."""

from __future__ import annotations

import logging

from orchestrator.engine.release import publish_released
from orchestrator.ledger import owners
from orchestrator.recovery.sweep import Context, Sweep

logger = logging.getLogger("orchestrator.recovery")


def sweep(context: Context) -> int:
    """Bury silent nodes and give back what the dead hold."""
    core, settings = context.core, context.core.settings
    for boot_id, name in owners.bury(context.connection, context.observer, settings.dead_after):
        logger.warning("node is dead; its claims are released", extra={"boot_id": boot_id, "node": name})
    released = owners.release_gone(context.connection, max_crashes=settings.max_crashes)
    publish_released(core, context.connection, released)
    return 0


SWEEP = Sweep(name="owners", interval=lambda settings: settings.sweep_owners, sweep=sweep)
