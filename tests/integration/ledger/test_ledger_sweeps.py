"""What sweeps find: lost messages, due timers, overdue attempts, stalled executions, and which beat fires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ledger.driver import OWNER, Begun, Ledger
from ledger.races import DEADLINE, race, until
from orchestrator import clock
from orchestrator.engine.start import Options
from orchestrator.ledger import (
    claims,
    controls,
    executions,
    failures,
    fires,
    halts,
    parks,
    probes,
    stalled,
    timers,
    undos,
)
from orchestrator.ledger.claims import Claim
from orchestrator.model.identity import new_id


def onto(ledger: Ledger, begun: Begun, queue: str) -> Begun:
    """Put an execution's steps on a queue."""
    ledger.sql("UPDATE orchestrator.step SET queue = :q WHERE execution_id = :e", q=queue, e=begun.id)
    return begun


def age_probe(ledger: Ledger, queue: str, column: str, seconds: float) -> None:
    ledger.sql(
        f"UPDATE orchestrator.probe SET {column} = {column} - CAST(:s AS float8) * interval '1 s' WHERE queue = :q",
        q=queue,
        s=seconds,
    )


def sent(ledger: Ledger, queue: str) -> list[int]:
    """Ids of the probes that are to be sent to a queue now."""
    return [probe.id for probe in ledger.do(probes.to_send) if probe.queue == queue]


def consumed(ledger: Ledger, queue: str) -> int:
    """Consume the probe of a queue twice, as it is sent; its last id."""
    for _ in range(2):
        ledger.do(probes.repeat)
        [probe] = sent(ledger, queue)
        ledger.do(probes.consume, probe)
    return probe


def overtaken(ledger: Ledger) -> list[tuple[str, str]]:
    return ledger.do(probes.overtaken, 100)


def test_only_what_was_ready_before_the_probe_and_still_is_was_lost(ledger: Ledger) -> None:
    queue = "horizon"
    lost = onto(ledger, ledger.start({"lost": (), "taken": (), "halted": ()}), queue)
    uncommitted = onto(ledger, ledger.start({"before": (), "after": ("before",)}), queue)
    held = ledger.claim(uncommitted, "before")
    with ledger.open() as late:
        claims.settle_and_spread(
            late, held, "1", successors='[{"path": "after", "status": "ready", "queue": "horizon"}]'
        )
        ledger.do(probes.prepare, "default", 0)
        late.commit()
    behind = onto(ledger, ledger.start({"behind": ()}), queue)
    age_probe(ledger, queue, "created_at", 1)
    assert overtaken(ledger) == [], "not consumed"
    consumed(ledger, queue)
    assert overtaken(ledger) == [], "what the probe overtook may be in the worker's hands for a second"
    ledger.claim(lost, "taken")
    ledger.sql("UPDATE orchestrator.step SET halt = true WHERE execution_id = :e AND path = 'halted'", e=lost.id)
    age_probe(ledger, queue, "consumed_at", 2)
    found = race([lambda: overtaken(ledger)] * 4)
    assert [row for rows in found for row in rows] == [(lost.id, "lost")]
    assert overtaken(ledger) == []
    assert ledger.step(behind, "behind").status == ledger.step(uncommitted, "after").status == "ready"


def test_a_backlog_gets_one_probe_which_is_sent_again_ever_later(ledger: Ledger) -> None:
    queue = "backlog"
    onto(ledger, ledger.start({"one": (), "two": ()}), queue)
    ledger.do(probes.prepare, "default", 60)
    assert sent(ledger, queue) == [], "nothing has been ready for so long"
    race([lambda: ledger.do(probes.prepare, "default", 0)] * 4)
    assert sent(ledger, queue) == [], "the probe's horizon precedes its own tick"
    age_probe(ledger, queue, "created_at", 1)
    first = race([lambda: sent(ledger, queue)] * 4)
    [probe] = [found for row in first for found in row]
    for wait in (10, 20, 40):
        age_probe(ledger, queue, "sent_at", wait - 2)
        assert sent(ledger, queue) == []
        age_probe(ledger, queue, "sent_at", 3)
        assert sent(ledger, queue) == [probe]


def test_a_republished_step_needs_a_new_probe_before_it_is_published_again(ledger: Ledger) -> None:
    queue = "again"
    begun = onto(ledger, ledger.start({"one": ()}), queue)
    for _ in range(2):
        ledger.do(probes.prepare, "default", 0)
        age_probe(ledger, queue, "created_at", 1)
        probe = consumed(ledger, queue)
        age_probe(ledger, queue, "consumed_at", 2)
        assert overtaken(ledger) == [(begun.id, "one")]
        ledger.do(probes.consume, probe)
        assert overtaken(ledger) == [], "a late or doubled probe tells nothing"


