"""Who has lost a race and works on: noted, waited for by whatever goes back, and not longer than they live."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Final

import pytest

from ledger.driver import OTHER, QUEUE, Begun, Ledger
from ledger.proxy import Proxy
from ledger.races import race
from orchestrator import Orchestrator
from orchestrator.engine.failure import FAILED
from orchestrator.engine.part import woken_at_once
from orchestrator.engine.spread import bare
from orchestrator.engine.start import Options
from orchestrator.ledger import (
    claims,
    controls,
    database,
    failures,
    halts,
    joins,
    owners,
    parks,
    stalled,
    stragglers,
    undos,
)
from orchestrator.ledger.claims import Claim
from orchestrator.model.definition import Compensation, Step
from orchestrator.model.identity import new_id
from orchestrator.runtime.holding import holding
from orchestrator.runtime.link import Link

UNDO: Final = Compensation(activity="undo")
ERROR: Final = '{"category": "business", "name": "No", "message": "no"}'
INNER: Final = "block["
PID: Final = 100

_boots = count(1)


def graph(*, body: bool = False) -> tuple[Step, ...]:
    """Two branches to a join that needs one of them; in the body of a block, or by themselves."""
    steps = (
        Step(id="fast", activity="do", compensation=UNDO),
        Step(id="slow", activity="do", compensation=UNDO),
        Step(id="join", activity="do", after=("fast", "slow"), join="any"),
    )
    return (Step(id="block", kind="block", steps=steps, on_error="continue"),) if body else steps


def lost(
    ledger: Ledger, *, owner: str = OTHER, timeout: float | None = None, body: bool = False
) -> tuple[Begun, Claim]:
    """An execution whose race is decided while `owner` is at work on the branch that has lost it."""
    begun, within = ledger.begin(ledger.target_of(*graph(body=body))), "block[0]." if body else ""
    if body:
        ledger.wait_for_body(begun, "block", 0)
    taken = ledger.do(claims.claim, begun.id, f"{within}slow", owner=owner, transactional=False, timeout=timeout)
    assert taken is not None
    ledger.succeed(begun, f"{within}fast")
    join = f"{within}join"
    assert ledger.do(joins.join, begun.id, join) == joins.Joined(verdict="ready")
    ledger.do(joins.cancel_losers, begun.id, [f"{within}fast", f"{within}slow"])
    return begun, taken[0]


def noted(ledger: Ledger, begun: Begun) -> list[tuple[str, str, int]]:
    """Who is at work though the step is settled."""
    rows = ledger.sql("SELECT path, owner, attempt FROM orchestrator.straggler WHERE execution_id = :e", e=begun.id)
    return [tuple(row) for row in rows]


def drained(ledger: Ledger) -> tuple[Begun, Claim]:
    """One that is flagged and drained, and only waits for the loser."""
    begun, held = lost(ledger)
    ledger.flag(begun, "failing")
    assert ledger.do(halts.drain, begun.id) == 0
    return begun, held


def begin_undo(ledger: Ledger, begun: Begun) -> bool:
    return ledger.do(halts.begin_undo, begun.id, [("slow", QUEUE), ("fast", QUEUE)])


def settled(ledger: Ledger, held: Claim) -> bool:
    return ledger.do(claims.settle_and_spread, held, "1", successors="[]") is not None


def cancel(ledger: Ledger, begun: Begun) -> bool:
    ledger.do(joins.cancel_losers, begun.id, ["fast", "slow"])
    return True


def ended(ledger: Ledger, held: Claim) -> bool:
    return ledger.do(stragglers.end, held)


def stands_still(ledger: Ledger, begun: Begun) -> bool:
    """Whether the sweep of stalled executions would take it up."""
    ledger.sql("UPDATE orchestrator.execution SET created_at = created_at - interval '1 min' WHERE id = :e", e=begun.id)
    return begun.id in ledger.do(stalled.stalled, 10_000)


def unfinished(ledger: Ledger, begun: Begun) -> bool:
    """Whether the ledger's claims, long after, find the execution without anything to wait for."""
    ledger.sql("UPDATE orchestrator.execution SET created_at = created_at - interval '1 h' WHERE id = :e", e=begun.id)
    ledger.age(begun, "settled_at", 3600)
    return "every execution is final or has an open step" in ledger.violated(begun)


