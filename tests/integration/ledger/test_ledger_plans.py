"""What sweeps and matches cost on a ledger that holds much else: they go by indexes, and read no whole table."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from sqlalchemy import TextClause

from ledger.driver import Begun, Ledger
from orchestrator.ledger import (
    children,
    executions,
    halts,
    joins,
    machines,
    parks,
    reopens,
    results,
    signals,
    stalled,
    stragglers,
    timers,
)
from orchestrator.model.definition import Step

#: Rows that have nothing to do with what is asked for.
FILLER: Final = 20_000

_SAID: Final = {"actor": "ann", "reason": None, "parameters": "{}"}

#: Statement -> its parameters, beside the execution's.
STATEMENTS: Final[dict[str, tuple[TextClause, dict[str, Any]]]] = {
    "PEEK": (signals.PEEK, {"path": None}),
    "TAKE": (signals.TAKE, {"path": "wait", "signal": "00000000-0000-7000-8000-000000000000"}),
    "WAITING_FOR_EVENT": (signals.WAITING_FOR_EVENT, {"tenant": "default", "name": "paid", "correlation": "one"}),
    "UNMATCHED": (signals.UNMATCHED, {"limit": 100}),
    "ASLEEP": (parks.ASLEEP, {"limit": 100}),
    "WAKE_FOR_BODY": (parks.WAKE_FOR_BODY, {"path": "block", "inner": "block["}),
    "UNTOLD": (children.UNTOLD, {"limit": 100}),
    "WAKE": (children.WAKE, {"child": "00000000-0000-7000-8000-000000000000", "anyway": False}),
    "OPEN_CHILDREN": (children.OPEN_CHILDREN, {"inner": "block["}),
    "JOIN": (joins.JOIN, {"path": "join", "when_skipped": "[]", "when_dead": "[]"}),
    "LOST": (joins.LOST, {"limit": 100}),
    "CANCEL_LOSERS": (joins.CANCEL_LOSERS, {"paths": ["wait"]}),
    "DRAIN": (halts.DRAIN, {"inner": "block[", "container": "block"}),
    "START": (
        executions.START,
        {
            "executions": "[]",
            "tenant": "default",
            "definition": "00000000-0000-7000-8000-000000000000",
            "name": "any",
            "version": 1,
            "roots": "[]",
        },
    ),
    "RETRY": (
        reopens.RETRY,
        {
            "seen": None,
            "command": "retry",
            "reopened": "[]",
            "successors": "[]",
            "path": None,
            "input": None,
            "by_itself": 0,
            "awaited": True,
            **_SAID,
        },
    ),
    "DUE": (timers.DUE, {"limit": 10}),
    "BEGIN_UNDO": (halts.BEGIN_UNDO, {"rows": "[]", "after": "", "seen": None, "stamp": None, **_SAID}),
    "BEGIN_UNDO of what has ended": (
        halts.BEGIN_UNDO,
        {"rows": "[]", "after": "succeeded", "seen": None, "stamp": None, **_SAID},
    ),
    "END": (halts.END, {"retry_after": None, "stamp": None}),
    "STALLED": (stalled.STALLED, {"limit": 100}),
    "CANCEL_ORPHANS": (children.CANCEL_ORPHANS, {"limit": 100}),
    "stragglers": (stragglers.OF, {}),
    "UNBEGUN": (
        timers.UNBEGUN,
        {
            "definitions": ["00000000-0000-7000-8000-000000000000"],
            "steps": ["one"],
            "patiences": [1.0],
            "limit": 100,
        },
    ),
}

_FILL_STEPS = """
INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, settled_at, due_at, awaits, wait_name,
                               ready_at)
SELECT gen_random_uuid(), 's' || n % 40, 'default', CASE WHEN n % 40 = 0 THEN 'waiting' ELSE 'succeeded' END, 'q',
       CASE WHEN n % 40 <> 0 THEN now() END, CASE WHEN n % 80 = 0 THEN now() + interval '1 day' END,
       CASE WHEN n % 120 = 0 THEN 'signal' END, CASE WHEN n % 120 = 0 THEN 'paid' END, now()
FROM generate_series(1, :count) AS n
"""
_FILL_SIGNALS = """
INSERT INTO orchestrator.signal (id, tenant, execution_id, name, correlation, payload)
SELECT gen_random_uuid(), 'default', CASE WHEN n % 2 = 0 THEN gen_random_uuid() END, 'paid',
       CASE WHEN n % 2 = 1 THEN 'other-' || n END, '1' FROM generate_series(1, :count) AS n
