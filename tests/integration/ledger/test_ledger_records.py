"""The guard of plain tasks: one key, one owner at a time, one result."""

from __future__ import annotations

from itertools import count

import pytest

from ledger.driver import OTHER, OWNER, Ledger
from ledger.races import race
from orchestrator.ledger import owners, records
from orchestrator.ledger.records import Key

_keys = count(1)


@pytest.fixture
def key() -> Key:
    """A key never used before."""
    return Key(tenant="default", scope="task", key=f"key-{next(_keys)}")


def take(ledger: Ledger, key: Key, owner: str = OWNER, input_hash: str = "hash") -> int | None:
    return ledger.do(records.take, key, input_hash=input_hash, owner=owner)


def settle(ledger: Ledger, key: Key, attempt: int, owner: str = OWNER) -> bool:
    return ledger.do(records.settle, key, attempt=attempt, owner=owner, output='"done"')


def test_of_many_that_take_a_key_one_does(ledger: Ledger, key: Key) -> None:
    taken = race([lambda n=n: take(ledger, key, f"boot-{n}.1") for n in range(8)])  # type: ignore[misc]
    assert sorted(taken, key=str) == [1] + [None] * 7
    winner = ledger.do(records.read, key)
    assert winner is not None
    assert (winner.status, winner.owner) == ("running", f"boot-{taken.index(1)}.1")


def test_a_key_that_was_given_back_is_taken_by_one_of_many(ledger: Ledger, key: Key) -> None:
    assert take(ledger, key) == 1
    assert ledger.do(records.give_back, key, attempt=1, owner=OWNER)
    taken = race([lambda n=n: take(ledger, key, f"boot-{n}.1") for n in range(8)])  # type: ignore[misc]
    assert sorted(taken, key=str) == [2] + [None] * 7


def test_a_settled_key_keeps_its_first_result_for_ever(ledger: Ledger, key: Key) -> None:
    assert take(ledger, key) == 1
    assert settle(ledger, key, 1)
    assert not settle(ledger, key, 1)
    assert not ledger.do(records.give_back, key, attempt=1, owner=OWNER)
    ledger.do(owners.release, OWNER)
    assert take(ledger, key, OTHER) is None
    found = ledger.do(records.read, key)
    assert found is not None
    assert (found.status, found.output, found.owner) == ("succeeded", "done", None)


def test_a_key_is_not_taken_with_another_input(ledger: Ledger, key: Key) -> None:
    assert take(ledger, key) == 1
    assert ledger.do(records.give_back, key, attempt=1, owner=OWNER)
    assert take(ledger, key, input_hash="other") is None
    assert take(ledger, key) == 2


def test_a_late_owner_neither_settles_nor_gives_back_what_was_released(ledger: Ledger, key: Key) -> None:
    assert take(ledger, key) == 1
    ledger.do(owners.release, OWNER)
    assert not settle(ledger, key, 1), "released"
    assert take(ledger, key, OTHER) == 2
    assert not settle(ledger, key, 1), "taken by another"
    assert not ledger.do(records.give_back, key, attempt=1, owner=OWNER)
    assert settle(ledger, key, 2, OTHER)


def test_a_gone_nodes_keys_are_released_and_a_living_ones_are_not(ledger: Ledger, key: Key) -> None:
    for boot in ("gone", "living"):
        ledger.do(owners.register, boot, tenant="default", name=boot, queues=[], children=[], pid=1)
    other = Key(tenant="default", scope="task", key=f"key-{next(_keys)}")
    assert (take(ledger, key, "gone.1"), take(ledger, other, "living.1")) == (1, 1)
    ledger.do(owners.stop, "gone")
    ledger.do(owners.release_gone)
    assert (take(ledger, key, OTHER), take(ledger, other, OTHER)) == (2, None)
