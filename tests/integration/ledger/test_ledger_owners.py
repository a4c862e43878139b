"""Nodes: who may bury whom, and what becomes of a dead owner's claims."""

from __future__ import annotations

from itertools import count
from typing import Final

from ledger.driver import OTHER, QUEUE, Ledger
from ledger.races import race
from orchestrator.ledger import claims, owners

#: Seconds of silence that mean death, and of a gap in a node's heartbeats.
SILENCE, GAP = 10.0, 4.0
PID: Final = 100

_boots = count(1)


def node(ledger: Ledger, *, silent: float = 0, alive: float = 0, children: tuple[int, ...] = ()) -> str:
    """Register a node that was last heard `silent` seconds ago and has been alive for `alive` seconds."""
    boot = f"node{next(_boots)}"
    ledger.do(owners.register, boot, tenant="default", name=boot, queues=[QUEUE], children=children, pid=PID)
    ledger.sql(
        "UPDATE orchestrator.worker SET seen = seen - CAST(:s AS float8) * interval '1 s', "
        "started_at = started_at - CAST(:a AS float8) * interval '1 s', "
        "alive_since = alive_since - CAST(:a AS float8) * interval '1 s' WHERE boot_id = :b",
        b=boot,
        s=silent,
        a=alive,
    )
    return boot


def beat(ledger: Ledger, boot: str, children: tuple[int, ...] = ()) -> bool:
    """Whether it lives still."""
    drains = ledger.do(owners.beat, boot, children=children, queues=[QUEUE], gap=GAP)
    return drains is not None


def bury(ledger: Ledger, observer: str) -> list[tuple[str, str]]:
    return ledger.do(owners.bury, observer, SILENCE)


def test_a_silent_node_is_buried_once_by_an_observer_that_was_heard_all_that_time(ledger: Ledger) -> None:
    observer, silent, living = node(ledger, alive=11), node(ledger, silent=11, alive=60), node(ledger, alive=60)
    assert sorted(race([lambda: bury(ledger, observer)] * 4)) == [[], [], [], [(silent, silent)]]
    assert beat(ledger, living)


def test_a_buried_node_is_told_so_by_its_heartbeat(ledger: Ledger) -> None:
    observer, silent = node(ledger, alive=11), node(ledger, silent=11)
    assert bury(ledger, observer) == [(silent, silent)]
    assert not beat(ledger, silent)
    assert bury(ledger, silent) == []
    assert beat(ledger, observer)


def test_a_new_node_buries_nobody(ledger: Ledger) -> None:
    observer, silent = node(ledger, alive=9), node(ledger, silent=60)
    assert bury(ledger, observer) == []
    assert bury(ledger, "never-registered") == []
    assert beat(ledger, silent)


def test_after_an_outage_of_the_database_the_first_node_back_buries_nobody(ledger: Ledger) -> None:
    first, second = node(ledger, silent=60, alive=600), node(ledger, silent=60, alive=600)
    assert bury(ledger, first) == [], "an observer that was silent itself"
    assert beat(ledger, first)
    assert bury(ledger, first) == [], "its silence ended only now"
    assert beat(ledger, second)


def test_a_heartbeat_in_time_keeps_the_time_since_which_a_node_is_alive(ledger: Ledger) -> None:
    observer, silent = node(ledger, silent=3, alive=11), node(ledger, silent=11)
    assert beat(ledger, observer)
    assert bury(ledger, observer) == [(silent, silent)]


def test_a_node_that_beats_while_it_is_buried_is_either_alive_or_told(ledger: Ledger) -> None:
    for _ in range(10):
        observer, silent = node(ledger, alive=11), node(ledger, silent=11)
        buried, beaten = race([lambda o=observer: bool(bury(ledger, o)), lambda s=silent: beat(ledger, s)])  # type: ignore[misc]
        assert buried != beaten


def test_a_released_step_goes_to_another_under_a_higher_attempt(ledger: Ledger) -> None:
    begun, kept = ledger.start({"one": (), "two": ()}), ledger.start({"one": ()})
    late = ledger.claim(begun, "one", "dead.1")
    ledger.claim(kept, "one", "dead.10")
    found = race([lambda: ledger.do(owners.release, "dead.1")] * 4)
    assert [(r.execution_id, r.path, r.status) for released in found for r in released] == [(begun.id, "one", "ready")]
    assert ledger.step(kept, "one").status == "running"
    assert ledger.claim(begun, "one", OTHER).attempt == 2
    assert ledger.do(claims.settle_and_finish, late, "1", result="1") is None
    assert ("step_released", "one", 1) in ledger.events(begun)


def test_a_release_waits_for_the_dead_owners_last_statement_and_the_second_sees_what_it_claimed(
    ledger: Ledger,
) -> None:
    begun = ledger.start({"one": (), "two": ("one",)})
    held = ledger.claim(begun, "one", "dead.2")
    with ledger.open() as last:
        claims.settle_and_claim(last, held, "1", following="two", queue=QUEUE, transactional=False, timeout=None)
        with ledger.behind(lambda connection: owners.release(connection, "dead.2")) as releasing:
            releasing.until_blocked()
            last.commit()
            assert releasing.result() == []
    assert [found.path for found in ledger.do(owners.release, "dead.2")] == ["two"]


def test_what_gone_nodes_hold_is_released_and_what_living_ones_hold_is_not(ledger: Ledger) -> None:
    begun = ledger.start({"buried": (), "stopped": (), "living": (), "parent": ()})
    observer = node(ledger, alive=11, children=(1,))
    buried, stopped = node(ledger, silent=11), node(ledger)
    for path, boot in (("buried", buried), ("stopped", stopped), ("living", observer)):
        ledger.claim(begun, path, f"{boot}.1")
    ledger.claim(begun, "parent", f"{observer}.{PID}-77")
    ledger.do(owners.release_gone)
    assert set(ledger.statuses(begun).values()) == {"running"}
    assert bury(ledger, observer) == [(buried, buried)]
    ledger.do(owners.stop, stopped)
    race([lambda: ledger.do(owners.release_gone)] * 3)
    assert ledger.statuses(begun) == {"buried": "ready", "stopped": "ready", "living": "running", "parent": "running"}


def test_what_a_child_holds_that_its_living_node_lists_no_more_is_released_once_it_is_old(ledger: Ledger) -> None:
    begun = ledger.start({"lost": (), "new": ()})
    boot = node(ledger, alive=60, children=(1, 2))
    for path in ("lost", "new"):
        ledger.claim(begun, path, f"{boot}.3")
    ledger.sql(
        "UPDATE orchestrator.step SET started_at = started_at - interval '6 s' "
        "WHERE execution_id = :e AND path = 'lost'",
        e=begun.id,
    )
    released = ledger.do(owners.release_gone)
    assert [(found.execution_id, found.path) for found in released] == [(begun.id, "lost")]
    assert ledger.step(begun, "new").status == "running"
