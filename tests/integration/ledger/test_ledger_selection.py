"""Which executions a selection means, page by page, while others start and change."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from ledger.driver import TENANT, Ledger
from orchestrator.engine.start import Options, Target
from orchestrator.ledger import selection
from orchestrator.ledger.selection import PAGE, Selection, selected

#: More than two pages.
MANY = 2 * PAGE + 10

_COPIES = """
INSERT INTO orchestrator.execution (id, tenant, definition_id, definition_name, definition_version, status, input,
                                    input_hash, settled_at)
SELECT gen_random_uuid(), 'default', definition_id, :name, 1, :status, '{}', '', :settled
FROM orchestrator.execution, generate_series(1, :count) WHERE id = CAST(:e AS uuid)
"""


@pytest.fixture(scope="module")
def target(ledger: Ledger) -> Target:
    return ledger.target({"a": []})


@pytest.fixture(scope="module")
def crowd(ledger: Ledger, target: Target) -> list[str]:
    """Ids of many running executions of the definition `crowd`, newest first."""
    first = ledger.begin(target)
    ledger.sql(_COPIES, name="crowd", status="running", settled=None, count=MANY, e=first.id)
    rows = ledger.sql("SELECT id FROM orchestrator.execution WHERE definition_name = 'crowd' ORDER BY id DESC")
    return [str(row[0]) for row in rows]


def ids(ledger: Ledger, limit: int | None = None, tenant: str = TENANT, **meant: Any) -> list[str]:
    with ledger.engine.connect() as connection:
        found = selected(connection, Selection(tenant=tenant, **meant), limit=limit)
        return [str(row["id"]) for row in found]


@pytest.mark.parametrize("limit", [None, 1, PAGE, PAGE + 1, MANY, MANY + 1])
def test_each_is_met_once_and_the_newest_first_however_many_pages_there_are(
    ledger: Ledger, crowd: list[str], limit: int | None
) -> None:
    assert len(crowd) == MANY
    assert ids(ledger, limit, name="crowd") == crowd[:limit]


def test_those_that_change_or_start_between_two_pages_move_no_page(ledger: Ledger, crowd: list[str]) -> None:
    with ledger.open() as connection:
        met = []
        for row in selected(connection, Selection(tenant=TENANT, name="crowd", statuses=("running",))):
            met.append(str(row["id"]))
            if len(met) == PAGE:
                connection.execute(
                    text(
                        "UPDATE orchestrator.execution SET status = 'cancelling' WHERE id = ANY(CAST(:ids AS uuid[]))"
                    ),
                    {"ids": met},
                )
                newer = {"name": "crowd", "status": "running", "settled": None, "count": 1, "e": crowd[0]}
                connection.execute(
                    text(_COPIES.replace("gen_random_uuid()", "'ffffffff-ffff-7fff-bfff-ffffffffffff'")), newer
                )
        connection.rollback()
    assert met == crowd


def test_an_execution_is_meant_if_it_has_all_the_labels(ledger: Ledger, target: Target) -> None:
    both = ledger.begin(target, Options(labels={"team": "blue", "region": "eu"})).id
    blue = ledger.begin(target, Options(labels={"team": "blue"})).id
    assert ids(ledger, labels={"team": "blue"}) == [blue, both]
    assert ids(ledger, labels={"team": "blue", "region": "eu"}) == [both]
    assert ids(ledger, labels={"team": "green"}) == []
    assert ids(ledger, labels={"team": "blue"}, tenant="elsewhere") == []


def test_the_age_counts_from_the_start_by_the_database(ledger: Ledger, target: Target) -> None:
    old, young = (ledger.begin(target, Options(labels={"test": "age"})).id for _ in range(2))
    ledger.sql("UPDATE orchestrator.execution SET created_at = now() - interval '2 h' WHERE id = :e", e=old)
    aged: dict[str, Any] = {"labels": {"test": "age"}}
    assert ids(ledger, older_than=3_600, **aged) == [old]
    assert ids(ledger, newer_than=3_600, **aged) == [young]
    assert ids(ledger, older_than=3_600, newer_than=10_800, **aged) == [old]
    assert ids(ledger, older_than=10_800, **aged) == []


def test_those_that_others_wait_for_may_be_left_out(ledger: Ledger, target: Target) -> None:
    parent, child = (ledger.begin(target, Options(labels={"test": "roots"})).id for _ in range(2))
    ledger.sql(
        "UPDATE orchestrator.execution SET parent_id = CAST(:p AS uuid), parent_path = 'a' WHERE id = :e",
        p=parent,
        e=child,
    )
    assert ids(ledger, labels={"test": "roots"}) == [child, parent]
    assert ids(ledger, labels={"test": "roots"}, roots=True) == [parent]


def test_those_that_have_come_to_a_step_may_be_meant_alone(ledger: Ledger, target: Target) -> None:
    here, there = (ledger.begin(target, Options(labels={"test": "step"})).id for _ in range(2))
    (path,) = (row[0] for row in ledger.sql("SELECT path FROM orchestrator.step WHERE execution_id = :e", e=here))
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'skipped', settled_at = now(), ready_xid = NULL WHERE execution_id = :e",
        e=there,
    )
    mine: dict[str, Any] = {"labels": {"test": "step"}}
    assert ids(ledger, step=path, step_statuses=("ready", "waiting"), **mine) == [here]
    assert ids(ledger, step=path, step_statuses=("ready", "skipped"), **mine) == [there, here]
    assert ids(ledger, step="nowhere", step_statuses=("ready", "skipped"), **mine) == []


@pytest.fixture(scope="module")
def history(ledger: Ledger, crowd: list[str]) -> None:
    """Ten times as many that have ended."""
    done = _COPIES.replace(":settled", "now()")
    ledger.sql(done, name="done", status="succeeded", count=10 * MANY, e=crowd[0])
    ledger.sql("ANALYZE orchestrator.execution")


@pytest.mark.parametrize(
    ("meant", "index"),
    [
        ({"name": "rare"}, "execution_by_definition"),
        ({"correlation": "rare"}, "execution_by_correlation"),
        ({"statuses": ["created", "running"]}, "execution_live"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else given,
)
def test_a_page_of_few_among_many_is_read_by_an_index(
    ledger: Ledger, history: None, meant: dict[str, Any], index: str
) -> None:
    names = ("name", "statuses", "correlation", "older_than", "newer_than", "before", "step", "step_statuses")
    given: dict[str, Any] = dict.fromkeys(names) | {"tenant": TENANT, "labels": "{}", "roots": False, "limit": PAGE}
    plan = "\n".join(row[0] for row in ledger.sql(f"EXPLAIN {selection.SELECT.text}", **given | meant))
    assert index in plan
    assert "Seq Scan" not in plan