def test_only_who_is_at_work_is_noted(ledger: Ledger) -> None:
    begun, held = lost(ledger)
    assert noted(ledger, begun) == [("slow", OTHER, 1)]
    ledger.do(joins.cancel_losers, begun.id, ["fast", "slow"])
    assert noted(ledger, begun) == [(held.path, held.owner, held.attempt)], "asked for again, as whoever claims does"
    idle = ledger.begin(ledger.target_of(*graph()))
    ledger.succeed(idle, "fast")
    ledger.do(joins.join, idle.id, "join")
    ledger.do(joins.cancel_losers, idle.id, ["fast", "slow"])
    assert ledger.statuses(idle)["slow"] == "cancelled"
    assert noted(ledger, idle) == []


def test_who_settles_while_losers_are_cancelled_is_noted_or_has_won_as_well(ledger: Ledger) -> None:
    late = 0
    for _ in range(20):
        begun = ledger.begin(ledger.target_of(*graph()))
        held = ledger.claim(begun, "slow", OTHER)
        ledger.succeed(begun, "fast")
        ledger.do(joins.join, begun.id, "join")
        settle = partial(settled, ledger, held)
        was_settled, _ = race([settle, partial(cancel, ledger, begun)])
        found = noted(ledger, begun)
        assert (ledger.step(begun, "slow").status, found) == (
            ("succeeded", []) if was_settled else ("cancelled", [("slow", OTHER, 1)])
        )
        late += len(found)
    assert late, "nobody was late"


def test_nothing_is_undone_and_nothing_ends_until_the_loser_has(ledger: Ledger) -> None:
    begun, held = drained(ledger)
    assert not begin_undo(ledger, begun)
    assert ledger.do(halts.end, begun.id) is None
    assert not stands_still(ledger, begun)
    assert not unfinished(ledger, begun)
    assert ledger.do(stragglers.end, held)
    assert not ledger.do(stragglers.end, held), "it is told once"
    assert stands_still(ledger, begun), "whoever told may die before it goes on from there"
    assert unfinished(ledger, begun)
    assert begin_undo(ledger, begun)


def test_an_execution_that_has_succeeded_is_not_taken_back_either(ledger: Ledger) -> None:
    begun, held = lost(ledger)
    join = ledger.claim(begun, "join")
    assert ledger.do(claims.settle_and_finish, join, "1", result="1")
    undo = [("fast", QUEUE)]
    assert not ledger.do(halts.begin_undo, begun.id, undo, after="succeeded")
    assert ledger.do(stragglers.of, begun.id) == [("slow", OTHER)]
    assert ledger.do(stragglers.end, held)
    assert ledger.do(halts.begin_undo, begun.id, undo, after="succeeded")


def test_of_many_ends_and_turns_back_one_begins_the_undo_or_it_is_found(ledger: Ledger) -> None:
    begun_by_itself = 0
    for _ in range(20):
        begun, held = drained(ledger)
        turn = partial(begin_undo, ledger, begun)
        first, told, second = race([turn, partial(ended, ledger, held), turn])
        assert told
        assert first + second <= 1
        begun_by_itself += first + second
        # Whoever has ended the note looks at the flag after.
        assert begin_undo(ledger, begun) == (not first and not second)
    assert begun_by_itself < 20, "nobody was early"


def node(ledger: Ledger, children: tuple[int, ...] = ()) -> str:
    """A node that is heard."""
    boot = f"straggling{next(_boots)}"
    ledger.do(owners.register, boot, tenant="default", name=boot, queues=[QUEUE], children=children, pid=PID)
    return boot


@pytest.mark.parametrize(
    "how", ["lives", "buried", "stopped", "child gone", "child young", "overdue", "in time", "told"]
)
def test_whoever_is_gone_or_past_its_time_is_waited_for_no_longer(ledger: Ledger, how: str) -> None:
    boot = node(ledger, (7,))
    begun, _ = lost(ledger, owner=f"{boot}.{7 if 'child' not in how else 8}", timeout=60 if "time" in how else 1)
    changes = {
        "buried": "UPDATE orchestrator.worker SET buried_at = now() WHERE boot_id = :b",
        "stopped": "UPDATE orchestrator.worker SET stopped_at = now() WHERE boot_id = :b",
        "child gone": "UPDATE orchestrator.straggler SET started_at = started_at - interval '1 min' "
        "WHERE split_part(owner, '.', 1) = :b",
        "told": "INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt) "
        "SELECT execution_id, tenant, 'attempt_fenced', path, attempt FROM orchestrator.straggler "
        "WHERE split_part(owner, '.', 1) = :b",
        "overdue": "UPDATE orchestrator.straggler SET due_at = due_at - interval '1 min' "
        "WHERE split_part(owner, '.', 1) = :b",
    }
    if how in changes:
        ledger.sql(changes[how], b=boot)
    gone = (begun.id, "slow") in ledger.do(stragglers.end_gone)
    assert gone == (how in changes)
    assert noted(ledger, begun) == ([] if gone else [("slow", f"{boot}.{8 if 'child' in how else 7}", 1)])
    lost_by_event = ledger.events(begun, "attempt_lost")
    assert lost_by_event == ([("attempt_lost", "slow", 1)] if gone and how != "told" else [])


