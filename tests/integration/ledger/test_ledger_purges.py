"""Executions that ended long ago go with all that is about them; keys stay, and whoever is quicker wins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.driver import Ledger
from ledger.races import race
from orchestrator import ControlRefused, IdempotencyConflict, Orchestrator, ResultPurged, step, workflow
from orchestrator.ledger import definitions, histories, purges
from orchestrator.ledger.purges import Purge

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=1)
NOTHING_LEFT = ("step", "event", "signal", "signal_delivery", "side_effect", "attempt_log", "incident_subject")

plain = workflow("plain-purge", step("only", "transform", {"value": 1}))


@pytest.fixture(scope="module")
def orchestrator(ledger_url: str) -> Any:
    found = Orchestrator(database_url=ledger_url, broker_url="memory://", pool_size=4)
    with found.core.database.connect() as connection:
        definitions.publish(connection, "default", plain.definition)
    yield found
    found.core.database.dispose()


def ended(orchestrator: Orchestrator, ledger: Ledger, key: str | None = None, value: Any = None, **changes: Any) -> str:
    """The id of an execution that has ended, with something in every table."""
    handle = orchestrator.start("plain-purge", {} if value is None else value, idempotency_key=key)
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'skipped', settled_at = now() WHERE execution_id = :id", id=handle.id
    )
    settings = {"status": "failed", "settled_at": LONG_AGO, "retry_at": None} | changes
    if settings["status"] == "failed":
        ledger.sql("UPDATE orchestrator.execution SET status = 'failing' WHERE id = :id", id=handle.id)
    assigned = ", ".join(f"{name} = :{name}" for name in settings)
    ledger.sql(f"UPDATE orchestrator.execution SET {assigned} WHERE id = :id", id=handle.id, **settings)
    for table, columns, values in (
        ("side_effect", "execution_id, tenant, path, name, value", ":id, 'default', 'a', 'b', '1'"),
        ("signal_delivery", "signal_id, execution_id, tenant, path", ":id, :id, 'default', 'a'"),
        ("signal", "id, tenant, execution_id, name, payload", ":id, 'default', :id, 'go', '1'"),
    ):
        statement = f"INSERT INTO orchestrator.{table} ({columns}) VALUES ({values})"
        ledger.sql(statement, id=handle.id)
    return handle.id


def left(ledger: Ledger, execution: str) -> dict[str, int]:
    """Rows about an execution, by table."""
    found = {}
    for table in NOTHING_LEFT:
        rows = ledger.sql(f"SELECT count(*) FROM orchestrator.{table} WHERE execution_id = :id", id=execution)
        found[table] = rows[0][0]
    return {table: count for table, count in found.items() if count}


def purge(ledger: Ledger, before: datetime = LATER, batch: int = 100, **which: Any) -> int:
    return ledger.do(purges.purge, Purge(before=before, **which), batch)


@pytest.fixture(autouse=True)
def _empty(ledger: Ledger) -> None:
    for table in (*NOTHING_LEFT, "execution"):
        ledger.sql(f"DELETE FROM orchestrator.{table}")


def test_an_execution_goes_wholly_and_a_key_leaves_the_row(orchestrator: Orchestrator, ledger: Ledger) -> None:
    gone, kept = ended(orchestrator, ledger), ended(orchestrator, ledger, "order-7", {"n": 1})
    assert left(ledger, gone)
    assert ledger.do(purges.counted, Purge(before=LATER)) == [("plain-purge", "failed", 2)]
    assert purge(ledger) == 2
    assert (left(ledger, gone), left(ledger, kept)) == ({}, {})
    assert ledger.sql("SELECT CAST(id AS text), input FROM orchestrator.execution") == [(kept, None)]
    assert purge(ledger) == 0
    again = orchestrator.start("plain-purge", {"n": 1}, idempotency_key="order-7")
    assert (again.id, again.created) == (kept, False)
    assert again.status() == "failed"
    with pytest.raises(ResultPurged, match=f"{kept} ended failed, and its result was purged on"):
        again.result(0)
    with pytest.raises(IdempotencyConflict):
        orchestrator.start("plain-purge", {"n": 2}, idempotency_key="order-7")
    for command in (orchestrator.retry, orchestrator.compensate):
        with pytest.raises(ControlRefused, match="it was purged"):
            command(kept, actor="ann")
    assert histories.count(orchestrator.core.database, None) == 0, "there is no history left to replay"


def test_what_is_not_meant_stays(orchestrator: Orchestrator, ledger: Ledger) -> None:
    parent = ended(orchestrator, ledger, settled_at=datetime.now(UTC))
    running = orchestrator.start("plain-purge", {}).id
    stay = {
        running,
        parent,
        ended(orchestrator, ledger, retry_at=LATER),
        # Whether it is to be retried or not: that is for its parent to say.
        ended(orchestrator, ledger, parent_id=parent, parent_path="a", retry_at=LATER),
        ended(orchestrator, ledger, tenant="other"),
        ended(orchestrator, ledger, status="succeeded"),
    }
    busy = ended(orchestrator, ledger)
    ledger.sql("UPDATE orchestrator.execution SET parent_id = :p, parent_path = 'a' WHERE id = :id", p=busy, id=running)
    goes = ended(orchestrator, ledger)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert purge(ledger, before=yesterday, tenant="default", statuses=["failed"]) == 1
    found = {row[0] for row in ledger.sql("SELECT CAST(id AS text) FROM orchestrator.execution")}
    assert found == stay | {busy}
    assert goes not in found
    # A child goes once its parent may.
    assert purge(ledger, tenant="default", statuses=["failed"]) == 2


def test_of_several_purges_each_takes_its_own(orchestrator: Orchestrator, ledger: Ledger) -> None:
    for number in range(40):
        ended(orchestrator, ledger, f"key-{number}" if number % 2 else None)
    counts = race([lambda: purge(ledger, batch=10)] * 4)
    while count := purge(ledger, batch=10):
        counts.append(count)
    assert sum(counts) == 40
    assert ledger.sql("SELECT count(*) FROM orchestrator.execution WHERE purged_at IS NOT NULL") == [(20,)]


def test_a_start_under_a_key_and_a_purge_of_it_give_one_execution(orchestrator: Orchestrator, ledger: Ledger) -> None:
    for number in range(20):
        kept = ended(orchestrator, ledger, f"order-{number}")
        results = race(
            [
                lambda: str(purge(ledger)),
                *[lambda n=number: orchestrator.start("plain-purge", {}, idempotency_key=f"order-{n}").id] * 3,
            ]
        )
        assert results == ["1", kept, kept, kept]
    assert ledger.sql("SELECT count(*) FROM orchestrator.execution") == [(20,)]


def test_a_retry_and_a_purge_of_an_execution_exclude_each_other(orchestrator: Orchestrator, ledger: Ledger) -> None:
    for number in range(20):
        execution = ended(orchestrator, ledger, f"order-{number}")

        def retry(execution: str = execution) -> int:
            try:
                orchestrator.retry(execution, actor="ann")
            except ControlRefused:
                return 0
            return 1

        purged, retried = race([lambda: purge(ledger), retry])
        assert purged + retried == 1, "one of them wins"
        gone = ledger.sql("SELECT purged_at IS NOT NULL FROM orchestrator.execution WHERE id = :id", id=execution)
        assert gone == [(bool(purged),)]
        ledger.sql("DELETE FROM orchestrator.execution")


def test_a_batch_is_found_by_index_however_many_there_are(orchestrator: Orchestrator, ledger: Ledger) -> None:
    template = ended(orchestrator, ledger)
    columns = "tenant, definition_id, definition_name, definition_version, input_hash"
    ledger.sql(
        f"INSERT INTO orchestrator.execution (id, {columns}, status, input, settled_at) "
        f"SELECT gen_random_uuid(), {columns}, 'failed', '1', now() - n * interval '1 minute' "
        "FROM orchestrator.execution, generate_series(1, 20000) n WHERE id = :id",
        id=template,
    )
    ledger.sql("ANALYZE orchestrator.execution")
    parameters = {**Purge(before=datetime.now(UTC) - timedelta(days=13)).parameters(), "batch": 100}
    plan = "\n".join(row[0] for row in ledger.sql(f"EXPLAIN {purges.PURGE.text}", **parameters))
    assert "execution_settled" in plan
    assert "Seq Scan on execution x" not in plan
