"""From what is ready to what is handed to Celery."""

from __future__ import annotations

from typing import Any

from orchestrator.compiler.compile import CHAIN_LIMIT, compile_plan
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.plan import Chain, Chord, Plan
from orchestrator.compiler.reverse import reverse
from orchestrator.model.definition import Compensation, Definition, Step
from orchestrator.model.snapshot import Attempted, Snapshot
from orchestrator.model.state import ExecutionStatus, StepStatus


def graph(*steps: Step, **options: Any) -> Graph:
    return Graph(Definition(name="w", steps=steps, **options), "q")


def step(name: str, *after: str, **options: Any) -> Step:
    return Step(id=name, activity="noop", after=after, **options)


def compiled(found: Graph, *ready: str, settled: frozenset[str] = frozenset()) -> Plan:
    return compile_plan(found, Snapshot(status=ExecutionStatus.RUNNING, ready=ready, settled=settled))


def heads(part: Chain | Chord) -> list[str]:
    assert isinstance(part, Chain)
    return [segment.head for segment in part.segments]


def test_consecutive_steps_on_one_queue_are_one_segment() -> None:
    (part,) = compiled(graph(step("a"), step("b", "a"), step("c", "b")), "a").parts
    assert isinstance(part, Chain)
    assert [segment.paths for segment in part.segments] == [("a", "b", "c")]


def test_a_change_of_queue_makes_a_chain() -> None:
    (part,) = compiled(graph(step("a"), step("b", "a", queue="other"), step("c", "b", queue="other")), "a").parts
    assert isinstance(part, Chain)
    assert [(segment.paths, segment.queue) for segment in part.segments] == [(("a",), "q"), (("b", "c"), "other")]


def test_an_unfused_step_stands_alone() -> None:
    (part,) = compiled(graph(step("a"), step("b", "a", fuse=False), step("c", "b")), "a").parts
    assert heads(part) == ["a", "b", "c"]


def test_an_unfused_definition_gives_one_task_a_step_but_a_step_may_say_otherwise() -> None:
    found = graph(step("a"), step("b", "a", fuse=True), step("c", "b", fuse=True), fuse=False)
    (part,) = compiled(found, "a").parts
    assert isinstance(part, Chain)
    assert [segment.paths for segment in part.segments] == [("a",), ("b", "c")]


def test_a_chain_carries_a_bounded_number_of_segments() -> None:
    steps = [step("s0"), *(step(f"s{i}", f"s{i - 1}") for i in range(1, 40))]
    (part,) = compiled(graph(*steps, fuse=False), "s0").parts
    assert heads(part) == [f"s{i}" for i in range(CHAIN_LIMIT)]


def test_branches_that_complete_a_join_are_a_chord_with_one_segment_as_body() -> None:
    found = graph(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("e", "d"))
    (part,) = compiled(found, "b", "c").parts
    assert isinstance(part, Chord)
    assert [segment.paths for segment in part.header] == [("b",), ("c",)]
    assert part.body.paths == ("d", "e")


def test_a_branch_that_changes_queue_is_no_header_because_canvases_do_not_nest() -> None:
    found = graph(step("a"), step("b", "a"), step("b2", "b", queue="x"), step("c", "a"), step("d", "b2", "c"))
    first, second = compiled(found, "b", "c").parts
    assert (heads(first), heads(second)) == (["b", "b2"], ["c"])


def test_a_chord_is_no_barrier_for_a_join_that_needs_less() -> None:
    """e needs b and c only: a chord of b, c and d would make it wait for d."""
    found = graph(step("a"), step("b", "a"), step("c", "a"), step("d", "a"), step("e", "b", "c"), step("f", "e", "d"))
    parts = compiled(found, "b", "c", "d").parts
    chords = [part for part in parts if isinstance(part, Chord)]
    assert [([s.head for s in part.header], part.body.head) for part in chords] == [(["b", "c"], "e")]
    assert [heads(part) for part in parts if isinstance(part, Chain)] == [["d"]]


def test_a_join_with_a_parent_still_to_come_is_left_to_the_ledger() -> None:
    found = graph(step("a"), step("b", "a"), step("c", "a"), step("x"), step("d", "b", "c", "x"))
    assert [heads(part) for part in compiled(found, "b", "c").parts] == [["b"], ["c"]]


def test_recovery_renders_the_unsettled_rest_of_a_header_as_a_chord() -> None:
    found = graph(step("a"), step("b", "a"), step("c", "a"), step("d", "a"), step("e", "b", "c", "d"))
    (part,) = compiled(found, "c", "d", settled=frozenset({"b"})).parts
    assert isinstance(part, Chord)
    assert [segment.head for segment in part.header] == ["c", "d"]


def test_a_branch_that_feeds_two_joins_is_no_header() -> None:
    found = graph(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("e", "b", "d"))
    assert [heads(part) for part in compiled(found, "b", "c").parts] == [["b"], ["c"]]


def undoable(name: str, *after: str, **options: Any) -> Step:
    return step(name, *after, compensation=Compensation(activity="undo"), **options)


def test_compensations_are_a_chain_of_single_tasks_in_the_ledgers_order() -> None:
    found = graph(undoable("a"), undoable("b", "a"), undoable("c", "b", queue="x"))
    snapshot = Snapshot(
        status=ExecutionStatus.COMPENSATING, ready=("undo:c",), pending_undo={"undo:c": ("undo:b", "undo:a")}
    )
    (part,) = compile_plan(found, snapshot).parts
    assert isinstance(part, Chain)
    assert [(s.paths, s.queue) for s in part.segments] == [(("undo:c",), "x"), (("undo:b",), "q"), (("undo:a",), "q")]


def test_a_compensation_without_a_ready_one_publishes_nothing() -> None:
    snapshot = Snapshot(status=ExecutionStatus.COMPENSATING, ready=(), pending_undo={"undo:b": ("undo:a",)})
    assert compile_plan(graph(undoable("a")), snapshot).parts == ()


def attempted(path: str, status: StepStatus, *, transactional: bool = False) -> Attempted:
    return Attempted(path=path, status=status, transactional=transactional)


def test_effects_are_undone_in_reverse_order_of_completion() -> None:
    found = graph(undoable("a"), undoable("b", "a"), undoable("c", "a"))
    order = [attempted(name, StepStatus.SUCCEEDED) for name in ("a", "c", "b")]
    assert reverse(found, order) == ("b", "c", "a")


def test_an_attempt_without_success_is_undone_as_its_activity_and_its_definition_say() -> None:
    found = graph(
        undoable("default"),
        undoable("attempted", compensate_on="attempted"),
        undoable("completed", compensate_on="completed"),
        step("none"),
    )
    failed = [attempted(name, StepStatus.FAILED) for name in ("default", "attempted", "completed", "none")]
    assert reverse(found, failed) == ("attempted", "default")
    atomic = [attempted(name, StepStatus.FAILED, transactional=True) for name in ("default", "attempted", "completed")]
    assert reverse(found, atomic) == ("attempted",)
    done = [attempted("completed", StepStatus.SUCCEEDED)]
    assert reverse(found, done) == ("completed",)


def test_compiling_a_long_chain_costs_once() -> None:
    steps = [step("s0"), *(step(f"s{i}", f"s{i - 1}") for i in range(1, 2000))]
    found = graph(*steps)
    assert found.segment("s0") is found.segment("s0")
    assert len(found.segment("s0")) == 2000
