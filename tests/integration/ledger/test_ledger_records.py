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


def node(ledger: Ledger, children: tuple[int, ...]) -> str:
    """Register a living node, whose main process is 100."""
    boot = f"records{next(_keys)}"
    ledger.do(owners.register, boot, tenant="default", name=boot, queues=[], children=children, pid=100)
    return boot


def taken(ledger: Ledger, owner: str, *, seconds_ago: float = 6) -> Key:
    """A key that an owner has taken so long ago."""
    key = Key(tenant="default", scope="task", key=f"key-{next(_keys)}")
    assert take(ledger, key, owner) == 1
    ledger.sql(
        "UPDATE orchestrator.idempotency_record SET started_at = started_at - CAST(:s AS float8) * interval '1 s' "
        "WHERE key = :k",
        s=seconds_ago,
        k=key.key,
    )
    return key


def released(ledger: Ledger, **keys: Key) -> set[str]:
    """Which of the keys can be taken."""
    return {name for name, key in keys.items() if take(ledger, key, OTHER) is not None}


def test_what_a_child_has_taken_that_its_living_node_lists_no_more_is_released_once_it_is_old(ledger: Ledger) -> None:
    """Its parent had no database to release it in, or the take was in its commit when the child was killed."""
    boot, threads = node(ledger, (1, 2)), node(ledger, ())
    keys = {
        "lost": taken(ledger, f"{boot}.3"),
        "lost thread": taken(ledger, f"{boot}.3-77"),
        "new": taken(ledger, f"{boot}.3", seconds_ago=4),
        "child": taken(ledger, f"{boot}.1"),
        "child's thread": taken(ledger, f"{boot}.1-77"),
        "main": taken(ledger, f"{boot}.100"),
        "main's thread": taken(ledger, f"{boot}.100-3"),
        "pool of threads": taken(ledger, f"{threads}.3-77"),
        "no worker": taken(ledger, "script.3"),
    }
    race([lambda: ledger.do(owners.release_gone)] * 4)
    assert released(ledger, **keys) == {"lost", "lost thread"}


def test_a_take_in_its_commit_is_not_seen_by_its_childs_release_and_found_by_the_next_sweep(ledger: Ledger) -> None:
    boot = node(ledger, (1,))
    key = Key(tenant="default", scope="task", key=f"key-{next(_keys)}")
    with ledger.open() as last:
        assert records.take(last, key, input_hash="hash", owner=f"{boot}.3") == 1
        ledger.do(owners.release, f"{boot}.3", whole=True)
        last.commit()
    assert take(ledger, key, OTHER) is None
    ledger.do(owners.release_gone)
    assert take(ledger, key, OTHER) is None, "it might be a child so new that no heartbeat has listed it"
    ledger.sql("UPDATE orchestrator.worker SET seen = seen + interval '6 s' WHERE boot_id = :b", b=boot)
    ledger.do(owners.release_gone)
    assert take(ledger, key, OTHER) == 2


def test_a_settle_in_its_commit_is_waited_for_by_the_sweep_and_kept(ledger: Ledger) -> None:
    boot = node(ledger, (1,))
    key = taken(ledger, f"{boot}.3")
    with ledger.open() as last:
        assert records.settle(last, key, attempt=1, owner=f"{boot}.3", output='"done"')
        with ledger.behind(owners.release_gone) as releasing:
            releasing.until_blocked()
            last.commit()
            assert releasing.result() == []
    found = ledger.do(records.read, key)
    assert found is not None
    assert (found.status, found.output) == ("succeeded", "done")


def test_a_key_that_was_taken_anew_while_a_sweep_waited_for_it_stays_with_its_new_owner(ledger: Ledger) -> None:
    boot = node(ledger, (1,))
    key = taken(ledger, f"{boot}.3")
    with ledger.open() as other:
        assert records.give_back(other, key, attempt=1, owner=f"{boot}.3")
        assert records.take(other, key, input_hash="hash", owner=f"{boot}.4") == 2
        with ledger.behind(owners.release_gone) as releasing:
            releasing.until_blocked()
            other.commit()
            releasing.result()
    found = ledger.do(records.read, key)
    assert found is not None
    assert (found.status, found.owner, found.attempt) == ("running", f"{boot}.4", 2)


@pytest.mark.parametrize(("whole", "expected"), [(True, {"process", "thread"}), (False, {"process"})])
def test_with_a_process_that_has_ended_its_threads_keys_are_released_and_with_a_thread_only_its_own(
    ledger: Ledger, whole: bool, expected: set[str]
) -> None:
    boot = f"whole_%{next(_keys)}"
    keys = {
        "process": taken(ledger, f"{boot}.3"),
        "thread": taken(ledger, f"{boot}.3-140000000000000"),
        "longer": taken(ledger, f"{boot}.31"),
        "longer thread": taken(ledger, f"{boot}.31-3"),
        "shorter": taken(ledger, f"{boot}."),
        "alike": taken(ledger, f"{boot.replace('_', 'x').replace('%', 'y')}.3-1"),
    }
    ledger.do(owners.release, f"{boot}.3", whole=whole)
    assert released(ledger, **keys) == expected