def test_what_is_published_behind_a_probe_is_not_lost(ledger: Ledger) -> None:
    """Many that were started at once are published for seconds, and a queue of RabbitMQ's keeps its order."""
    queue = "order"
    late = onto(ledger, ledger.start({"late": ()}), queue)
    ledger.do(probes.prepare, "default", 0)
    age_probe(ledger, queue, "created_at", 1)
    [first] = sent(ledger, queue)
    ledger.do(probes.consume, first)
    age_probe(ledger, queue, "consumed_at", 60)
    assert overtaken(ledger) == [], "its message may be on its way behind the probe"
    race([lambda: ledger.do(probes.repeat)] * 4)
    again = race([lambda: sent(ledger, queue)] * 4)
    [second] = [found for row in again for found in row]
    ledger.do(probes.consume, first)
    age_probe(ledger, queue, "consumed_at", 60)
    assert overtaken(ledger) == [], "the first one's message has come twice"
    ledger.claim(late, "late")
    ledger.do(probes.consume, second)
    age_probe(ledger, queue, "consumed_at", 60)
    assert overtaken(ledger) == []
    assert ledger.sql("SELECT count(*) FROM orchestrator.probe WHERE queue = :q", q=queue) == [(0,)]


def test_a_probe_that_leaves_nothing_behind_is_not_sent_once_more(ledger: Ledger) -> None:
    queue = "swept"
    begun = onto(ledger, ledger.start({"one": (), "held": ()}), queue)
    ledger.do(probes.prepare, "default", 0)
    age_probe(ledger, queue, "created_at", 1)
    [probe] = sent(ledger, queue)
    ledger.do(probes.consume, probe)
    ledger.claim(begun, "one")
    ledger.claim(begun, "held")
    onto(ledger, ledger.start({"newer": ()}), queue)
    ledger.do(probes.repeat)
    assert ledger.sql("SELECT count(*) FROM orchestrator.probe WHERE queue = :q", q=queue) == [(0,)]


def test_a_retry_becomes_ready_once_and_not_before_its_time(ledger: Ledger) -> None:
    begun = ledger.start({"soon": (), "later": ()})
    for path, delay in (("soon", 0.0), ("later", 60.0)):
        ledger.do(failures.settle_retry, ledger.claim(begun, path), "{}", delay=delay)
    found = race([lambda: ledger.do(timers.due, 100)] * 4)
    assert [row for rows in found for row in rows] == [(begun.id, "soon")]
    assert ledger.statuses(begun) == {"soon": "ready", "later": "retrying"}


def test_a_delayed_start_waits_for_its_time_and_begins_once(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()}, start_at=datetime.now(UTC) + timedelta(hours=1))
    assert (ledger.status(begun), ledger.statuses(begun)) == ("created", {"one": "waiting", "two": "waiting"})
    assert ledger.do(timers.due, 100) == []
    assert ledger.try_claim(begun, "one") is None
    ledger.sql("UPDATE orchestrator.step SET due_at = due_at - interval '2 h' WHERE execution_id = :e", e=begun.id)
    found = race([lambda: ledger.do(timers.due, 100)] * 4)
    assert sorted(row for rows in found for row in rows) == [(begun.id, "one"), (begun.id, "two")]
    assert ledger.status(begun) == "running"
    assert ledger.events(begun, "execution_running") == [("execution_running", None, None)]
    assert ledger.claim(begun, "one").attempt == 1


def test_a_deadline_counts_from_the_first_start_however_late_that_is(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()}, start_at=datetime.now(UTC) + timedelta(hours=1), timeout=60)
    # As if nobody had swept for hours.
    ledger.sql(
        "UPDATE orchestrator.execution SET created_at = created_at - interval '9 h', start_at = start_at - interval "
        "'5 h', deadline = deadline - interval '5 h' WHERE id = :e",
        e=begun.id,
    )
    ledger.sql("UPDATE orchestrator.step SET due_at = due_at - interval '5 h' WHERE execution_id = :e", e=begun.id)
    assert ledger.do(timers.expire, 100) == []
    assert ledger.do(timers.due, 100) == [(begun.id, "one")]
    [(left,)] = ledger.sql(
        "SELECT extract(epoch FROM deadline - clock_timestamp()) FROM orchestrator.execution WHERE id = :e", e=begun.id
    )
    assert 0 < left <= 60
    assert ledger.do(timers.expire, 100) == []


