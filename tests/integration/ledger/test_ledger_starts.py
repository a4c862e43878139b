"""Idempotent starts: one key, one execution, whoever starts it, however often, and whatever is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine

from ledger.clients import Client
from ledger.driver import Ledger
from ledger.proxy import COMMIT, Proxy
from ledger.races import race
from orchestrator.engine import start as starting
from orchestrator.engine.start import Options, Started, Target
from orchestrator.errors import IdempotencyConflict, IdempotencyKeyHeld
from orchestrator.ledger import database
from orchestrator.ledger.selection import Selection, selected

START = "INSERT INTO orchestrator.execution"
LINE = {"first": (), "second": ("first",)}


def start(ledger: Ledger, target: Target, key: str | None, value: object = 1) -> Started:
    """Start an execution on an autocommit connection."""
    return ledger.do(start_on, target, key, value)


def start_on(connection: Connection, target: Target, key: str | None, value: object = 1) -> Started:
    return starting.insert(connection, target, [starting.prepare(target, value, Options(idempotency_key=key), 1_000)])[
        0
    ]


def executions(ledger: Ledger, target: Target) -> list[str]:
    with ledger.engine.connect() as connection:
        found = selected(connection, Selection(tenant="default", name=target.graph.name), limit=2_000)
        return [str(row["id"]) for row in found]


@pytest.mark.parametrize("starters", range(2, 9))
def test_concurrent_starts_with_one_key_give_one_execution(ledger: Ledger, starters: int) -> None:
    target = ledger.target(LINE)
    for key in ("a", "b", "c"):
        started = race([lambda key=key: start(ledger, target, key)] * starters)  # type: ignore[misc]
        assert len({found.execution_id for found in started}) == 1
        assert [found.created for found in started].count(True) == 1
    assert len(executions(ledger, target)) == 3


@pytest.mark.parametrize("commits", [True, False])
def test_a_start_waits_for_an_open_transaction_with_its_key(ledger: Ledger, commits: bool) -> None:
    target = ledger.target(LINE)
    with ledger.open() as first:
        before = start_on(first, target, "key")
        with ledger.behind(lambda connection: start_on(connection, target, "key")) as second:
            second.until_blocked()
            if commits:
                first.commit()
            else:
                first.rollback()
            found = second.result()
    assert (found.execution_id == before.execution_id) == commits
    assert found.created != commits
    assert executions(ledger, target) == [found.execution_id]


def test_a_key_held_beyond_the_lock_timeout_is_said_to_be_held(ledger: Ledger, ledger_url: str) -> None:
    target = ledger.target(LINE)
    impatient = database.connect(ledger_url, pool_size=1, lock_timeout=0.1)
    with ledger.open() as holder:
        start_on(holder, target, "key")
        with impatient.connect() as connection, pytest.raises(IdempotencyKeyHeld):
            start_on(connection, target, "key")
    impatient.dispose()
    assert start(ledger, target, "key").created


def test_one_key_with_two_inputs_is_a_conflict_that_names_the_execution(ledger: Ledger) -> None:
    target = ledger.target(LINE)
    holder = start(ledger, target, "key", {"a": 1, "b": 2})
    assert start(ledger, target, "key", {"b": 2, "a": 1}).execution_id == holder.execution_id
    with pytest.raises(IdempotencyConflict) as conflict:
        start(ledger, target, "key", {"a": 2})
    assert (conflict.value.execution_id, conflict.value.key) == (holder.execution_id, "key")


def test_racing_starts_with_two_inputs_agree_on_the_winner(ledger: Ledger) -> None:
    target = ledger.target(LINE)

    def attempt(value: int) -> str:
        try:
            return start(ledger, target, "key", value).execution_id
        except IdempotencyConflict as conflict:
            return conflict.execution_id

    found = race([lambda value=value: attempt(value) for value in (1, 2, 1, 2, 1, 2)])  # type: ignore[misc]
    assert [*set(found)] == executions(ledger, target)


def test_equal_keys_of_other_definitions_are_other_keys(ledger: Ledger) -> None:
    one, two = ledger.target(LINE), ledger.target(LINE)
    assert start(ledger, one, "key").created
    assert start(ledger, two, "key").created


@pytest.mark.parametrize("width", [40, starting.CHUNK + 100])
def test_bulk_starts_with_the_same_keys_in_opposite_orders_do_not_deadlock(ledger: Ledger, width: int) -> None:
    target = ledger.target({"only": ()})
    # Upper and lower case: the database and Python must agree on the order.
    keys = [f"{'kK'[number % 2]}{number:04}" for number in range(width)]

    def bulk(chosen: list[str]) -> dict[str, str]:
        news = [starting.prepare(target, 1, Options(idempotency_key=key), 1_000) for key in chosen]
        # Without `persist`: a deadlock would be raised, not retried.
        with database.transaction(ledger.engine) as connection:
            return dict(zip(chosen, (s.execution_id for s in starting.insert(connection, target, news)), strict=True))

    overlap = width // 4
    found = race([lambda: bulk(keys[:-overlap]), lambda: bulk(keys[:overlap:-1]), lambda: bulk(keys[::-1])])
    for key in keys:
        assert len({started[key] for started in found if key in started}) == 1
    assert len(executions(ledger, target)) == width


def test_a_bulk_start_may_name_a_key_twice(ledger: Ledger, client: Callable[[Engine], Client]) -> None:
    target = ledger.target(LINE)
    started = client(ledger.engine).start_many(target.graph.name, [("key", 1), (None, 1), ("key", 1), (None, 1)])
    assert [handle.created for handle in started] == [True, True, False, True]
    assert started[0].id == started[2].id
    assert len(executions(ledger, target)) == 3


def test_a_bulk_start_with_a_conflict_starts_nothing(ledger: Ledger, client: Callable[[Engine], Client]) -> None:
    target = ledger.target(LINE)
    start(ledger, target, "key", 1)
    with pytest.raises(IdempotencyConflict):
        client(ledger.engine).start_many(target.graph.name, [("other", 1), ("key", 2)])
    assert len(executions(ledger, target)) == 1


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize("fault", [Proxy.lose_reply, Proxy.lose_statement, Proxy.delay])
def test_a_start_survives_a_lost_connection_and_knows_its_own_execution(
    ledger: Ledger, proxy: Proxy, distant: Client, key: str | None, fault: Callable[[Proxy, str], None]
) -> None:
    target = ledger.target(LINE)
    fault(proxy, START)
    handle = distant.start(target.graph.name, {"a": 1}, idempotency_key=key)
    if fault is Proxy.delay:
        proxy.deliver()
    assert handle.created
    assert proxy.pending == 0
    assert executions(ledger, target) == [handle.id]
    assert [(row["type"], row["path"]) for row in handle.events()] == [
        ("execution_running", None),
        ("step_ready", "first"),
    ]


def test_a_bulk_start_survives_the_loss_of_its_commits_reply(ledger: Ledger, proxy: Proxy, distant: Client) -> None:
    target = ledger.target(LINE)
    proxy.lose_reply(COMMIT)
    started = distant.start_many(target.graph.name, [("one", 1), (None, 2), ("two", 3)])
    assert proxy.pending == 0
    assert [handle.created for handle in started] == [True, True, True]
    assert sorted(executions(ledger, target)) == sorted(handle.id for handle in started)
