"""Overtaken steps: ready, unclaimed, and behind a probe that workers have consumed twice. Their message was lost."""

from __future__ import annotations

import logging

from orchestrator.engine.advance import AT_ONCE, advance_many
from orchestrator.engine.apart import Apart
from orchestrator.ledger import probes
from orchestrator.recovery.sweep import LIMIT, Context, Sweep

logger = logging.getLogger("orchestrator.recovery")

#: Steps that have been ready for this long, in seconds, are worth a probe.
AGE = 2.0


def sweep(context: Context) -> int:
    """Publish again what probes have overtaken, and send the probes that are due."""
    count = 0
    with Apart() as apart:
        while count < LIMIT and (lost := probes.overtaken(context.connection, AT_ONCE)):
            count += len(lost)
            with apart.one():
                advance_many(context.core, context.connection, lost)
        if count:
            logger.warning("messages were lost; their steps are published again", extra={"steps": count})
        probes.repeat(context.connection)
        for probe in probes.to_send(context.connection):
            context.core.publisher.probe(probe.id, probe.queue)
        probes.prepare(context.connection, context.core.settings.tenant, AGE)
    return count


SWEEP = Sweep(name="overtaken", interval=lambda settings: settings.sweep_overtaken, sweep=sweep)