def test_an_overdue_attempt_is_ended_by_its_worker_or_by_a_sweep_but_once(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    taken = ledger.do(claims.claim, begun.id, "one", owner="boot.1", transactional=False, timeout=0.001)
    assert taken is not None
    assert ledger.do(timers.overdue, 100, 60.0) == []
    until(lambda: bool(ledger.do(timers.overdue, 100, 0.0)), "a millisecond has passed")
    [found] = ledger.do(timers.overdue, 100, 0.0)
    held = found.held
    assert held == taken[0]
    outcomes = race(
        [
            lambda: ledger.do(failures.settle_failed, held, "{}", outcome="timed_out"),
            lambda: ledger.do(failures.settle_failed, held, "{}", outcome="timed_out"),
            lambda: ledger.do(claims.settle_and_finish, taken[0], "1", result="1"),
        ]
    )
    assert [outcome is None for outcome in outcomes].count(False) == 1
    assert ledger.do(timers.overdue, 100, 0.0) == []


def test_executions_that_nothing_would_move_are_found_and_others_are_not(ledger: Ledger) -> None:
    names = ("at work", "unfinished", "undrained", "unended", "drained but running")
    found = {name: ledger.start({"one": (), "two": ("one",)}) for name in names}
    for name in ("at work", "drained but running"):
        ledger.claim(found[name], "one")
    ledger.do(claims.settle_and_spread, ledger.claim(found["unfinished"], "one"), "1", successors="[]")
    for name in names[2:]:
        ledger.flag(found[name], "cancelling")
    for name in names[3:]:
        ledger.do(halts.drain, found[name].id)
    assert not {begun.id for begun in found.values()} & set(ledger.do(stalled.stalled, 100)), "too young"
    ledger.sql("UPDATE orchestrator.execution SET created_at = created_at - interval '3 s'")
    stuck = set(ledger.do(stalled.stalled, 100))
    assert {name for name, begun in found.items() if begun.id in stuck} == {"unfinished", "undrained", "unended"}
    assert ledger.do(executions.finish, found["unfinished"].id, "1")
    assert found["unfinished"].id not in ledger.do(stalled.stalled, 100)


def test_a_flagged_execution_is_left_alone_while_its_children_go_back_and_found_when_one_does_not(
    ledger: Ledger,
) -> None:
    begun = ledger.start({"step": ()})
    held = ledger.claim(begun, "step")
    made = [
        ledger.begin(ledger.target({"only": ()}, ("only",)), Options(id=str(new_id()), parent=held)) for _ in range(2)
    ]
    ledger.do(parks.park, held, resume={}, awaits="child", wait_name=made[0].id)
    for child in made:
        ledger.claim(child, "only")
    ledger.flag(begun, "cancelling")
    ledger.sql("UPDATE orchestrator.execution SET created_at = created_at - interval '3 s'")

    def found() -> bool:
        return begun.id in ledger.do(stalled.stalled, 1_000)

    assert found(), "not drained"
    ledger.do(halts.drain, begun.id)
    assert found(), "whoever drained it died before it cancelled the children"
    assert ledger.do(controls.cancel, made[0].id, "its parent goes back")
    assert found(), "one of them goes forward"
    ledger.do(controls.cancel, made[1].id, "its parent goes back")
    assert not found(), "they drain"
    for child in made:
        ledger.do(halts.drain, child.id)
        only = Claim(execution_id=child.id, path="only", attempt=1, owner=OWNER)
        ledger.do(claims.settle_and_spread, only, "1", successors="[]")
    ledger.do(halts.begin_undo, made[0].id, [("only", "q")])
    ledger.do(halts.end, made[1].id)
    assert not found(), "one is undone"
    undo = ledger.claim(made[0], "undo:only")
    ledger.do(undos.settle_undo, undo, outcome="succeeded", output="1", error=None)
    assert ledger.status(made[0]) == "compensated"
    assert found(), "whoever ended the last one died before it told"
    assert ledger.do(halts.end, begun.id) == "cancelled"
    assert not found()


def test_two_beats_that_race_for_ten_moments_fire_each_once(ledger: Ledger) -> None:
    def beat() -> int:
        begun, fired = clock.elapsed(), 0
        while len(moments(ledger)) < 10:
            assert clock.elapsed() - begun < DEADLINE
            fired += ledger.do(fires.fire, "tick", 0.05, "default")
        return fired

    assert sum(race([beat, beat])) == len(moments(ledger))


def test_one_moment_fires_once_for_each_schedule_and_old_fires_go(ledger: Ledger) -> None:
    century = 3_153_600_000.0
    for name in ("one", "two"):
        assert sorted(race([lambda n=name: ledger.do(fires.fire, n, century, "default")] * 4)) == [False] * 3 + [True]  # type: ignore[misc]
    ledger.sql("INSERT INTO orchestrator.schedule_fire VALUES ('old', now() - interval '2 h', 'default')")
    assert ledger.do(fires.fire, "old", 60.0, "default")
    assert len(moments(ledger, "old")) == 1


def moments(ledger: Ledger, schedule: str = "tick") -> list[object]:
    return ledger.sql("SELECT fire_at FROM orchestrator.schedule_fire WHERE schedule = :s", s=schedule)
