"""Executions, their children, and the children of these: who is waited for, retried and cancelled with whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from ledger.clients import Client
from ledger.driver import OTHER, QUEUE, Begun, Ledger
from orchestrator.engine import reopen
from orchestrator.engine.advance import advance, child_ended
from orchestrator.engine.core import Core
from orchestrator.engine.saga import undo_ended
from orchestrator.engine.start import Options
from orchestrator.errors import ControlRefused
from orchestrator.ledger import (
    children,
    claims,
    controls,
    failures,
    halts,
    joins,
    parks,
    reopens,
    stalled,
    stragglers,
)
from orchestrator.ledger.controls import By
from orchestrator.model.definition import Compensation, Step
from orchestrator.model.identity import new_id
from orchestrator.recovery import stalled as stalled_sweep
from orchestrator.recovery.sweep import Context

UNDO = Compensation(activity="undo")
NO = '{"category": "business", "name": "No", "message": "no"}'
ANN = By(actor="ann")


@pytest.fixture
def sweeper(ledger: Ledger, client: Callable[[Engine], Client]) -> Client:
    """Whoever commands and sweeps."""
    return client(ledger.engine)


def sweep(sweeper: Client) -> None:
    with sweeper.core.database.connect() as connection:
        stalled_sweep.SWEEP.sweep(Context(core=sweeper.core, connection=connection, observer="observer"))


def starts(path: str) -> Step:
    """A step that is another workflow."""
    return Step(id=path, kind="workflow", spec={"workflow": "other"})


def child_of(ledger: Ledger, parent: Begun, path: str, *steps: Step) -> Begun:
    """A child, and its parent's step waiting for it."""
    held = ledger.claim(parent, path)
    found = ledger.begin(
        ledger.target_of(*(steps or [Step(id="only", activity="do")])), Options(id=str(new_id()), parent=held)
    )
    assert ledger.do(parks.park, held, resume={"child": found.id}, awaits="child", wait_name=found.id)
    return found


def fail(ledger: Ledger, begun: Begun, path: str = "only") -> None:
    ledger.do(failures.settle_failed, ledger.claim(begun, path, OTHER), NO, outcome="failed")
    end(ledger, begun)


def end(ledger: Ledger, begun: Begun) -> None:
    ledger.do(halts.drain, begun.id)
    assert ledger.do(halts.end, begun.id)


def age(ledger: Ledger, *all_of_them: Begun) -> None:
    for begun in all_of_them:
        ledger.age(begun, "ready_at")
        ledger.sql("UPDATE orchestrator.execution SET created_at = now() - interval '1 h' WHERE id = :e", e=begun.id)


# Losers that are executions of their own.


def won(ledger: Ledger) -> tuple[Begun, Begun, Begun]:
    """An execution whose child has succeeded, by a race that a child of its own has lost: it, the child, the loser."""
    begun = ledger.begin(ledger.target_of(starts("child"), Step(id="beside", activity="do", compensation=UNDO)))
    race = (
        Step(id="fast", activity="do", compensation=UNDO),
        starts("slow"),
        Step(id="join", activity="do", after=("fast", "slow"), join="any"),
    )
    child = child_of(ledger, begun, "child", *race)
    loser = child_of(ledger, child, "slow")
    ledger.succeed(child, "fast")
    assert ledger.do(joins.join, child.id, "join") == joins.Joined(verdict="ready")
    ledger.do(joins.cancel_losers, child.id, ["fast", "slow"])
    assert ledger.do(claims.settle_and_finish, ledger.claim(child, "join"), "1", result="1")
    return begun, child, loser


