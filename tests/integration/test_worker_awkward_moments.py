"""Commands at awkward moments, on real workers: nothing is left out, done twice or left hanging."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Site
from nodes.waiting import eventually

from orchestrator import ControlRefused, ExecutionHandle
from orchestrator.engine import reopen
from orchestrator.ledger import controls, timers

pytest_plugins = ("nodes.fixtures",)

ANN: dict[str, Any] = {"actor": "ann", "reason": "a test"}


def calls(site: Site, handle: ExecutionHandle) -> Counter[str]:
    return Counter(call.path for call in site.witness.calls(handle.id))


def children(site: Site, handle: ExecutionHandle, number: int = 1) -> list[ExecutionHandle]:
    """The children of an execution, the oldest first, once there are so many."""
    found = eventually(
        lambda: (
            rows
            if len(
                rows := site.execute(
                    "SELECT id FROM orchestrator.execution WHERE parent_id = :id ORDER BY created_at", id=handle.id
                )
            )
            >= number
            else None
        ),
        f"{number} children",
    )
    return [site.orchestrator.execution(str(row[0])) for row in found]


def test_a_join_behind_a_failure_in_a_pause_is_not_decided_and_a_retry_leaves_nothing_out(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("fails-while-paused")
    site.call(handle, "left")
    site.call(handle, "right")
    site.orchestrator.pause(handle.id, **ANN)
    site.open(handle, "refusal")
    site.step_status(handle, "left", "failed")
    site.open(handle)
    site.step_status(handle, "right", "succeeded")
    site.status(handle, "paused")
    site.orchestrator.resume(handle.id, **ANN)
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == "joined"
    assert calls(site, handle) == {"left": 2, "right": 1, "joined": 1, "last": 1}


@pytest.mark.parametrize("child_first", [False, True])
def test_a_child_that_could_not_go_back_is_tried_again_with_its_parent(
    site: Site, worker: WorkerNode, child_first: bool
) -> None:
    handle = site.start("parent-that-cannot-go-back")
    site.status(handle, "compensation_failed")
    (child,) = children(site, handle)
    assert child.status() == "compensation_failed"
    if child_first:
        site.orchestrator.compensate(child.id, **ANN)
        site.status(child, "compensated")
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensated")
    assert child.status() == "compensated"
    assert calls(site, child)["undo:work"] == 2


def test_a_second_child_is_undone_like_the_first(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-begun-again")
    (first,) = children(site, handle)
    site.call(first, "work")
    site.orchestrator.cancel(first.id, **ANN)
    site.open(first)
    site.status(first, "compensated")
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, **ANN)
    second = children(site, handle, 2)[1]
    site.open(second)
    site.status(handle, "compensated")
    assert second.status() == "compensated"
    assert calls(site, second)["undo:work"] == 1


def test_a_detached_child_does_not_go_back_with_its_parent(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-left-behind")
    child = site.orchestrator.execution(handle.result(30)["execution_id"])
    site.call(child, "work")
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensated")
    assert calls(site, handle) == {"work": 1, "undo:work": 1}
    assert child.status() == "running"
    site.open(child)
    site.status(child, "succeeded")
    assert calls(site, child) == {"work": 1, "more": 1}


def test_once_a_cancellation_has_returned_children_start_nothing_while_their_parent_is_busy(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("busy-parent")
    site.call(handle, "busy")
    (child,) = children(site, handle)
    site.call(child, "first")
    site.orchestrator.cancel(handle.id, **ANN)
    assert child.status() == "cancelling"
    site.open(child)
    site.status(child, "cancelled")
    assert calls(site, child) == {"first": 1}
    site.open(handle)
    site.status(handle, "cancelled")


def test_a_child_that_was_retried_by_itself_is_not_begun_again_by_its_parent(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-of-child-failing-once")
    site.status(handle, "failed")
    (child,) = children(site, handle)
    site.orchestrator.retry(child.id, **ANN)
    site.status(child, "succeeded")
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == "end"
    assert len(children(site, handle)) == 1


def test_a_retry_whose_connection_is_lost_halfway_begins_no_other_child(
    site: Site, worker: WorkerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = site.start("parent-of-child-failing-once")
    site.status(handle, "failed")
    real = reopen.retry
    lost: list[str] = []

    def lose_the_connection(core: Any, connection: Any, execution_id: str, *args: Any, **options: Any) -> None:
        if execution_id != handle.id and not lost:
            lost.append(execution_id)
            site.execute(
                "SELECT pg_terminate_backend(:pid)",
                pid=connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one(),
            )
        real(core, connection, execution_id, *args, **options)

    monkeypatch.setattr(reopen, "retry", lose_the_connection)
    try:
        site.orchestrator.retry(handle.id, **ANN)
    except ControlRefused:
        # What was lost is only the reply: the parent goes on, and learns that its child has failed.
        site.status(handle, "failed")
        monkeypatch.undo()
        site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == "end"
    assert len(children(site, handle)) == 1
    assert lost


@pytest.mark.parametrize(("name", "result"), [("tolerant-of-all", "done"), ("catches-all", "done")])
def test_an_attempt_that_was_called_off_is_borne_by_nobody_and_made_again_by_a_retry(
    site: Site, worker: WorkerNode, name: str, result: str
) -> None:
    handle = site.start(name)
    site.call(handle, "work")
    site.orchestrator.cancel(handle.id, **ANN)
    site.status(handle, "cancelled")
    site.orchestrator.retry(handle.id, **ANN)
    handle.result(30)
    assert site.step(handle, "work")["output"] == result
    assert calls(site, handle)["work"] == 2
    assert "rescue" not in calls(site, handle)


def test_nobody_loses_a_race_that_a_retry_has_opened_again(site: Site, worker: WorkerNode) -> None:
    handle = site.start("race-open-again")
    site.call(handle, "b1")
    site.call(handle, "fails")
    site.step_status(handle, "two", "blocked")
    site.step_status(handle, "w", "waiting")
    site.open(handle, "refusal")
    site.status(handle, "failing")
    site.open(handle)
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == "end"
    assert calls(site, handle)["b2"] == 1


def test_a_retry_that_is_to_come_by_itself_is_called_off_by_a_cancellation(site: Site, worker: WorkerNode) -> None:
    handle = site.start("retried-later")
    site.status(handle, "failed")
    site.orchestrator.cancel(handle.id, **ANN)
    assert site.value("SELECT retry_at FROM orchestrator.execution WHERE id = :id", id=handle.id) is None
    with pytest.raises(ControlRefused, match="has ended failed"):
        site.orchestrator.cancel(handle.id, **ANN)


def test_a_child_that_nobody_waits_for_any_more_is_not_retried_by_itself(site: Site, worker: WorkerNode) -> None:
    handle = site.start("gives-up-waiting")
    (child,) = children(site, handle)
    site.status(child, "failed")
    site.open(handle, "refusal")
    site.call(handle, "winner")
    site.step_status(handle, "child", "cancelled")
    site.execute("UPDATE orchestrator.execution SET retry_at = now() WHERE id = :id", id=child.id)
    with site.orchestrator.core.database.connect() as connection:
        assert child.id not in timers.retries_due(connection, 100)
    site.open(handle)
    site.status(handle, "succeeded")
    assert calls(site, child) == {"fails": 1}


def test_nothing_is_retried_by_itself_in_maintenance(site: Site, worker: WorkerNode) -> None:
    handle = site.start("retried-later")
    site.status(handle, "failed")
    site.orchestrator.maintenance(True, **ANN)
    try:
        site.execute("UPDATE orchestrator.execution SET retry_at = now() WHERE id = :id", id=handle.id)
        with site.orchestrator.core.database.connect() as connection:
            assert handle.id not in timers.retries_due(connection, 100)
    finally:
        site.orchestrator.maintenance(False, **ANN)
    assert handle.result(30) == 2


def test_a_child_started_after_its_parent_was_paused_stands_still_with_it(site: Site, worker: WorkerNode) -> None:
    handle = site.start("busy-parent")
    site.call(handle, "busy")
    (child,) = children(site, handle)
    site.call(child, "first")
    site.orchestrator.pause(handle.id, children=False, **ANN)
    with site.orchestrator.core.database.connect() as connection:
        assert controls.pause_with_parent(connection, child.id)
        assert not controls.pause_with_parent(connection, child.id)
    site.open(handle)
    site.open(child)
    site.status(child, "paused")
    site.orchestrator.resume(handle.id, **ANN)
    handle.result(30)


def test_what_is_held_in_maintenance_does_not_pass_its_deadline(site: Site, worker: WorkerNode) -> None:
    site.orchestrator.maintenance(True, **ANN)
    try:
        handle = site.start("fails-once", {"n": 1}, timeout=60)
        site.execute(
            "UPDATE orchestrator.execution SET created_at = created_at - interval '1 h', "
            "deadline = deadline - interval '1 h' WHERE id = :id",
            id=handle.id,
        )
        with site.orchestrator.core.database.connect() as connection:
            assert handle.id not in timers.expire(connection, 100)
    finally:
        site.orchestrator.maintenance(False, **ANN)
    site.status(handle, "failed")


@pytest.mark.parametrize(("compensate", "ends"), [(None, "compensated"), (False, "cancelled")])
def test_whether_what_was_done_is_undone_holds_for_children_too(
    site: Site, worker: WorkerNode, compensate: bool | None, ends: str
) -> None:
    handle = site.start("undoing-parent")
    (child,) = children(site, handle)
    site.call(child, "two")
    site.orchestrator.cancel(handle.id, compensate=compensate, **ANN)
    site.open(child)
    site.status(handle, "cancelled")
    assert child.status() == ends
