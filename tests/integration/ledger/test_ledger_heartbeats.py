"""Heartbeats: what they put off, and what they are answered."""

from __future__ import annotations

import pytest

from ledger.driver import OWNER, Begun, Ledger
from orchestrator.ledger import claims, heartbeats, timers
from orchestrator.ledger.claims import Claim


def beat(ledger: Ledger, held: Claim, timeout: float | None = None, patience: float | None = None) -> bool | None:
    return ledger.do(heartbeats.beat, held, progress=None, timeout=timeout, patience=patience)


def allowed(ledger: Ledger, begun: Begun) -> float | None:
    """Seconds from the begin of the attempt to the time at which it is overdue."""
    row = ledger.step(begun, "one")
    return None if row.due_at is None else (row.due_at - row.started_at).total_seconds()


def claimed(ledger: Ledger, begun: Begun, timeout: float | None) -> Claim:
    taken = ledger.do(claims.claim, begun.id, "one", owner=OWNER, transactional=False, timeout=timeout)
    assert taken is not None
    return taken[0]


def test_a_heartbeat_puts_off_the_end_but_not_past_the_timeout(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    held = claimed(ledger, begun, 1)
    assert beat(ledger, held, timeout=3600, patience=100) is False
    assert 100 <= (allowed(ledger, begun) or 0) < 3600
    assert beat(ledger, held, timeout=50, patience=100) is False
    assert allowed(ledger, begun) == 50
    ledger.age(begun, "started_at", 100)
    ledger.age(begun, "due_at", 100)
    found = [found for found in ledger.do(timers.overdue, 100, 0.0) if found.held == held]
    assert [found.allowed for found in found] == [50]
    assert beat(ledger, held, patience=100) is False
    assert (allowed(ledger, begun) or 0) >= 200
    assert held not in [found.held for found in ledger.do(timers.overdue, 100, 0.0)]


def test_without_a_heartbeat_timeout_the_end_stays_where_it_is(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    held = claimed(ledger, begun, 7)
    before = ledger.step(begun, "one").due_at
    assert beat(ledger, held, timeout=7) is False
    assert ledger.step(begun, "one").due_at == before


def test_progress_stays_until_there_is_more(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    held = ledger.claim(begun, "one")
    ledger.do(heartbeats.beat, held, progress='{"rows": 1}', timeout=None, patience=None)
    beat(ledger, held)
    assert ledger.step(begun, "one").progress == {"rows": 1}


@pytest.mark.parametrize(("flag", "unwanted"), [("cancelling", True), ("timing_out", True), ("failing", False)])
def test_an_attempt_is_unwanted_when_its_execution_is_cancelled_or_late(
    ledger: Ledger, flag: str, unwanted: bool
) -> None:
    begun = ledger.start({"one": ()})
    held = ledger.claim(begun, "one")
    ledger.flag(begun, flag)
    assert beat(ledger, held) is False, "the drain decides, not the flag"
    ledger.sql("UPDATE orchestrator.step SET halt = true WHERE execution_id = :e", e=begun.id)
    assert beat(ledger, held) is unwanted
    assert ledger.do(heartbeats.ask, held) is unwanted
    (found,) = [found for found in ledger.do(heartbeats.underway, [OWNER]) if found.held == held]
    assert found.unwanted is unwanted


def test_a_lost_claim_is_heard_no_more(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    held = ledger.claim(begun, "one")
    ledger.do(claims.settle_and_spread, held, "1", successors="[]")
    assert beat(ledger, held) is None
    assert ledger.do(heartbeats.ask, held) is None
    assert held not in [found.held for found in ledger.do(heartbeats.underway, [OWNER])]