def test_a_child_that_lost_a_race_is_waited_for_by_whatever_goes_back(ledger: Ledger) -> None:
    begun, child, loser = won(ledger)
    told = [("child / slow", f"execution {loser.id}")]
    assert ledger.do(stragglers.of, begun.id) == told
    assert ledger.do(stragglers.of, child.id) == [("slow", f"execution {loser.id}")]
    ledger.flag(begun, "failing")
    ledger.do(halts.drain, begun.id)
    age(ledger, begun)
    assert not ledger.do(halts.begin_undo, begun.id, [("child", QUEUE)])
    assert ledger.do(halts.end, begun.id) is None
    assert not ledger.do(halts.begin_undo, child.id, [("fast", QUEUE)], after="succeeded")
    assert begun.id not in ledger.do(stalled.stalled, 10_000), "the loser's end advances it"
    ledger.do(controls.cancel, loser.id, "it has lost")
    assert not ledger.do(halts.begin_undo, begun.id, [("child", QUEUE)]), "it drains"
    end(ledger, loser)
    assert begun.id in ledger.do(stalled.stalled, 10_000), "whoever ended it may have died"
    assert ledger.do(stragglers.of, begun.id) == []
    assert ledger.do(halts.begin_undo, child.id, [("fast", QUEUE)], after="succeeded")
    assert not ledger.do(halts.begin_undo, begun.id, [("beside", QUEUE)]), "the child goes back"


def test_its_end_advances_the_one_that_waits_for_it(ledger: Ledger, sweeper: Client) -> None:
    begun, _, loser = won(ledger)
    ledger.flag(begun, "failing")
    ledger.do(halts.drain, begun.id)
    ledger.do(controls.cancel, loser.id, "it has lost")
    end(ledger, loser)
    with sweeper.core.database.connect() as connection:
        child_ended(sweeper.core, connection, loser.id)
    assert ledger.status(begun) == "compensating"
    assert ledger.step(begun, "undo:child").status == "ready"


def test_what_an_operator_has_retried_of_an_ended_child_is_not_waited_for(ledger: Ledger, sweeper: Client) -> None:
    begun = ledger.begin(ledger.target_of(starts("child"), Step(id="beside", activity="do", compensation=UNDO)))
    child = child_of(ledger, begun, "child", starts("inner"))
    within = child_of(ledger, child, "inner")
    fail(ledger, within)
    assert ledger.do(children.wake, within.id)
    fail(ledger, child, "inner")
    sweeper.retry(within.id, actor="ann")
    ledger.succeed(begun, "beside")
    ledger.flag(begun, "failing")
    ledger.do(halts.drain, begun.id)
    assert ledger.do(stragglers.of, begun.id) == []
    assert ledger.do(halts.begin_undo, begun.id, [("beside", QUEUE)])
    assert ledger.status(within) == "running"


def test_what_succeeded_is_not_compensated_by_hand_beside_it(ledger: Ledger, sweeper: Client) -> None:
    _, child, loser = won(ledger)
    standing = ledger.do(reopens.standing, child.id)
    assert standing is not None
    with sweeper.core.database.connect() as connection, pytest.raises(ControlRefused, match=f"execution {loser.id}"):
        undo_ended(sweeper.core, connection, child.id, standing, by=ANN)


def test_a_part_waits_for_its_children_before_it_is_undone(ledger: Ledger) -> None:
    steps = (Step(id="done", activity="do", compensation=UNDO), starts("slow"), Step(id="no", activity="do"))
    begun = ledger.begin(ledger.target_of(Step(id="block", kind="block", steps=steps, on_error="continue")))
    ledger.wait_for_body(begun, "block", 0)
    child = child_of(ledger, begun, "block[0].slow")
    ledger.succeed(begun, "block[0].done")
    held = ledger.claim(begun, "block[0].no")
    assert ledger.do(failures.settle_breaking, held, NO, outcome="failed", container="block")
    ledger.do(halts.drain, begun.id, "block[", container="block")
    ledger.age(begun, "ready_at")

    def asleep() -> bool:
        return begun.id in [found[0] for found in ledger.do(parks.asleep, 10_000)]

    assert not asleep(), "the child's end wakes it"
    assert not ledger.do(parks.wake_for_body, begun.id, "block", "block[")
    ledger.do(controls.cancel, child.id, "the part goes back")
    end(ledger, child)
    assert asleep(), "whoever ended it may have died"
    assert ledger.do(parks.wake_for_body, begun.id, "block", "block[")


# Retries.


