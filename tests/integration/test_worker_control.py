"""What operators do to executions, on real workers: holding still, cancelling, taking up again, ending by hand."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Site, settled_once
from nodes.waiting import eventually

from orchestrator import ControlRefused, ExecutionFailed, ExecutionHandle, ExecutionNotFound

pytest_plugins = ("nodes.fixtures",)

ANN: dict[str, Any] = {"actor": "ann", "reason": "a test"}


def calls(site: Site, handle: ExecutionHandle) -> Counter[str]:
    """How often each step was called."""
    return Counter(call.path for call in site.witness.calls(handle.id))


def child_of(site: Site, handle: ExecutionHandle) -> ExecutionHandle:
    found = eventually(
        lambda: site.execute("SELECT id FROM orchestrator.execution WHERE parent_id = :id", id=handle.id), "a child"
    )
    return site.orchestrator.execution(str(found[0][0]))


def succeeded_once(site: Site, handle: ExecutionHandle) -> None:
    """What succeeded did so once, however often it was taken up again."""
    settled = Counter(event["path"] for event in site.events(handle, "step_succeeded"))
    assert settled
    assert set(settled.values()) == {1}


def audit(site: Site, handle: ExecutionHandle) -> list[tuple[str, str, str | None]]:
    rows = site.execute(
        "SELECT command, actor, reason FROM orchestrator.audit WHERE execution_id = :id ORDER BY id", id=handle.id
    )
    return [(row[0], row[1], row[2]) for row in rows]


# Holding still.


@pytest.mark.parametrize(("name", "end"), [("two-held", "end"), ("three", "end"), ("fans-out", "joined")])
def test_a_paused_execution_starts_nothing_and_goes_on_when_resumed(
    site: Site, worker: WorkerNode, name: str, end: str
) -> None:
    handle = site.start(name)
    site.call(handle, "first")
    site.orchestrator.pause(handle.id, **ANN)
    assert handle.status() == "pausing"
    site.open(handle)
    site.open(handle, "refusal")
    site.status(handle, "paused")
    assert calls(site, handle) == {"first": 1}
    site.orchestrator.resume(handle.id, **ANN)
    assert handle.result(30) == end
    settled_once(site, handle)
    assert audit(site, handle) == [("pause", "ann", "a test"), ("resume", "ann", "a test")]
    (paused,) = site.events(handle, "execution_pausing")
    assert paused["data"] == {"actor": "ann", "reason": "a test"}


def test_an_attempt_that_fails_while_paused_is_followed_by_another_once_resumed(site: Site, worker: WorkerNode) -> None:
    handle = site.start("retries")
    site.call(handle, "first")
    site.orchestrator.pause(handle.id, **ANN)
    site.open(handle, "refusal")
    site.status(handle, "paused")
    eventually(lambda: site.steps(handle) == {"first": "ready"}, "its time has come")
    site.orchestrator.resume(handle.id, **ANN)
    assert handle.result(30) == 2


def test_a_step_that_fails_for_good_while_paused_fails_its_execution_once_resumed(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("refuses")
    site.call(handle, "first")
    site.orchestrator.pause(handle.id, **ANN)
    site.open(handle, "refusal")
    site.status(handle, "paused")
    site.orchestrator.resume(handle.id, **ANN)
    site.status(handle, "failed")
    assert calls(site, handle) == {"first": 1}


def test_a_signal_is_accepted_while_paused_and_the_deadline_moves_by_the_pause(site: Site, worker: WorkerNode) -> None:
    handle = site.start("waits", timeout=300)
    site.step_status(handle, "approved", "waiting")
    site.orchestrator.pause(handle.id, **ANN)
    assert handle.status() == "paused"
    deadline = "SELECT deadline FROM orchestrator.execution WHERE id = :id"
    before = site.value(deadline, id=handle.id)
    site.execute(
        "UPDATE orchestrator.execution SET paused_at = paused_at - interval '1 h' WHERE id = :id", id=handle.id
    )
    site.orchestrator.signal(handle.id, "approval", "yes")
    site.step_status(handle, "approved", "ready")
    site.orchestrator.resume(handle.id, **ANN)
    moved = (site.value(deadline, id=handle.id) - before).total_seconds()
    assert 3600 <= moved < 3700
    assert handle.result(30) == "yes"


def test_children_are_paused_and_resumed_with_their_parent(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-held")
    child = child_of(site, handle)
    site.call(child, "work")
    site.orchestrator.pause(handle.id, **ANN)
    assert child.status() == "pausing"
    site.open(child)
    site.status(child, "paused")
    site.orchestrator.resume(handle.id, **ANN)
    assert handle.result(30) == "done"


def test_pausing_a_busy_execution_at_any_moment_loses_nothing(site: Site, worker: WorkerNode) -> None:
    handles = [site.start("fails-in-loop") for _ in range(4)]
    for round_ in range(30):
        handle = handles[round_ % len(handles)]
        try:
            site.orchestrator.pause(handle.id, **ANN)
            site.orchestrator.resume(handle.id, **ANN)
        except ControlRefused:
            continue  # it has ended in between
    for handle in handles:
        site.status(handle, "failed")
        site.orchestrator.retry(handle.id, **ANN)
        assert handle.result(30) == [10, 20, 30, 40, 50, 60]
        succeeded_once(site, handle)


# Cancelling.


def test_no_step_starts_after_a_cancellation_and_what_was_done_is_undone(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-held")
    child = child_of(site, handle)
    site.call(child, "work")
    site.orchestrator.cancel(handle.id, **ANN)
    started = len(site.events(child, "step_started"))
    site.open(child)
    site.status(child, "compensated")
    site.status(handle, "cancelled")
    assert "behind" not in site.steps(handle)
    assert started == 1
    assert audit(site, handle) == [("cancel", "ann", "a test")]
    with pytest.raises(ControlRefused, match="has ended cancelled"):
        site.orchestrator.cancel(handle.id, **ANN)


def test_children_may_go_on_without_their_parent(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-held")
    child = child_of(site, handle)
    site.call(child, "work")
    site.orchestrator.cancel(handle.id, children=False, **ANN)
    site.status(handle, "cancelled")
    assert child.status() == "running"
    site.open(child)
    child.result(30)


@pytest.mark.parametrize(("compensate", "ends"), [(None, "cancelled"), (True, "compensated")])
def test_what_was_done_stays_if_the_definition_says_so_unless_the_command_does(
    site: Site, worker: WorkerNode, compensate: bool | None, ends: str
) -> None:
    handle = site.start("leaves-it")
    site.call(handle, "two")
    site.orchestrator.cancel(handle.id, compensate=compensate, **ANN)
    site.open(handle)
    site.status(handle, ends)


def test_a_deadline_leaves_what_was_done_if_the_definition_says_so(site: Site, worker: WorkerNode) -> None:
    handle = site.start("leaves-it", timeout=1)
    eventually(lambda: handle.status() in {"timing_out", "timed_out"}, "its time is up")
    site.open(handle)
    site.status(handle, "timed_out")


def test_of_operators_at_the_same_moment_each_learns_what_became_of_it(site: Site, worker: WorkerNode) -> None:
    for _ in range(5):
        handle = site.start("waits")
        site.step_status(handle, "approved", "waiting")
        barrier = Barrier(4)

        def at_once(
            command: str, handle: ExecutionHandle = handle, barrier: Barrier = barrier
        ) -> ControlRefused | None:
            barrier.wait(10)
            try:
                if command == "complete":
                    site.orchestrator.complete(handle.id, "approved", output=command, **ANN)
                else:
                    getattr(site.orchestrator, command)(handle.id, **ANN)
            except ControlRefused as refused:
                return refused
            return None

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(at_once, ("cancel", "complete", "pause", "cancel")))
        eventually(lambda handle=handle: handle.status() in {"cancelled", "succeeded"}, "it has ended")  # type: ignore[misc]
        settled_once(site, handle)


# Taking up again.


def test_a_failed_execution_goes_on_where_it_failed_and_keeps_what_is_done(site: Site, worker: WorkerNode) -> None:
    handle = site.start("fails-once", {"n": 1})
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == [1, 2, 1]
    assert calls(site, handle) == {"before": 1, "fails": 2, "behind": 1}
    assert audit(site, handle) == [("retry", "ann", "a test")]
    with pytest.raises(ControlRefused, match="has ended succeeded"):
        site.orchestrator.retry(handle.id, **ANN)


def test_another_input_is_for_the_steps_to_come(site: Site, worker: WorkerNode) -> None:
    handle = site.start("fails-once", {"n": 1})
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, input={"n": 2}, **ANN)
    assert handle.result(30) == [1, 2, 2]


def test_what_was_cancelled_with_it_goes_back_to_where_it_stood(site: Site, worker: WorkerNode) -> None:
    handle = site.start("fails-beside")
    site.call(handle, "held")
    site.step_status(handle, "long", "waiting")
    due = site.step(handle, "long")["due_at"]
    site.call(handle, "fails")
    site.open(handle, "refusal")
    site.status(handle, "failing")
    site.open(handle)
    site.status(handle, "failed")
    assert site.steps(handle)["long"] == "cancelled"
    site.orchestrator.retry(handle.id, **ANN)
    assert due is not None
    assert site.step(handle, "long")["due_at"] == due
    site.orchestrator.complete(handle.id, "long", **ANN)
    assert handle.result(30) == "held"
    assert calls(site, handle) == {"held": 1, "fails": 2, "behind": 1}
    succeeded_once(site, handle)


@pytest.mark.parametrize(
    ("name", "result", "repeated"),
    [
        ("fails-in-loop", [10, 20, 30, 40, 50, 60], {"loop[1].two"}),
        ("fails-in-repeat", 2, {"again[1].one"}),
        ("fails-in-block", 3, {"box[0].fails"}),
        ("caught-before", "rescued", {"fails"}),
    ],
)
def test_bodies_and_branches_go_on_where_they_were(
    site: Site, worker: WorkerNode, name: str, result: Any, repeated: set[str]
) -> None:
    handle = site.start(name, {"left": True})
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == result
    assert {path for path, count in calls(site, handle).items() if count > 1} == repeated
    succeeded_once(site, handle)


def test_a_failed_child_goes_on_with_its_parent(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-of-once")
    site.status(handle, "failed")
    child = child_of(site, handle)
    site.orchestrator.retry(handle.id, **ANN)
    handle.result(30)
    assert child.result(30) == [5, 2, 5]
    assert calls(site, child)["before"] == 1


def test_a_child_that_went_back_is_followed_by_another(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-held")
    child = child_of(site, handle)
    site.call(child, "work")
    site.orchestrator.cancel(child.id, **ANN)
    site.open(child)
    site.status(child, "compensated")
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, **ANN)
    other = eventually(
        lambda: site.execute(
            "SELECT id FROM orchestrator.execution WHERE parent_id = :id AND id <> :child", id=handle.id, child=child.id
        ),
        "another child",
    )
    site.open(site.orchestrator.execution(str(other[0][0])))
    assert handle.result(30) == "done"


def test_a_cancelled_execution_goes_on_too(site: Site, worker: WorkerNode) -> None:
    handle = site.start("waits")
    site.step_status(handle, "approved", "waiting")
    site.orchestrator.cancel(handle.id, **ANN)
    site.status(handle, "cancelled")
    site.orchestrator.retry(handle.id, **ANN)
    site.step_status(handle, "approved", "waiting")
    site.orchestrator.signal(handle.id, "approval", "yes")
    assert handle.result(30) == "yes"
    assert calls(site, handle)["first"] == 1


def test_two_retries_at_the_same_moment_are_one(site: Site, worker: WorkerNode) -> None:
    handle = site.start("fails-once", {"n": 1})
    site.status(handle, "failed")
    barrier = Barrier(4)

    def again(_: int) -> bool:
        barrier.wait(10)
        try:
            site.orchestrator.retry(handle.id, **ANN)
        except ControlRefused:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(again, range(4))) == 1
    assert handle.result(30) == [1, 2, 1]
    succeeded_once(site, handle)


def test_a_failed_execution_is_retried_by_itself_if_its_definition_says_so(site: Site, worker: WorkerNode) -> None:
    handle = site.start("retried-by-itself", {"attempts": 2})
    assert handle.result(30) == 3
    assert calls(site, handle) == {"before": 1, "fails": 3}
    assert [command for command, actor, _ in audit(site, handle) if actor == "orchestrator"] == ["retry"] * 2
    hopeless = site.start("retried-by-itself", {"attempts": 9})
    with pytest.raises(ExecutionFailed):
        hopeless.result(30)
    assert calls(site, hopeless)["fails"] == 3


def test_a_parent_waits_for_a_child_that_is_retried_by_itself(site: Site, worker: WorkerNode) -> None:
    assert site.start("parent-of-retried").result(30) == 1


# By hand.


def test_a_failed_step_is_given_an_output_and_the_rest_goes_on(site: Site, worker: WorkerNode) -> None:
    handle = site.start("fails-once", {"n": 1})
    site.status(handle, "failed")
    site.orchestrator.skip(handle.id, "fails", output="by hand", **ANN)
    assert handle.result(30) == [1, "by hand", 1]
    assert calls(site, handle)["fails"] == 1
    assert audit(site, handle) == [("skip", "ann", "a test")]


def test_a_step_that_waits_is_ended_by_hand(site: Site, worker: WorkerNode) -> None:
    handle = site.start("waits")
    site.step_status(handle, "approved", "waiting")
    with pytest.raises(ControlRefused, match="step first is succeeded"):
        site.orchestrator.complete(handle.id, "first", **ANN)
    with pytest.raises(ControlRefused, match="no step behind so far"):
        site.orchestrator.complete(handle.id, "behind", **ANN)
    site.orchestrator.complete(handle.id, "approved", output={"by": "hand"}, **ANN)
    assert handle.result(30) == {"by": "hand"}
    assert audit(site, handle) == [("complete", "ann", "a test")]


def test_an_execution_that_has_ended_well_is_undone_on_demand(site: Site, worker: WorkerNode) -> None:
    handle = site.start("undone-on-demand", {"bad": 0})
    handle.result(30)
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensated")
    begun = [call.path for call in site.witness.calls(handle.id) if call.path.startswith("undo:")]
    assert begun == ["undo:three", "undo:two", "undo:one"]
    with pytest.raises(ControlRefused, match="compensated already"):
        site.orchestrator.compensate(handle.id, **ANN)


def test_only_what_came_after_a_step_is_undone_and_a_fork_does_that_again(site: Site, worker: WorkerNode) -> None:
    handle = site.start("undone-on-demand", {"bad": 0})
    handle.result(30)
    with pytest.raises(ControlRefused, match="step four was never attempted"):
        site.orchestrator.compensate(handle.id, to="four", **ANN)
    with pytest.raises(ControlRefused, match="nothing that it did after step three has a compensation"):
        site.orchestrator.compensate(handle.id, to="three", **ANN)
    site.orchestrator.compensate(handle.id, to="one", **ANN)
    site.status(handle, "compensated")
    begun = [call.path for call in site.witness.calls(handle.id) if call.path.startswith("undo:")]
    assert begun == ["undo:three", "undo:two"]
    forked = site.orchestrator.fork(handle.id, "three", **ANN)
    assert forked.result(30) == 3
    assert calls(site, forked) == {"two": 1, "three": 1}


def test_compensations_that_failed_are_tried_again_and_the_others_not(site: Site, worker: WorkerNode) -> None:
    handle = site.start("undone-on-demand", {"bad": 1})
    handle.result(30)
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensation_failed")
    assert site.steps(handle)["undo:one"] == "succeeded"
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensated")
    assert calls(site, handle)["undo:two"] == 2
    assert calls(site, handle)["undo:one"] == 1


def test_a_failed_compensation_stops_the_others_if_the_definition_says_so(site: Site, worker: WorkerNode) -> None:
    handle = site.start("stops-undoing", {"bad": 1})
    handle.result(30)
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensation_failed")
    assert site.steps(handle)["undo:one"] == "cancelled"
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensated")
    begun = [call.path for call in site.witness.calls(handle.id) if call.path.startswith("undo:")]
    assert begun == ["undo:two", "undo:two", "undo:one"]


# Forks.


def test_a_fork_copies_what_came_before_and_repeats_the_rest(site: Site, worker: WorkerNode) -> None:
    handle = site.start("diamond-to-fork", {"n": 0})
    assert handle.result(30) == ["b", [1, 2, 3], 0]
    forked = site.orchestrator.fork(handle.id, "d", input={"n": 10}, **ANN)
    assert forked.result(30) == ["b", [1, 2, 3], 10]
    assert calls(site, forked) == {"d": 1, "e": 1}
    again = site.orchestrator.fork(handle.id, "c", input={"n": 10}, **ANN)
    assert again.result(30) == ["b", [11, 12, 13], 10]
    assert "b" not in calls(site, again)
    whole = site.orchestrator.fork(handle.id, "a", **ANN)
    assert whole.result(30) == ["b", [1, 2, 3], 0]
    assert calls(site, whole)["a"] == 1
    settled_once(site, forked)


def test_a_fork_of_a_failed_execution_does_not_undo_what_the_first_one_did(site: Site, worker: WorkerNode) -> None:
    handle = site.start("stopped")
    site.status(handle, "failed")
    forked = site.orchestrator.fork(handle.id, "fails", **ANN)
    site.status(forked, "failed")
    site.orchestrator.skip(forked.id, "fails", **ANN)
    forked.result(30)
    assert not [path for path in site.steps(forked) if path.startswith("undo:")]
    with pytest.raises(ControlRefused, match="no step nowhere"):
        site.orchestrator.fork(handle.id, "nowhere", **ANN)


# Maintenance.


def test_a_step_that_no_worker_begins_in_time_fails_for_good(site: Site, worker: WorkerNode) -> None:
    handle = site.start("unbegun")
    assert handle.result(30) == "late"
    error = site.step(handle, "nobody")["error"]
    assert (error["category"], error["name"]) == ("timeout", "StartTimedOut")
    assert error["message"] == "no worker of queue nobody began it within 1 s"
    assert calls(site, handle) == {"before": 1, "late": 1}


def test_in_maintenance_starts_are_held_and_what_runs_is_finished(site: Site, worker: WorkerNode) -> None:
    before = site.start("parent-held")
    child = child_of(site, before)
    site.call(child, "work")
    assert site.orchestrator.maintenance(True, **ANN)
    try:
        assert not site.orchestrator.maintenance(True, **ANN)
        held = site.start("fails-once", {"n": 1}, timeout=60)
        site.open(child)
        assert before.result(30) == "done"
        assert held.status() == "created"
        facts = site.orchestrator.in_maintenance()
        assert facts is not None
        assert (facts.actor, facts.reason, facts.held) == ("ann", "a test", 1)
    finally:
        assert site.orchestrator.maintenance(False, **ANN)
    site.status(held, "failed")
    assert site.orchestrator.in_maintenance() is None


def test_whoever_does_not_exist_is_not_found(site: Site, worker: WorkerNode) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"
    for command in ("cancel", "pause", "resume", "retry", "compensate"):
        with pytest.raises(ExecutionNotFound):
            getattr(site.orchestrator, command)(nobody, **ANN)
