"""A guarded call whose connection breaks, or that is broken off: its key goes on, and never to two calls at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from ledger.driver import OTHER, Ledger
from ledger.proxy import Proxy
from orchestrator import Orchestrator, idempotent
from orchestrator.current import set_current
from orchestrator.errors import AttemptInProgress
from orchestrator.ledger import records
from orchestrator.ledger.records import Key
from orchestrator.model.payload import digest
from orchestrator.runtime import idempotent as guard

#: Words that only the statement in question holds.
TAKE, SETTLE = "INSERT INTO orchestrator.idempotency_record", "UPDATE orchestrator.idempotency_record SET status = 'suc"

_keys = count(1)


@pytest.fixture(autouse=True)
def orchestrator(proxy: Proxy, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrator]:
    """The process's orchestrator, whose connections go by way of the proxy."""
    monkeypatch.setattr(guard, "RELEASE_PATIENCE", 0.2)
    made = Orchestrator(database_url=proxy.url, broker_url=broker_url)
    yield made
    set_current(None)
    made.core.database.dispose()


@pytest.fixture
def key() -> Key:
    """A key never used before."""
    return Key(tenant="default", scope="guarded", key=f"call-{next(_keys)}")


@pytest.fixture
def ran() -> list[str]:
    """What the guarded function was called with."""
    return []


def function(ran: list[str], beside: Callable[[str], Any] = lambda _: None) -> Callable[[str], int]:
    """A guarded function that tells how often it was called, and does something else beside."""

    @idempotent(key="{name}", scope="guarded")
    def call(name: str) -> int:
        ran.append(name)
        beside(name)
        return len(ran)

    return call


def standing(ledger: Ledger, key: Key) -> tuple[str, int, Any]:
    found = ledger.do(records.read, key)
    assert found is not None
    return found.status, found.attempt, found.output


def owned(ledger: Ledger, key: Key, owner: str) -> None:
    """Let an owner have taken the key."""
    assert ledger.do(records.take, key, input_hash=digest({"name": key.key}), owner=owner) == 1


def test_a_take_whose_reply_was_lost_is_adopted(ledger: Ledger, proxy: Proxy, key: Key, ran: list[str]) -> None:
    call = function(ran)
    proxy.lose_reply(TAKE)
    assert (call(key.key), call(key.key)) == (1, 1)
    assert proxy.pending == 0
    assert ran == [key.key]
    assert standing(ledger, key) == ("succeeded", 1, 1)


def test_a_take_that_arrives_late_is_adopted_by_the_call_that_was_waiting_for_it(
    ledger: Ledger, proxy: Proxy, key: Key, ran: list[str]
) -> None:
    proxy.delay(TAKE)
    proxy.overtaken(TAKE)
    assert function(ran)(key.key) == 1
    assert ran == [key.key]
    assert standing(ledger, key) == ("succeeded", 1, 1)


def test_a_take_that_never_arrived_is_sent_again(ledger: Ledger, proxy: Proxy, key: Key, ran: list[str]) -> None:
    proxy.lose_statement(TAKE)
    assert function(ran)(key.key) == 1
    assert standing(ledger, key) == ("succeeded", 1, 1)


def test_a_take_that_was_lost_while_another_owner_has_the_key_is_not_made_up(
    ledger: Ledger, proxy: Proxy, key: Key, ran: list[str]
) -> None:
    owned(ledger, key, OTHER)
    proxy.lose_reply(TAKE)
    with pytest.raises(AttemptInProgress):
        function(ran)(key.key)
    assert ran == []
    assert standing(ledger, key) == ("running", 1, None)


@pytest.mark.parametrize("lose", ["lose_reply", "lose_statement", None])
def test_a_call_within_the_call_of_the_same_key_does_not_adopt_it(
    ledger: Ledger, proxy: Proxy, key: Key, ran: list[str], lose: str | None
) -> None:
    refused: list[str] = []

    def once_more(name: str) -> None:
        if lose is not None:
            getattr(proxy, lose)(TAKE)
        for _ in range(2):
            with pytest.raises(AttemptInProgress):
                call(name)
            refused.append(name)

    call = function(ran, once_more)
    assert call(key.key) == 1
    assert (ran, refused) == ([key.key], [key.key] * 2)
    assert standing(ledger, key) == ("succeeded", 1, 1)


def test_a_key_that_a_call_was_broken_off_in_taking_is_adopted_by_the_next(
    ledger: Ledger, orchestrator: Orchestrator, key: Key, ran: list[str]
) -> None:
    owned(ledger, key, orchestrator.worker.node.owner())
    assert function(ran)(key.key) == 1
    assert standing(ledger, key) == ("succeeded", 1, 1)


def test_a_result_that_the_ledger_refuses_gives_the_key_back(ledger: Ledger, key: Key, ran: list[str]) -> None:
    ledger.sql("ALTER TABLE orchestrator.idempotency_record ADD CONSTRAINT no_one CHECK (output <> '1') NOT VALID")
    call = function(ran)
    try:
        with pytest.raises(DBAPIError):
            call(key.key)
        assert standing(ledger, key) == ("ready", 1, None)
        assert call(key.key) == 2
    finally:
        ledger.sql("ALTER TABLE orchestrator.idempotency_record DROP CONSTRAINT no_one")
    assert standing(ledger, key) == ("succeeded", 2, 2)


def test_a_settle_whose_reply_was_lost_is_known_as_done(ledger: Ledger, proxy: Proxy, key: Key, ran: list[str]) -> None:
    proxy.lose_reply(SETTLE)
    assert function(ran)(key.key) == 1
    assert proxy.pending == 0
    assert standing(ledger, key) == ("succeeded", 1, 1)