def family(ledger: Ledger) -> tuple[Begun, list[Begun]]:
    """An execution that was cancelled with its three children."""
    begun = ledger.begin(ledger.target_of(*(starts(path) for path in "abc")))
    made = [child_of(ledger, begun, path) for path in "abc"]
    ledger.do(controls.cancel, begun.id, "not now")
    ledger.do(halts.drain, begun.id)
    for child in made:
        ledger.do(controls.cancel, child.id, "with its parent")
        end(ledger, child)
    assert ledger.do(halts.end, begun.id) == "cancelled"
    return begun, made


def test_children_that_a_retry_has_not_come_to_are_retried_by_the_sweep_and_not_told_of(
    ledger: Ledger, sweeper: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, made = family(ledger)

    def die(*args: object, **options: object) -> None:
        raise SystemExit

    with monkeypatch.context() as broken, sweeper.core.database.connect() as connection:
        broken.setattr(reopen, "child_ended", die)
        with pytest.raises(SystemExit):
            reopen.retry(sweeper.core, connection, begun.id, ANN)
    assert [ledger.status(each) for each in made] == ["running", "cancelled", "cancelled"]
    assert ledger.status(begun) == "running"
    age(ledger, begun)
    sweep(sweeper)
    assert [ledger.status(each) for each in made] == ["running"] * 3
    assert ledger.status(begun) == "running"
    said = ledger.sql("SELECT actor, reason FROM orchestrator.audit WHERE execution_id = :e", e=made[2].id)
    assert [tuple(row) for row in said] == [("orchestrator", "its parent was retried")]
    # What comes of it now is told as ever.
    fail(ledger, made[2])
    age(ledger, begun)
    sweep(sweeper)
    assert ledger.step(begun, "c").status == "ready"
    assert ledger.step(begun, "c").woken_by == "broken"
    assert {path: ledger.step(begun, path).status for path in "ab"} == {"a": "waiting", "b": "waiting"}


def test_a_late_message_of_a_child_does_not_tell_of_an_end_that_is_passed_over(
    ledger: Ledger, sweeper: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, made = family(ledger)

    def come_late(core: Core, connection: Connection, child: str, by: By) -> None:
        # The others come first: a worker finds each at its end.
        for each in made:
            advance(core, connection, each.id, ())
        assert {path: ledger.step(begun, path).status for path in "abc"} == dict.fromkeys("abc", "waiting")
        retry_awaited(core, connection, child, by)

    retry_awaited = reopen.retry_awaited
    monkeypatch.setattr(reopen, "retry_awaited", come_late)
    sweeper.retry(begun.id, actor="ann")
    assert [ledger.status(each) for each in (begun, *made)] == ["running"] * 4


def test_a_child_that_cannot_be_retried_is_told_of_all_the_same(ledger: Ledger, sweeper: Client) -> None:
    begun, made = family(ledger)
    purged = made[1]
    ledger.sql("UPDATE orchestrator.execution SET purged_at = now() WHERE id = :e", e=purged.id)
    with sweeper.core.database.connect() as connection:
        # Not by the command, which would refuse to begin.
        reopen.retry(sweeper.core, connection, begun.id, ANN)
    assert [ledger.status(each) for each in made] == ["running", "cancelled", "running"]
    assert ledger.step(begun, "b").woken_by == "broken"


@pytest.mark.parametrize("still", ["paused", "maintenance"])
def test_a_sweep_retries_no_child_while_nothing_of_its_parent_begins(
    ledger: Ledger, sweeper: Client, monkeypatch: pytest.MonkeyPatch, still: str
) -> None:
    begun, made = family(ledger)
    with monkeypatch.context() as broken:
        broken.setattr(reopen, "retry_awaited", lambda *args: None)
        sweeper.retry(begun.id, actor="ann")
    assert ledger.status(begun) == "running"
    begin: dict[str, Callable[[], object]] = {
        "paused": lambda: sweeper.pause(begun.id, actor="ann"),
        "maintenance": lambda: sweeper.maintenance(True, actor="ann"),
    }
    end_it: dict[str, Callable[[], object]] = {
        "paused": lambda: sweeper.resume(begun.id, actor="ann"),
        "maintenance": lambda: sweeper.maintenance(False, actor="ann"),
    }
    begin[still]()
    age(ledger, begun)
    sweep(sweeper)
    assert [ledger.status(each) for each in made] == ["cancelled"] * 3
    assert {path: ledger.step(begun, path).status for path in "abc"} == dict.fromkeys("abc", "waiting")
    end_it[still]()
    age(ledger, begun)
    sweep(sweeper)
    assert [ledger.status(each) for each in made] == ["running"] * 3


def test_a_retry_that_was_called_off_is_none(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    ledger.do(failures.settle_failed, ledger.claim(begun, "one"), NO, outcome="failed")
    ledger.do(halts.drain, begun.id)
    assert ledger.do(halts.end, begun.id, retry_after=0)
    standing = ledger.do(reopens.standing, begun.id)
    assert standing is not None

    def retry(connection: Connection, *, by_itself: bool) -> bool:
        said: dict[str, Any] = {"command": "retry", "reopened": [], "successors": [], "by": ANN}
        return reopens.retry(connection, begun.id, seen=standing.settled_at, by_itself=by_itself, **said)

    with ledger.open() as commanding:
        assert controls.call_off(commanding, begun.id, ANN)
        with ledger.behind(lambda c: retry(c, by_itself=True)) as retrying:
            retrying.until_blocked()
            commanding.commit()
            assert not retrying.result()
    assert ledger.status(begun) == "failed"
    assert ledger.do(retry, by_itself=False), "an operator may"


def test_a_cancellation_finds_what_a_sweep_retries_at_the_same_moment(
    ledger: Ledger, sweeper: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = ledger.start({"one": ()})
    ledger.do(failures.settle_failed, ledger.claim(begun, "one"), NO, outcome="failed")
    ledger.do(halts.drain, begun.id)
    assert ledger.do(halts.end, begun.id, retry_after=0)
    call_off = controls.call_off

    def too_late(connection: Connection, execution_id: str, by: By) -> bool:
        with sweeper.core.database.connect() as other:
            reopen.retry(sweeper.core, other, execution_id, By(actor="orchestrator"), by_itself=True)
        return call_off(connection, execution_id, by)

    monkeypatch.setattr(controls, "call_off", too_late)
    sweeper.cancel(begun.id, actor="ann")
    assert ledger.status(begun) == "cancelled"


# Cancellations.


@pytest.mark.parametrize(
    ("keeps", "on_cancel", "rollback"),
    [(False, "compensate", True), (True, "compensate", False), (False, "stop", False)],
)
def test_a_child_whose_canceller_has_died_is_undone_or_kept_as_it_was_to_be(
    ledger: Ledger, keeps: bool, on_cancel: str, rollback: bool
) -> None:
    begun = ledger.begin(ledger.target_of(starts("child")))
    child = child_of(ledger, begun, "child")
    ledger.sql(
        "UPDATE orchestrator.definition SET spec = spec || jsonb_build_object('on_cancel', CAST(:to AS text)) "
        "WHERE id = (SELECT definition_id FROM orchestrator.execution WHERE id = :e)",
        to=on_cancel,
        e=child.id,
    )
    assert ledger.do(controls.cancel, begun.id, "not wanted", undo=False if keeps else None)
    ledger.do(halts.drain, begun.id)
    assert child.id in ledger.do(children.cancel_orphans, 10_000)
    (row,) = ledger.sql("SELECT status, rollback FROM orchestrator.execution WHERE id = :e", e=child.id)
    assert tuple(row) == ("cancelling", rollback)


def test_a_child_that_was_let_go_on_alone_is_not_taken_back_by_whoever_started_it(ledger: Ledger) -> None:
    begun = ledger.begin(ledger.target_of(starts("child")))
    alone, ours = (
        ledger.begin(ledger.target({"only": ()}), Options(id=str(new_id()), parent=held))
        for held in [ledger.claim(begun, "child")] * 2
    )
    assert ledger.do(controls.cancel, ours.id, "taken back", parent=begun.id)
    assert ledger.do(controls.cancel, begun.id, "not wanted", detach=True)
    assert not ledger.do(controls.cancel, alone.id, "taken back", parent=begun.id)
    assert ledger.status(alone) == "running"
