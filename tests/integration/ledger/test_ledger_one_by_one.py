"""Sweeps over many executions, of which one cannot be worked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from ledger.clients import Client
from ledger.driver import Begun, Ledger
from orchestrator.dispatch.publish import Planned
from orchestrator.engine import mend, overdue
from orchestrator.ledger import database, failures
from orchestrator.model.definition import Step
from orchestrator.recovery import deadlines, due, overtaken, stalled
from orchestrator.recovery.sweep import Context, Sweep

ERROR = '{"category": "system", "name": "Late", "message": ""}'


@pytest.fixture(autouse=True)
def alone(ledger: Ledger) -> None:
    """Nothing of other tests is left to sweep."""
    for table in ("step", "execution"):
        ledger.sql(f"DELETE FROM orchestrator.{table}")


@pytest.fixture
def sweeper(ledger: Ledger, client: Callable[[Engine], Client]) -> Client:
    """Whoever sweeps; it has read no definition yet."""
    return client(ledger.engine)


@pytest.fixture
def published(sweeper: Client, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Executions of which something was published."""
    found: set[str] = set()
    publish = sweeper.core.publisher.publish

    def note(planned: Sequence[Planned]) -> None:
        found.update(each for one in planned for each in one.execution_ids)
        publish(planned)

    monkeypatch.setattr(sweeper.core.publisher, "publish", note)
    return found


def carry_out(sweeper: Client, sweep: Sweep) -> Any:
    with sweeper.core.database.connect() as connection:
        return sweep.sweep(Context(core=sweeper.core, connection=connection, observer="observer"))


def of_a_newer_release(ledger: Ledger, begun: Begun) -> Begun:
    """Its definition says what this release does not know."""
    ledger.sql(
        "UPDATE orchestrator.definition SET spec = spec || '{\"unheard_of\": 1}' "
        "WHERE id = (SELECT definition_id FROM orchestrator.execution WHERE id = :id)",
        id=begun.id,
    )
    return begun


def retrying(ledger: Ledger) -> Begun:
    begun = ledger.start({"one": ()})
    assert ledger.do(failures.settle_retry, ledger.claim(begun, "one"), ERROR, delay=0)
    return begun


def test_a_definition_that_cannot_be_read_keeps_no_other_retry_waiting(
    ledger: Ledger, sweeper: Client, published: set[str]
) -> None:
    # The first is found first.
    unreadable, other = of_a_newer_release(ledger, retrying(ledger)), retrying(ledger)
    with pytest.raises(ValidationError):
        carry_out(sweeper, due.SWEEP)
    assert published == {other.id}
    assert ledger.step(unreadable, "one").status == "ready"


def test_nor_does_it_keep_what_is_overdue_waiting(ledger: Ledger, sweeper: Client) -> None:
    unreadable, other = of_a_newer_release(ledger, ledger.start({"one": ()})), ledger.start({"one": ()})
    for begun in (unreadable, other):
        ledger.claim(begun, "one")
        ledger.sql("UPDATE orchestrator.step SET due_at = now() - interval '1 h' WHERE execution_id = :id", id=begun.id)
    with pytest.raises(ValidationError):
        carry_out(sweeper, deadlines.SWEEP)
    assert ledger.step(unreadable, "one").status == "running"
    assert ledger.step(other, "one").status == "retrying"


def test_a_claim_made_to_end_a_step_that_nobody_begins_is_no_claim_for_good(
    ledger: Ledger, sweeper: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = ledger.begin(ledger.target_of(Step(id="one", activity="do", start_timeout=1)))
    ledger.age(begun, "ready_at", 60)
    fail = mend.fail_attempt

    def lose_the_connection(core: Any, connection: Connection, *args: Any, **options: Any) -> None:
        monkeypatch.setattr(overdue, "fail_attempt", fail)
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(overdue, "fail_attempt", lose_the_connection)
    with pytest.raises(DBAPIError) as lost:
        carry_out(sweeper, deadlines.SWEEP)
    assert database.is_lost(lost.value)
    assert ledger.step(begun, "one").status == "running"
    ledger.age(begun, "due_at", overdue.CLAIMED + overdue.GRACE)
    carry_out(sweeper, deadlines.SWEEP)
    assert ledger.step(begun, "one").status == "retrying"


def test_steps_that_may_wait_keep_none_waiting_that_must_begin_in_time(
    ledger: Ledger, sweeper: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "LIMIT", 2)
    hasty = Step(id="hasty", activity="do", start_timeout=1)
    target = ledger.target_of(
        Step(id="idle", activity="do"), Step(id="patient", activity="do", start_timeout=3600), hasty
    )
    begun = [ledger.begin(target) for _ in range(3)]
    within = ledger.begin(ledger.target_of(Step(id="block", kind="block", steps=(hasty,))))
    ledger.wait_for_body(within, "block", 0)
    for each in (*begun, within):
        ledger.age(each, "ready_at", 60)
    ledger.sql("UPDATE orchestrator.step SET ready_at = ready_at - interval '60 s' WHERE path IN ('idle', 'patient')")
    for _ in range(2):
        carry_out(sweeper, deadlines.SWEEP)
    found = [ledger.step(each, "hasty").status for each in begun] + [ledger.step(within, "block[0].hasty").status]
    assert found == ["failed"] * 4
    assert {ledger.step(each, path).status for each in begun for path in ("idle", "patient")} == {"cancelled"}


def test_sweeps_of_what_nothing_is_wrong_with_raise_nothing(ledger: Ledger, sweeper: Client) -> None:
    ledger.start({"one": ()})
    assert [carry_out(sweeper, each.SWEEP) for each in (due, deadlines, overtaken, stalled)] == [0, 0, 0, 0]
