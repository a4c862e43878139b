"""Every reason why an execution is where it is, staged on real workers; the printed command unblocks it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import SWEEPS, Pool, Site
from nodes.waiting import eventually
from pytest_celery import CeleryWorkerCluster

from orchestrator import ExecutionHandle
from orchestrator.cli import call
from orchestrator.engine.step_findings import Finding
from orchestrator.errors import ExecutionNotFound

pytest_plugins = ("nodes.fixtures",)

SINGLE, VICTIM = Pool(name="single", queues=("single",), concurrency=1), Pool(name="victim", queues=("victim",))


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=4), SINGLE, VICTIM]


@dataclass(frozen=True)
class Explain:
    """Asks for explanations, and carries out what they print."""

    site: Site

    def __call__(self, handle: ExecutionHandle) -> list[Finding]:
        return list(self.site.orchestrator.explain(handle.id).findings)

    def until(self, handle: ExecutionHandle, kind: str, path: str | None = None) -> Finding:
        """The finding of a kind, once it is there."""

        def ask() -> Finding | None:
            return next((one for one in self(handle) if one.kind == kind and path in {None, one.path}), None)

        return eventually(ask, f"{kind} is among {[one.kind for one in self(handle)]}")

    def obey(self, found: Finding) -> None:
        """Carry out the command of a finding, as it was printed."""
        assert found.command is not None
        words = shlex.split(found.command)
        assert words[0] == "orchestrator"
        if words[1] in {"worker", "beat"}:
            self.site.program(found.command)
        else:
            assert call(words[1:]) == 0


@pytest.fixture
def explain(site: Site, worker: WorkerNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explain]:
    for name, value in {
        "DATABASE_URL": site.database_url,
        "BROKER_URL": site.broker_url,
        "MODULES": "nodes.oversight",
    }.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
    yield Explain(site)
    site.open_all()


def test_a_signal_unblocks_what_waits_for_it_and_what_is_blocked_behind_it(site: Site, explain: Explain) -> None:
    handle = site.start("behind-a-signal")
    site.step_status(handle, "quick", "succeeded")
    blocked = explain.until(handle, "blocked")
    waits = explain.until(handle, "signal")
    assert blocked.sentence == f"`behind` is blocked behind `word`: {waits.sentence}"
    assert blocked.command == waits.command == f"orchestrator signal {handle.id} go"
    explain.obey(blocked)
    assert handle.result(30) == 1
    assert [one.kind for one in explain(handle)] == ["succeeded"]


def test_an_event_unblocks_who_waits_for_it(site: Site, explain: Explain) -> None:
    order = f"order {uuid4()}"
    handle = site.start("listener", {"order": order})
    found = explain.until(handle, "event")
    assert f"about `{order}`" in found.sentence
    explain.obey(found)
    site.step_status(handle, "paid", "succeeded")


def test_an_allowed_event_moves_a_machine(site: Site, explain: Explain) -> None:
    handle = site.start("paper")
    found = explain.until(handle, "machine")
    assert "stands in state `draft`" in found.sentence
    assert "allowed are `SUBMIT` and `WITHDRAW`" in found.sentence
    explain.obey(found)
    eventually(lambda: handle.state() == "checked", "the machine has moved")


def test_a_delay_says_until_when_and_a_deadline_that_comes_first_is_told(site: Site, explain: Explain) -> None:
    handle = site.start("hours", timeout=5400)
    found = explain.until(handle, "time")
    assert found.sentence.startswith("`pause` waits for its time, at 20")
    assert found.command == f"orchestrator complete {handle.id} pause"
    assert explain(handle)[-1].kind == "deadline"
    explain.obey(found)
    assert handle.result(30) == 1


def test_a_step_that_waits_for_its_next_attempt_makes_it_when_told_to(site: Site, explain: Explain) -> None:
    handle = site.start("tomorrow")
    found = explain.until(handle, "retry")
    assert found.command == f"orchestrator retry {handle.id}"
    explain.obey(found)
    assert handle.result(30) == 2
    assert [entry.command for entry in site.orchestrator.audit(handle.id)] == ["retry"]
    assert not site.orchestrator.replay(handle.id).differences


def test_a_retry_says_when_and_why_and_a_missing_beat_is_found_and_mended(site: Site, explain: Explain) -> None:
    handle = site.start("tomorrow")
    found = explain.until(handle, "retry")
    assert "as attempt 2 of 3; the last ended with TransientError: as told" in found.sentence
    site.without_beat()
    late = "interval '1 hour 1 minute'"
    site.execute(f"UPDATE orchestrator.schedule_fire SET fire_at = fire_at - {late}")
    site.execute(f"UPDATE orchestrator.step SET due_at = due_at - {late} WHERE execution_id = :id", id=handle.id)
    unseen = explain.until(handle, "no_sweeps")
    assert "the last fire of a beat was" in unseen.sentence
    assert unseen.command == "orchestrator beat"
    explain.obey(unseen)
    assert handle.result(30) == 2


def test_a_loop_says_how_much_of_it_is_done(site: Site, explain: Explain) -> None:
    handle = site.start("counted-loop")
    site.open(handle, "gate0")
    site.call(handle, "loop[1].inner")
    found = explain.until(handle, "loop")
    assert found.sentence == "the loop `loop` is open: 1 of 3 iterations are done"
    running = explain.until(handle, "running", "loop[1].inner")
    assert "attempt 1 at `loop[1].inner` runs under" in running.sentence
    assert "on worker@" in running.sentence
    for gate in ("gate1", "gate2"):
        site.open(handle, gate)
    handle.result(30)


def test_children_are_explained_below_who_waits_for_them(site: Site, explain: Explain) -> None:
    handle = site.start("grandparent")
    explain.until(handle, "signal")
    found = explain(handle)
    assert [(one.kind, one.depth) for one in found] == [("child", 0), ("child", 1), ("signal", 2)]
    assert len({one.execution_id for one in found}) == 3
    explain.obey(found[-1])
    handle.result(30)


def test_a_queue_without_a_consumer_is_told_from_a_backlog(site: Site, explain: Explain) -> None:
    alone = site.start("lonely")
    found = explain.until(alone, "no_consumer")
    assert (found.command, found.path) == ("orchestrator worker --queues lonely", "work")
    explain.obey(found)
    assert alone.result(30) == 1
    first, second, third = (site.start("single") for _ in range(3))
    eventually(lambda: sum(bool(site.witness.calls(one.id)) for one in (first, second, third)) == 1, "one has begun")
    ahead = [explain(one)[0].sentence for one in (first, second, third) if explain(one)[0].kind == "backlog"]
    assert len(ahead) == 2
    assert any("0 ahead of it in queue `single`, which 1 living worker consumes" in one for one in ahead)
    assert any("1 ahead of it" in one for one in ahead)
    for one in (first, second, third):
        site.open(one)
        one.result(30)


def test_a_drain_says_for_which_attempt_and_child_it_waits(site: Site, explain: Explain) -> None:
    handle = site.start("late-failure")
    site.call(handle, "slow")
    site.open(handle, "refusal")
    found = explain.until(handle, "failing")
    assert found.sentence.startswith("it is failing because of BusinessError in `refused`: as told, and waits for the ")
    assert found.sentence.endswith("running attempt of `slow` to end")
    site.open(handle)
    ended = explain.until(handle, "failed")
    assert ended.command == f"orchestrator retry {handle.id}"
    parent = site.start("parent-cancelling")
    (child,) = eventually(
        lambda: site.execute("SELECT id FROM orchestrator.execution WHERE parent_id = :p", p=parent.id), "a child"
    )
    site.call(site.orchestrator.execution(str(child[0])), "work")
    site.open(parent, "refusal")
    explain.until(parent, "failing")
    cancelling = explain.until(parent, "cancelling")
    assert (cancelling.depth, cancelling.execution_id) == (1, str(child[0]))
    site.open(site.orchestrator.execution(str(child[0])))
    explain.until(parent, "failed")


def test_a_deadline_that_has_passed_is_told_while_the_attempt_goes_on(site: Site, explain: Explain) -> None:
    handle = site.start("expiring")
    site.call(handle, "work")
    assert "is timing out because of DeadlineExceeded" in explain.until(handle, "timing_out").sentence
    site.open(handle)
    assert explain.until(handle, "timed_out").command == f"orchestrator retry {handle.id}"


def test_a_rollback_says_where_it_is_and_what_it_could_not_undo(site: Site, explain: Explain) -> None:
    handle = site.start("slow-undo")
    site.call(handle, "undo:one")
    found = explain.until(handle, "compensating")
    assert "and is at the undo of `one`; 1 left" in found.sentence
    assert explain.until(handle, "running").path == "undo:one"
    site.open(handle)
    assert explain.until(handle, "compensated").command is None
    stuck = site.start("stuck-explained")
    ended = explain.until(stuck, "compensation_failed")
    assert "could not undo `one` (TransientError: as told)" in ended.sentence
    assert ended.command == f"orchestrator compensate {stuck.id}"
    explain.obey(ended)
    site.call(stuck, "undo:one", attempt=2)
    site.status(stuck, "compensation_failed")


def test_a_start_in_the_future_and_maintenance_are_told(site: Site, explain: Explain) -> None:
    handle = site.start("quick", start_at=datetime.now(UTC) + timedelta(hours=1))
    assert [one.kind for one in explain(handle)] == ["starts_at"]
    site.orchestrator.maintenance(True, actor="ann", reason="a move")
    try:
        held = site.start("behind-a-signal")
        found = explain.until(held, "maintenance")
        explain.obey(found)
    finally:
        site.orchestrator.maintenance(False, actor="ann")
    explain.until(held, "signal")
    assert "ann turned it on" in found.sentence
    assert "because a move" in found.sentence
    assert found.command == "orchestrator maintenance off"


def test_a_pause_says_who_and_why(site: Site, explain: Explain) -> None:
    handle = site.start("behind-a-signal")
    explain.until(handle, "blocked")
    site.orchestrator.pause(handle.id, actor="ann", reason="the bank is closed")
    found = explain(handle)[0]
    assert (found.kind, found.command) == ("paused", f"orchestrator resume {handle.id}")
    assert "paused by ann" in found.sentence
    assert "because the bank is closed" in found.sentence
    explain.obey(found)
    site.orchestrator.signal(handle.id, "go")
    handle.result(30)


def test_a_failure_says_which_and_is_retried(site: Site, explain: Explain) -> None:
    handle = site.start("fails-once", {"n": 1})
    found = explain.until(handle, "failed")
    assert "BusinessError in `fails`: as told" in found.sentence
    explain.obey(found)
    assert handle.result(30) == [1, 2, 1]


def test_what_was_cancelled_says_so_and_goes_on_when_retried(site: Site, explain: Explain) -> None:
    handle = site.start("behind-a-signal")
    explain.until(handle, "signal")
    site.orchestrator.cancel(handle.id, actor="ann")
    found = explain.until(handle, "cancelled")
    explain.obey(found)
    explain.obey(explain.until(handle, "signal"))
    assert handle.result(30) == 1


def test_the_command_line_tells_the_same_as_the_service(
    site: Site, explain: Explain, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = site.start("grandparent")
    waits = explain.until(handle, "signal")
    assert call(["explain", handle.id]) == 0
    # Without how many seconds are left: another may have begun.
    told, sentence = (re.sub(r" \(in \d+ s\)", "", each) for each in (capsys.readouterr().out, waits.sentence))
    assert f"    - {sentence}\n      $ {waits.command}\n" in told
    assert call(["explain", handle.id, "--json"]) == 0
    assert '"kind": "signal"' in capsys.readouterr().out
    assert call(["explain", str(uuid4())]) == 1
    with pytest.raises(ExecutionNotFound):
        site.orchestrator.explain(str(uuid4()))
    explain.obey(waits)
    handle.result(30)


def test_a_dead_owner_is_told_and_each_command_brings_it_further(
    site: Site, explain: Explain, celery_worker_cluster: CeleryWorkerCluster
) -> None:
    """Worker and sweeper are killed; who sweeps comes back first, then who works."""
    handle = site.start("victim")
    site.call(handle, "work")
    victim, sweeper = celery_worker_cluster[2], celery_worker_cluster[3]
    for node in (sweeper, victim):
        node.kill()
    silent = explain.until(handle, "owner_silent")
    assert f"held by {site.step(handle, 'work')['owner']} on victim@" in silent.sentence
    found = eventually(lambda: next((one for one in explain(handle) if one.command), None), "nobody sweeps")
    assert found.command == f"orchestrator worker --queues {SWEEPS}"
    explain.obey(found)
    alone = explain.until(handle, "no_consumer")
    assert alone.command == "orchestrator worker --queues victim"
    explain.obey(alone)
    assert handle.result(30) == 7
