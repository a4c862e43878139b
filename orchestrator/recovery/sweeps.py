"""All sweeps by name; a new one is a file and a line here."""

from __future__ import annotations

from orchestrator.recovery import dead_owners, deadlines, due, incidents, overtaken, retention, stalled
from orchestrator.recovery.sweep import Sweep

SWEEPS: dict[str, Sweep] = {
    sweep.name: sweep
    for sweep in (
        due.SWEEP,
        dead_owners.SWEEP,
        overtaken.SWEEP,
        stalled.SWEEP,
        deadlines.SWEEP,
        incidents.SWEEP,
        retention.SWEEP,
    )
}
