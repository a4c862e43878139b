"""Celery tasks of an application's own as steps: their own message, their own retries, their outcome the step's."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from celery import Celery
from nodes import legacy
from nodes.legacy_nodes import AROUND, TaskTraffic, legacy_worker, of_execution, results_url
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import ExecutionFailed, ExecutionHandle

pytest_plugins = ("nodes.fixtures",)

SLOTS = 2
LIMIT = 4096


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return AROUND


@pytest.fixture(scope="module")
def node(site: Site, celery_worker_cluster: Any) -> Iterator[WorkerNode]:
    """The application's worker, with the orchestrator."""
    found = legacy_worker(site, "legacy", [legacy.LEGACY], size=SLOTS)
    yield found
    found.teardown()


@pytest.fixture(scope="module")
def stranger(site: Site, celery_worker_cluster: Any) -> Iterator[WorkerNode]:
    """A worker of the same application without the orchestrator."""
    found = legacy_worker(site, "stranger", [legacy.STRANGER], size=1)
    yield found
    found.teardown()


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[Celery]:
    """What sends messages to the application's workers."""
    app = Celery("client", broker=site.broker_url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def traffic(site: Site) -> Iterator[TaskTraffic]:
    """Every message."""
    with TaskTraffic(site.broker) as traffic:
        yield traffic


def attempts(site: Site, handle: ExecutionHandle, path: str = "called") -> list[int]:
    return [call.attempt for call in site.witness.calls(handle.id, path)]


def failure(handle: ExecutionHandle, within: float = 30) -> dict[str, Any]:
    """The error that an execution fails with."""
    with pytest.raises(ExecutionFailed) as caught:
        handle.result(within)
    assert caught.value.error is not None
    return dict(caught.value.error)


def test_a_task_runs_between_steps_by_its_own_message_of_ids_only(
    site: Site, node: WorkerNode, traffic: TaskTraffic
) -> None:
    handle = site.start("after-it", {"b": 22, "secret": "x" * 50_000})
    assert handle.result(30) == 42
    settled_once(site, handle)
    assert attempts(site, handle) == [1]
    (message,) = of_execution(traffic.of_task("legacy.add"), handle.id)
    assert message.queue == legacy.LEGACY
    assert len(message.raw) < LIMIT
    assert message.headers["shadow"] is None
    assert node.owns(site.witness.calls(handle.id, "called")[0].pid)


def test_a_task_may_be_all_of_a_workflow(site: Site, node: WorkerNode) -> None:
    assert site.start("alone", {"a": 1}).result(30) == 2
    handles = site.orchestrator.start_many("alone", [(None, {"a": n}) for n in range(70)])
    assert [handle.result(30) for handle in handles] == [n + 1 for n in range(70)]


def test_a_task_that_retries_itself_is_called_again_and_its_successor_once(
    site: Site, node: WorkerNode, traffic: TaskTraffic
) -> None:
    handle = site.start("retried", {"failures": 2})
    called = handle.result(30)
    assert called["retries"] == 2
    settled_once(site, handle)
    assert attempts(site, handle) == [1, 2, 3]
    assert attempts(site, handle, "behind") == [1]
    waits = site.events(handle, "step_waiting")
    assert [event["attempt"] for event in waits] == [1, 2]
    messages = of_execution(traffic.of_task("legacy.flaky"), handle.id)
    assert len(messages) == 3, "Celery publishes none itself"
    assert {message.headers["id"] for message in messages} == {called["id"]}, "one task to Celery, as before"
    assert {call.key for call in site.witness.calls(handle.id, "called")} == {f"{handle.id}/called"}
    assert site.step(handle, "called")["failures"] == 0


def test_retries_used_up_fail_the_step_with_the_task_s_own_error(site: Site, node: WorkerNode) -> None:
    handle = site.start("retried", {"failures": 9})
    assert failure(handle)["name"] == "Late"
    assert attempts(site, handle) == [1, 2, 3, 4]
    assert attempts(site, handle, "behind") == []


def test_another_attempt_of_the_step_s_policy_has_all_the_retries_anew(site: Site, node: WorkerNode) -> None:
    handle = site.start("retried-anew")
    assert failure(handle)["name"] == "Late"
    assert attempts(site, handle) == list(range(1, 9)), "twice the first call and three retries"
    assert site.step(handle, "called")["failures"] == 2


def test_a_task_that_celery_retries_is_called_again(site: Site, node: WorkerNode) -> None:
    handle = site.start("auto-retried")
    assert handle.result(30) == 2
    assert attempts(site, handle) == [1, 2, 3]
    assert attempts(site, handle, "behind") == [1]


def test_arguments_that_a_task_retries_with_are_kept_in_the_ledger(
    site: Site, node: WorkerNode, traffic: TaskTraffic
) -> None:
    handle = site.start("retried-otherwise")
    assert handle.result(30) == [3, 2, 1]
    assert {len(message.raw) < LIMIT for message in of_execution(traffic.of_task("legacy.counting_down"), handle.id)}


def test_a_failed_task_fails_its_execution(site: Site, node: WorkerNode) -> None:
    handle = site.start("refused-by-task")
    error = failure(handle)
    assert (error["step"], error["name"], error["message"], error["category"]) == (
        "called",
        "ValueError",
        "as told",
        "system",
    )
    assert "legacy.py" in error["traceback"]
    settled_once(site, handle)
    assert attempts(site, handle) == [1], "a task retries itself, or not at all"


def test_a_failed_task_is_caught_as_any_step(site: Site, node: WorkerNode) -> None:
    assert site.start("caught-from-task").result(30) == "business"


def test_a_task_is_undone_when_its_execution_fails(site: Site, node: WorkerNode) -> None:
    handle = site.start("undone")
    site.status(handle, "compensated")
    assert site.step(handle, "undo:called")["output"] == 2


def test_chains_and_joins_go_on_through_tasks(site: Site, node: WorkerNode) -> None:
    handles = [site.start("around") for _ in range(5)]
    for handle in handles:
        assert handle.result(30) == 2 + 3 + 2
        settled_once(site, handle)
        assert set(Counter(call.path for call in site.witness.calls(handle.id)).values()) == {1}


def test_loops_over_tasks_keep_their_order(site: Site, node: WorkerNode) -> None:
    handle = site.start("looped", {"items": list(range(7))})
    assert handle.result(30) == [item + 10 + item for item in range(7)]
    settled_once(site, handle)
    assert set(Counter(call.path for call in site.witness.calls(handle.id)).values()) == {1}


def test_a_doubled_message_calls_the_task_once(site: Site, node: WorkerNode, traffic: TaskTraffic) -> None:
    handle = site.start("held-task")
    site.call(handle, "called")
    (message,) = of_execution(traffic.of_task("legacy.hold"), handle.id)
    for _ in range(3):
        site.deliver(message)
    eventually(lambda: not site.broker.length(legacy.LEGACY), "the copies are taken")
    site.open(handle)
    assert handle.result(30) == 7
    for _ in range(3):
        site.deliver(message)
    # Behind them, so that they are worked on by then.
    for other in [site.start("alone", {"a": 1}) for _ in range(2 * SLOTS)]:
        assert other.result(30) == 2
    assert attempts(site, handle) == attempts(site, handle, "behind") == [1]
    settled_once(site, handle)


@pytest.mark.parametrize("name", ["held-task", "held-late-task"])
def test_a_task_whose_process_is_killed_is_called_again(site: Site, node: WorkerNode, name: str) -> None:
    handle = site.start(name)
    os.kill(site.call(handle, "called").pid, signal.SIGKILL)
    assert handle.result(30) == 7
    settled_once(site, handle)
    assert attempts(site, handle) == [1, 2]
    assert site.step(handle, "called")["failures"] == 0, "a death is no failure, and no refusal"
    assert stored(site, task_id(handle)) == ("SUCCESS", 7)


def test_messages_that_the_broker_forgot_are_sent_again(site: Site, node: WorkerNode) -> None:
    blocking = [site.start("held-task") for _ in range(SLOTS)]
    for handle in blocking:
        site.call(handle, "called")
    handles = [site.start("alone", {"a": n}) for n in range(5)]
    eventually(lambda: site.broker.length(legacy.LEGACY) >= 1, "they wait")
    site.broker.flush()
    for handle in blocking:
        site.open(handle)
    for n, handle in enumerate(handles):
        assert handle.result(30) == n + 1
        assert attempts(site, handle) == [1]
    for handle in blocking:
        assert handle.result(30) == 7


def test_a_worker_without_the_orchestrator_refuses_and_calls_nothing(
    site: Site, node: WorkerNode, stranger: WorkerNode
) -> None:
    plain = site.witness.folder / "plain"
    before = plain.read_text() if plain.exists() else ""
    handle = site.start("strange")
    error = failure(handle, within=15)
    assert error["name"] == "TaskRefused"
    assert "init_app" in error["message"]
    assert attempts(site, handle) == []
    assert (plain.read_text() if plain.exists() else "") == before
    assert "must be an iterable" in stranger.container.logs()
    assert site.step(handle, "called")["attempt"] == 1
    settled_once(site, handle)


def test_a_task_that_no_worker_knows_fails_its_step(site: Site, node: WorkerNode) -> None:
    assert failure(site.start("unknown"))["name"] == "UnknownTask"


def test_a_revoked_task_fails_its_step(site: Site, node: WorkerNode, client: Celery) -> None:
    blocking = [site.start("held-task") for _ in range(SLOTS)]
    for handle in blocking:
        site.call(handle, "called")
    handle = site.start("alone", {"a": 1})
    client.control.revoke(task_id(handle))
    eventually(
        lambda: task_id(handle) in str(client.control.inspect(timeout=1).revoked()), "the worker knows", within=15
    )
    for other in blocking:
        site.open(other)
    error = failure(handle)
    assert (error["category"], error["name"]) == ("cancelled", "TaskRevoked")
    assert attempts(site, handle) == []


def test_arguments_that_do_not_fit_fail_before_the_call(site: Site, node: WorkerNode) -> None:
    handle = site.start("misfit")
    error = failure(handle)
    assert error["name"] == "InvalidInput"
    assert "unexpected keyword argument 'c'" in error["message"]
    assert attempts(site, handle) == []


@pytest.mark.parametrize(("how", "name"), [("ignore", "TaskIgnored"), ("reject", "TaskRejected")])
def test_a_task_that_has_no_outcome_fails(site: Site, node: WorkerNode, how: str, name: str) -> None:
    handle = site.start("leaving", {"how": how})
    assert failure(handle)["name"] == name
    assert attempts(site, handle) == [1]


def test_a_task_that_puts_its_message_back_is_called_again(site: Site, node: WorkerNode) -> None:
    handle = site.start("leaving", {"how": "put back"})
    assert handle.result(30) is None
    assert attempts(site, handle) == [1, 2]


@pytest.mark.parametrize("name", ["too-slow", "much-too-slow", "timed-by-step"])
def test_a_task_that_takes_too_long_fails_once(site: Site, node: WorkerNode, name: str) -> None:
    handle = site.start(name)
    assert failure(handle)["category"] == "timeout"
    assert attempts(site, handle) == [1]
    settled_once(site, handle)
    state, _ = eventually(lambda: stored(site, task_id(handle)), "its own results know, too")
    assert state == "FAILURE"


def test_the_limit_of_the_application_itself_is_known_while_the_task_runs(site: Site, node: WorkerNode) -> None:
    handle = site.start("held-late-task")
    site.step_status(handle, "called", "running")
    seconds = "SELECT extract(epoch FROM due_at - started_at) FROM orchestrator.step WHERE execution_id = :id"
    assert 290 < float(site.value(seconds, id=handle.id)) <= 300
    site.open(handle)
    handle.result(30)


def test_a_task_that_nothing_can_interrupt_is_killed_at_its_hard_limit_and_not_called_again(
    site: Site, node: WorkerNode
) -> None:
    handle = site.start("deaf-and-slow")
    error = failure(handle)
    assert (error["category"], error["name"]) == ("timeout", "TimeLimitExceeded")
    # As many as there are slots, in which a second call would be ahead of them.
    assert [other.result(30) for other in [site.start("alone", {"a": 1}) for _ in range(SLOTS)]] == [2] * SLOTS
    assert attempts(site, handle) == [1]
    settled_once(site, handle)


def test_a_result_that_is_no_json_fails(site: Site, node: WorkerNode) -> None:
    handle = site.start("no-json")
    assert failure(handle)["name"] in {"PayloadError", "EncodeError"}


def test_the_application_s_own_results_and_plain_calls_are_as_before(
    site: Site, node: WorkerNode, client: Celery
) -> None:
    handle = site.start("retried", {"failures": 1})
    found = handle.result(30)
    assert stored(site, task_id(handle)) == ("SUCCESS", found)
    plain = client.send_task("legacy.flaky", kwargs={"failures": 2}, queue=legacy.LEGACY)
    eventually(lambda: (stored(site, plain.id) or ("",))[0] == "SUCCESS", "a plain call ends")
    assert stored(site, plain.id) == ("SUCCESS", {"retries": 2, "id": plain.id})
    # A header that somebody copies makes no step.
    header = {"orchestrator": [handle.id, str(uuid.uuid4()), "called"]}
    copied = client.send_task("legacy.add", (1, 2), queue=legacy.LEGACY, headers=header)
    eventually(lambda: stored(site, copied.id) == ("SUCCESS", 3), "it is called as it is")


def test_a_retry_that_waits_ends_with_its_execution(site: Site, node: WorkerNode) -> None:
    handle = site.start("overtaken-retry")
    site.step_status(handle, "called", "waiting")
    site.open(handle, "refusal")
    assert failure(handle)["step"] == "fails"
    assert site.steps(handle)["called"] == "cancelled"
    assert attempts(site, handle) == [1]


def test_a_message_stays_small_however_long_the_names(site: Site, node: WorkerNode) -> None:
    site.start("long-task")
    (message,) = eventually(lambda: site.waiting("q" * 100), "it is published")
    assert len(message.raw) < LIMIT


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_pools_without_processes_call_tasks_too_also_after_a_lost_connection(
    site: Site, node: WorkerNode, pool: str
) -> None:
    others = site.broker.connections()
    found = legacy_worker(site, pool, ["threads"], pool=pool)
    try:
        for _ in range(2):
            handles = [site.start("threaded-tasks") for _ in range(4)]
            for handle in handles:
                assert handle.result(30) == 1
                assert attempts(site, handle) == [1, 2]
                settled_once(site, handle)
            site.broker.cut(others)
            eventually(lambda: "Connection to broker lost" in found.container.logs(), "it notices")
    finally:
        found.teardown()


def task_id(handle: ExecutionHandle, path: str = "called") -> str:
    """The id of a step's Celery task, as the page says."""
    return str(uuid.uuid5(uuid.UUID(handle.id), f"task {path}"))


def stored(site: Site, task: str) -> tuple[str, Any] | None:
    """State and result of a task in the application's own results; None when there are none."""
    with Celery("reader", backend=results_url(site), set_as_current=False) as app:
        found = app.backend.get(app.backend.get_key_for_task(task))
    if found is None:
        return None
    meta = json.loads(found)
    return meta["status"], meta["result"]
