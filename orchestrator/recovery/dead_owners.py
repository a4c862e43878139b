"""Dead owners: nodes that fell silent, and children that a node no longer lists."""

from __future__ import annotations

import logging

from orchestrator.engine.release import publish_released
from orchestrator.ledger import owners
from orchestrator.recovery.sweep import Context, Sweep

logger = logging.getLogger("orchestrator.recovery")


def sweep(context: Context) -> int:
    """Bury silent nodes and give back what the dead hold."""
    for boot_id, name in owners.bury(context.connection, context.observer, context.core.settings.dead_after):
        logger.warning("node is dead; its claims are released", extra={"boot_id": boot_id, "node": name})
    publish_released(context.core, context.connection, owners.release_gone(context.connection))
    return 0


SWEEP = Sweep(name="owners", interval=lambda settings: settings.sweep_owners, sweep=sweep)