def test_of_those_who_are_gone_each_is_told_once(ledger: Ledger) -> None:
    boot = node(ledger)
    begun, _ = lost(ledger, owner=f"{boot}.{PID}")
    ledger.sql("UPDATE orchestrator.worker SET buried_at = now() WHERE boot_id = :b", b=boot)
    told = race([lambda: ledger.do(stragglers.end_gone)] * 4)
    assert [found for each in told for found in each].count((begun.id, "slow")) == 1
    assert len(ledger.events(begun, "attempt_lost")) == 1


def test_an_owner_that_is_released_is_at_work_no_longer(ledger: Ledger) -> None:
    owner = f"{node(ledger)}.{PID}"
    begun, _ = lost(ledger, owner=owner)
    assert ledger.do(owners.release, f"{owner}-1") == []
    assert ledger.do(owners.release, owner) == [
        owners.Released(execution_id=begun.id, path="slow", status=owners.ENDED)
    ]
    assert noted(ledger, begun) == []


def test_who_has_lost_its_reply_and_then_its_race_is_at_work_no_longer(ledger: Ledger, proxy: Proxy) -> None:
    """It finds nothing that it could adopt, and so never says that it was fenced."""
    orchestrator = Orchestrator(database_url=proxy.url, broker_url="redis://127.0.0.1:1/0")
    worker = orchestrator.worker
    begun, _ = lost(ledger, owner=worker.node.owner())
    with holding(worker) as link:
        assert link.call(stragglers.of, begun.id)
    assert noted(ledger, begun), "there was no doubt"
    with holding(worker) as link:
        proxy.lose_reply("FROM orchestrator.straggler g JOIN")
        assert link.call(stragglers.of, begun.id)
    assert proxy.pending == 0
    assert noted(ledger, begun) == []
    worker.forget_connections()
    orchestrator.app.close()


def test_a_loser_that_is_heard_is_waited_for_as_any_other(ledger: Ledger) -> None:
    begun, held = lost(ledger, timeout=5)
    due = "SELECT EXTRACT(epoch FROM due_at - started_at)::int FROM orchestrator.straggler WHERE execution_id = :e"
    assert ledger.sql(due, e=begun.id) == [(5,)]
    assert ledger.do(stragglers.beat, held, timeout=60, patience=20)
    assert ledger.sql(due, e=begun.id) == [(20,)]
    assert ledger.do(stragglers.beat, held, timeout=10, patience=20)
    assert ledger.sql(due, e=begun.id) == [(10,)], "it has no more time than before"
    assert ledger.do(stragglers.end, held)
    assert not ledger.do(stragglers.beat, held, timeout=10, patience=20)


def test_a_parent_waits_for_the_losers_of_a_child_that_has_succeeded(ledger: Ledger) -> None:
    parent = ledger.begin(ledger.target_of(Step(id="child", activity="do"), Step(id="beside", activity="do")))
    begun = ledger.begin(ledger.target_of(*graph()), Options(id=str(new_id()), parent=ledger.claim(parent, "child")))
    held = ledger.claim(begun, "slow", OTHER)
    ledger.succeed(begun, "fast")
    ledger.do(joins.join, begun.id, "join")
    ledger.do(joins.cancel_losers, begun.id, ["fast", "slow"])
    assert ledger.do(claims.settle_and_finish, ledger.claim(begun, "join"), "1", result="1")
    ledger.flag(parent, "failing")
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'cancelled', owner = NULL, settled_at = now(), halt = true "
        "WHERE execution_id = :e",
        e=parent.id,
    )
    assert ledger.do(stragglers.of, parent.id) == [("child / slow", OTHER)]
    assert not ledger.do(halts.begin_undo, parent.id, [("child", QUEUE)])
    assert not stands_still(ledger, parent)
    assert ledger.do(stragglers.end, held)
    assert stands_still(ledger, parent)
    assert ledger.do(halts.begin_undo, parent.id, [("child", QUEUE)])