"""
_FILL_DELIVERIES = """
INSERT INTO orchestrator.signal_delivery (signal_id, execution_id, tenant, path)
SELECT id, coalesce(execution_id, gen_random_uuid()), 'default', 'wait' FROM orchestrator.signal
"""
_FILL_EXECUTIONS = """
INSERT INTO orchestrator.execution (id, tenant, definition_id, definition_name, definition_version, status, input,
                                    input_hash, settled_at)
SELECT gen_random_uuid(), 'default', definition_id, definition_name, 1, 'succeeded', '{}', '', now()
FROM orchestrator.execution, generate_series(1, :count)
WHERE id = CAST(:e AS uuid)
"""


@pytest.fixture(scope="module")
def crowded(ledger: Ledger) -> Begun:
    """An execution among many others, with a body, a wait and a join."""
    body = Step(id="block", kind="block", steps=(Step(id="inner", activity="do"),))
    wait = Step(id="wait", kind="wait", spec={"signal": "paid"})
    join = Step(id="join", activity="do", after=("block", "wait"))
    begun = ledger.begin(ledger.target_of(body, wait, join))
    ledger.wait_for_body(begun, "block", 0)
    parked = ledger.do(parks.park, ledger.claim(begun, "wait"), resume={}, awaits="signal", wait_name="paid", seconds=0)
    assert parked is not None
    for statement in (_FILL_STEPS, _FILL_SIGNALS):
        ledger.sql(statement, count=FILLER)
    ledger.sql(_FILL_DELIVERIES)
    ledger.sql(_FILL_EXECUTIONS, count=FILLER, e=begun.id)
    ledger.sql("ANALYZE")
    return begun


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_of_a_sweep_or_match_reads_a_whole_table(ledger: Ledger, crowded: Begun, name: str) -> None:
    statement, parameters = STATEMENTS[name]
    known = {"execution": crowded.id} if re.search(r":execution\b", statement.text) else {}
    plan = "\n".join(row[0] for row in ledger.sql(f"EXPLAIN {statement.text}", **parameters, **known))
    assert re.findall(r"Seq Scan on (step|signal|signal_delivery|execution)\b", plan) == [], plan


def test_a_whole_table_that_is_read_would_be_told(ledger: Ledger, crowded: Begun) -> None:
    plan = "\n".join(row[0] for row in ledger.sql("EXPLAIN SELECT FROM orchestrator.step WHERE output IS NULL"))
    assert "Seq Scan on step" in plan
    assert crowded.id


def test_a_machine_that_has_lived_for_years_is_asked_by_index_alone(ledger: Ledger, crowded: Begun) -> None:
    """Twenty thousand transitions and events: neither the last outcome nor the inbox is searched for among them."""
    ledger.sql(
        """INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, settled_at, ready_at)
           SELECT :e, n || chr(58) || 'NEXT/verify', 'default', 'succeeded', 'q', now(), now()
           FROM generate_series(1, :count) n""",
        e=crowded.id,
        count=FILLER,
    )
    ledger.sql(
        """INSERT INTO orchestrator.signal (id, tenant, execution_id, name, payload, moves, taken)
           SELECT gen_random_uuid(), 'default', :e, 'NEXT', '1', true, true FROM generate_series(1, :count) n""",
        e=crowded.id,
        count=FILLER,
    )
    ledger.sql("ANALYZE")
    asked: dict[str, tuple[TextClause, dict[str, Any]]] = {
        "step_of_transition": (results.OF_TRANSITIONS, {"ids": ["verify"]}),
        "signal_inbox": (machines.STANDING, {"name": "NEXT", "dedup": "a", "id": None}),
    }
    for index, (statement, parameters) in asked.items():
        explained = ledger.sql(f"EXPLAIN (ANALYZE) {statement.text}", execution=crowded.id, **parameters)
        plan = "\n".join(row[0] for row in explained)
        assert index in plan
        assert max(map(int, re.findall(r"actual time=\S+ rows=(\d+)", plan))) <= 1, plan
        assert "Removed by Filter" not in plan, plan
    assert ledger.do(results.of_transitions, crowded.id, ["verify"])["verify"]["status"] == "succeeded"
