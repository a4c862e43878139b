"""When a beat wakes. What it sends, and that two of them send it once, is tested on a real ledger."""

from __future__ import annotations

import time
from typing import Any

from orchestrator import Orchestrator
from orchestrator.recovery.beat import LedgerScheduler

ENTRY = "often"


class Recorder(LedgerScheduler):
    """Notes how often it asked whether something is due before it fired, and fires nothing."""

    asked = 0
    fired: tuple[str, ...] = ()

    def is_due(self, entry: Any) -> Any:
        self.asked += 1
        return super().is_due(entry)

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> None:
        self.reserve(entry)
        self.fired = (*self.fired, entry.name)


def test_it_wakes_when_an_entry_is_due_and_asks_no_sooner() -> None:
    app = Orchestrator(database_url="postgresql://nobody@127.0.0.1:1/none", broker_url="memory://").app
    app.conf.beat_schedule = {ENTRY: {"task": "any", "schedule": 0.2}}
    recorder = Recorder(app=app)
    while ENTRY not in recorder.fired:
        time.sleep(max(0.0, recorder.tick()))
    # Celery's own asks some hundred times in the last hundredth of a second.
    assert recorder.asked <= 3 * len(recorder.fired)
    app.close()