def test_a_part_that_is_broken_off_is_woken_when_its_loser_has_ended(ledger: Ledger) -> None:
    begun, held = lost(ledger, body=True)
    join = ledger.claim(begun, "block[0].join")
    assert ledger.do(failures.settle_breaking, join, ERROR, outcome="failed", container="block")
    ledger.do(halts.drain, begun.id, INNER, container="block")
    assert not ledger.do(parks.wake_for_body, begun.id, "block", INNER)
    ledger.age(begun, "ready_at")
    assert begun.id not in [found[0] for found in ledger.do(parks.asleep, 10_000)]
    assert ledger.do(stragglers.end, held)
    assert begun.id in [found[0] for found in ledger.do(parks.asleep, 10_000)]
    assert ledger.do(parks.wake_for_body, begun.id, "block", INNER)


def test_a_part_whose_body_has_ended_well_is_woken_and_undone_once_its_loser_has_ended(ledger: Ledger) -> None:
    begun, held = lost(ledger, body=True)
    ledger.succeed(begun, "block[0].join")
    assert ledger.do(parks.wake_for_body, begun.id, "block", INNER), "what goes forward does not wait"
    block, undo = ledger.claim(begun, "block"), [("block[0].fast", QUEUE)]
    waits = ledger.do(undos.begin_part, block, ERROR, undo, inner=INNER)
    assert waits is not None
    assert (waits.status, waits.ready) == ("waiting", ())
    assert "undo:block[0].fast" not in ledger.statuses(begun)
    assert not ledger.do(parks.wake_for_body, begun.id, "block", INNER)
    assert ledger.do(stragglers.end, held)
    assert ledger.do(parks.wake_for_body, begun.id, "block", INNER)
    again = ledger.claim(begun, "block")
    assert again.woken is not None
    assert again.woken.error is not None
    assert (again.woken.by, again.woken.error["name"]) == ("broken", "No")
    goes_back = ledger.do(undos.begin_part, again, ERROR, undo, inner=INNER)
    assert goes_back is not None
    assert goes_back.ready == ("undo:block[0].fast",)


def test_a_part_that_begins_to_wait_as_its_loser_ends_is_woken_by_who_let_go_of_it(ledger: Ledger) -> None:
    begun, held = lost(ledger, body=True)
    ledger.succeed(begun, "block[0].join")
    assert ledger.do(parks.wake_for_body, begun.id, "block", INNER)
    block = ledger.claim(begun, "block")
    with ledger.open() as failing:
        waits = undos.begin_part(failing, block, ERROR, [("block[0].fast", QUEUE)], inner=INNER)
        assert waits is not None
        assert (waits.status, waits.ready) == ("waiting", ())
        assert ledger.do(stragglers.end, held)
        assert not ledger.do(parks.wake_for_body, begun.id, "block", INNER), "it is in hand still"
        failing.commit()
    with ledger.engine.connect() as connection:
        assert woken_at_once(bare(connection, begun.graph, begun.id), "block") == ["block"]
    assert ledger.statuses(begun)["block"] == "ready"


def test_a_loser_whose_reply_was_lost_knows_that_it_has_lost(ledger: Ledger, proxy: Proxy) -> None:
    begun, held = lost(ledger)
    proxy.lose_reply("failures = s.failures + 1")
    engine = database.connect(proxy.url, pool_size=1, lock_timeout=10)
    link = Link(engine, engine)
    try:
        became = {*FAILED, "cancelled"}
        assert link.settle(held, lambda c: failures.settle_retry(c, held, ERROR, delay=1), became) is None
    finally:
        link.close()
        engine.dispose()
    assert proxy.pending == 0
    assert noted(ledger, begun) == [("slow", OTHER, 1)], "it is the one who ends it"


def test_a_cancelled_execution_ends_after_its_loser(ledger: Ledger) -> None:
    begun, held = lost(ledger)
    ledger.do(controls.cancel, begun.id, "a test")
    ledger.do(halts.drain, begun.id)
    assert ledger.do(halts.end, begun.id) is None
    ledger.do(stragglers.end, held)
    assert ledger.do(halts.end, begun.id) == "cancelled"
