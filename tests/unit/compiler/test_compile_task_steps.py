"""Steps that are Celery tasks of the application's own: alone in their messages, on their own queues."""

from __future__ import annotations

from typing import Any

from orchestrator.compiler.compile import compile_plan
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.plan import Chain, Chord, Plan
from orchestrator.dispatch.bundle import bundled
from orchestrator.model.definition import Compensation, Definition, Step
from orchestrator.model.identity import undo_path
from orchestrator.model.policy import RetryPolicy
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.state import ExecutionStatus

ROUTES = {"shop.send": "mail"}


def graph(*steps: Step, **options: Any) -> Graph:
    return Graph(Definition(name="w", steps=steps, **options), "q", lambda task: ROUTES.get(task, "celery"))


def step(name: str, *after: str, **options: Any) -> Step:
    return Step(id=name, activity="noop", after=after, **options)


def called(name: str, *after: str, task: str = "shop.send", **options: Any) -> Step:
    return Step(id=name, kind="task", spec={"task": task}, after=after, **options)


def compiled(found: Graph, *ready: str, container: str | None = None) -> Plan:
    return compile_plan(found, Snapshot(status=ExecutionStatus.RUNNING, ready=ready, container=container))


def shape(plan: Plan) -> list[list[tuple[tuple[str, ...], str | None]]]:
    parts = []
    for part in plan.parts:
        assert isinstance(part, Chain), "no chord goes on from a task"
        parts.append([(segment.paths, segment.task) for segment in part.segments])
    return parts


def test_a_task_never_shares_a_message_whatever_the_definition_says() -> None:
    found = graph(step("a"), called("b", "a", queue="q", fuse=True), step("c", "b"), step("d", "c"), fuse=True)
    assert shape(compiled(found, "a")) == [[(("a",), None)]]
    assert shape(compiled(found, "b")) == [[(("b",), "shop.send")]]
    assert shape(compiled(found, "c")) == [[(("c", "d"), None)]]


def test_a_chain_ends_before_a_task() -> None:
    found = graph(step("a"), step("b", "a", queue="other"), called("c", "b"))
    assert shape(compiled(found, "a")) == [[(("a",), None), (("b",), None)]]


def test_a_join_with_a_task_on_either_side_is_the_ledger_s() -> None:
    behind = graph(step("a"), step("b"), called("c", "a", "b"))
    assert shape(compiled(behind, "a", "b")) == [[(("a",), None)], [(("b",), None)]]
    before = graph(step("a"), called("b"), step("c", "a", "b"))
    assert shape(compiled(before, "a", "b")) == [[(("a",), None)], [(("b",), "shop.send")]]
    neither = compiled(graph(step("a"), step("b"), step("c", "a", "b")), "a", "b")
    assert isinstance(neither.parts[0], Chord)


def test_lanes_that_begin_with_a_task_are_messages_of_their_own() -> None:
    loop = Step(id="loop", kind="each", spec={"items": [1, 2], "concurrency": 2}, steps=(called("send"),))
    plan = compiled(graph(loop), "loop[0].send", "loop[1].send", container="loop")
    assert shape(plan) == [[(("loop[0].send",), "shop.send")], [(("loop[1].send",), "shop.send")]]


def test_a_task_s_queue_is_the_step_s_own_or_the_application_s_route() -> None:
    found = graph(
        called("a"), called("b", task="shop.other"), called("c", queue="named"), step("d"), queue="definition"
    )
    assert [found.queue(path) for path in "abcd"] == ["mail", "celery", "named", "definition"]
    assert [row["queue"] for row in found.root_rows()] == ["mail", "celery", "named", "definition"]


def test_a_task_s_compensation_is_an_activity_on_the_activities_queue() -> None:
    found = graph(
        called("a", compensation=Compensation(activity="undo")),
        called("b", compensation=Compensation(activity="undo", queue="named")),
    )
    assert [found.queue(undo_path(path)) for path in "ab"] == ["q", "named"]


def test_a_task_is_attempted_once_unless_its_own_step_says_otherwise() -> None:
    five = RetryPolicy(max_attempts=5)
    found = graph(called("a"), called("b", retry=five), step("c"), retry=RetryPolicy(max_attempts=4))
    assert [found.retry(path).max_attempts for path in "abc"] == [1, 5, 4]


def test_executions_that_begin_with_a_task_share_no_message() -> None:
    ids = [str(number) for number in range(100)]
    assert {len(found.execution_ids) for found in bundled(ids, "d", compiled(graph(called("a")), "a"))} == {1}
    assert {len(found.execution_ids) for found in bundled(ids, "d", compiled(graph(step("a")), "a"))} != {1}
