"""Signals, events, and steps that wait for them, as the tests send and park them."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from sqlalchemy import Connection

from ledger.driver import TENANT, Begun, Ledger
from orchestrator.engine import signal
from orchestrator.ledger import parks, signals
from orchestrator.ledger.claims import Claim
from orchestrator.model.identity import new_id

_correlations = count(1)


def insert(
    connection: Connection, begun: Begun, payload: object = 1, *, name: str = "paid", dedup: str | None = None
) -> bool | None:
    """Accept a signal, as the engine does before it matches."""
    return signals.insert(
        connection,
        signal_id=str(new_id()),
        execution_id=begun.id,
        name=name,
        payload=json.dumps(payload),
        dedup_id=dedup,
        actor="somebody",
    )


def emit(connection: Connection, correlation: str, payload: object = 1, *, dedup: str | None = None) -> bool:
    """Accept an event."""
    return signals.emit(
        connection,
        signal_id=str(new_id()),
        tenant=TENANT,
        name="paid",
        correlation=correlation,
        payload=json.dumps(payload),
        dedup_id=dedup,
        actor=None,
    )


def wait(
    connection: Connection,
    held: Claim,
    *,
    name: str = "paid",
    correlation: str | None = None,
    seconds: float | None = None,
) -> None:
    """Let go of a step until a signal comes."""
    settled = parks.park(
        connection, held, resume={}, awaits="signal", wait_name=name, correlation=correlation, seconds=seconds
    )
    assert settled is not None
    assert not settled.halted


def waiting(
    ledger: Ledger, *paths: str, name: str = "paid", correlation: str | None = None, seconds: float | None = None
) -> Begun:
    """An execution whose steps wait."""
    begun = ledger.start(dict.fromkeys(paths or ("wait",), ()))
    for path in begun.graph.roots:
        ledger.do(wait, ledger.claim(begun, path), name=name, correlation=correlation, seconds=seconds)
    return begun


def match(ledger: Ledger, begun: Begun, path: str | None = None) -> list[str]:
    return ledger.do(signal.match, begun.graph, begun.id, path)


def taken(ledger: Ledger, begun: Begun, path: str = "wait") -> Any:
    """The payload that woke a step; None while it waits."""
    row = ledger.step(begun, path)
    assert (row.status, row.woken_by) in {("waiting", None), ("ready", "signal")}
    return row.resume.get("signal")


def received(ledger: Ledger, begun: Begun) -> int:
    """Signals that stand in the inbox, taken or not."""
    found: int = ledger.sql("SELECT count(*) FROM orchestrator.signal WHERE execution_id = :e", e=begun.id)[0][0]
    return found


def new_correlation() -> str:
    return f"order-{next(_correlations)}"
