"""Paths: where they lead, what is seen from there, and how a loop's iterations follow each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.compiler.compile import compile_plan
from orchestrator.compiler.failure import Bearing, bearing
from orchestrator.compiler.graph import MACHINE, Graph
from orchestrator.compiler.place import Following
from orchestrator.compiler.plan import Chord
from orchestrator.model.definition import Catch, Definition, Machine, State, Step, Transition
from orchestrator.model.loop import Lanes
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.state import ExecutionStatus


def step(name: str, *after: str, **options: Any) -> Step:
    return Step(id=name, activity="do", after=after, **options)


def each(name: str, *steps: Step, after: tuple[str, ...] = (), **options: Any) -> Step:
    return Step(id=name, kind="each", spec={"items": [1]}, steps=steps, after=after, **options)


def block(name: str, *steps: Step, **options: Any) -> Step:
    return Step(id=name, kind="block", steps=steps, **options)


def graph(*steps: Step, **options: Any) -> Graph:
    return Graph(Definition(name="w", steps=steps, **options), "q")


def lanes(count: int, number: int = 1) -> Any:
    return lambda _: Lanes(count=count, lanes=number)


def rows(found: Following) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in json.loads(found.rows)}


NESTED = graph(
    step("first"),
    each(
        "loop",
        step("a"),
        each("in", step("x"), step("y", "x"), after=("a",)),
        step("b", "in", queue="other"),
        after=("first",),
    ),
    step("last", "loop"),
)


def test_a_path_leads_to_its_body_however_deep() -> None:
    place = NESTED.place("loop[12].in[3].y")
    assert (place.prefix, place.id, place.container, place.index) == ("loop[12].in[3].", "y", "loop[12].in", 3)
    assert (place.step.id, place.inner) == ("y", "loop[12].in[")
    outer = NESTED.place("loop[12].in")
    assert (outer.container, outer.index, outer.inner) == ("loop", 12, "loop[")
    top = NESTED.place("loop")
    assert (top.prefix, top.container, top.inner) == ("", None, "")
    assert NESTED.queue("loop[4].b") == "other"
    assert NESTED.children("loop[1].a") == ("loop[1].in",)
    assert NESTED.parents("loop[1].in[0].y") == ("loop[1].in[0].x",)
    assert [NESTED.has_body(path) for path in ("first", "loop", "loop[0].in", "loop[0].in[0].x")] == [
        False, True, True, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path", ["", "none", "loop.a", "loop[0].x", "loop[0].in[0].a", "first[0].a", "1:GO/a", "loop[]."]
)
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(LookupError):
        NESTED.place(path)


def test_the_body_of_a_step_is_one_for_all_its_iterations() -> None:
    assert NESTED.body("loop[0].in") is NESTED.body("loop[7].in")
    assert NESTED.body("loop") is not NESTED.body("loop[0].in")


def test_what_is_around_a_prefix_is_told_from_the_inside_out() -> None:
    assert list(NESTED.enclosing("loop[12].in[3].")) == [("loop[12].in", 3), ("loop", 12)]
    assert list(NESTED.enclosing("")) == []


@pytest.mark.parametrize(
    ("step_id", "path"),
    [("x", "loop[2].in[5].x"), ("a", "loop[2].a"), ("in", "loop[2].in"), ("first", "first"), ("none", None)],
)
def test_a_step_sees_those_of_its_own_iteration_and_of_the_bodies_around_it(step_id: str, path: str | None) -> None:
    assert NESTED.visible("loop[2].in[5].", step_id) == path


def test_from_outside_a_loop_its_steps_are_not_seen() -> None:
    assert [NESTED.visible("", step_id) for step_id in ("a", "loop")] == [None, "loop"]
    assert NESTED.visible("loop[2].", "x") is None


# --- machines ---


def machine() -> Graph:
    transitions = (
        Transition(from_=("a",), event="NEXT", to="b", steps=(step("one"), each("loop", step("work"), after=("one",)))),
        Transition(from_=("b",), event="NEXT", to="c", steps=(step("two"), step("three", "two"))),
    )
    states = {"a": State(), "b": State(), "c": State(final=True)}
    return Graph(Definition(name="m", machine=Machine(initial="a", states=states, transitions=transitions)), "q")


def test_two_transitions_by_one_event_may_be_the_nth_of_different_executions() -> None:
    found = machine()
    for _ in range(2):
        assert found.place("1:NEXT/one").body is not found.place("1:NEXT/two").body
        assert found.follow("1:NEXT/two", None, lanes(1)) != found.follow("1:NEXT/one", None, lanes(1))
    assert found.segment("4:NEXT/two") == ("4:NEXT/two", "4:NEXT/three")


def test_a_transitions_last_step_wakes_the_machine() -> None:
    found = machine()
    assert found.follow("2:NEXT/three", None, lanes(1)).wakes == (MACHINE, "2:NEXT/")
    assert found.follow("1:NEXT/loop[0].work", None, lanes(1)).wakes == ("1:NEXT/loop", "1:NEXT/loop[")
    assert found.visible("1:NEXT/loop[0].", "two") == "machine/two", "whichever time it was carried out last"
    assert list(found.enclosing("1:NEXT/loop[3].")) == [("1:NEXT/loop", 3)]


# --- iterations ---


@pytest.mark.parametrize("count", range(1, 61))
def test_lanes_are_unbroken_ranges_that_share_all_iterations_out_evenly(count: int) -> None:
    for number in range(1, count + 1):
        found = Lanes(count=count, lanes=number)
        heads = found.heads()
        assert len(heads) == number
        shares = []
        for head, end in zip(heads, [*heads[1:], count], strict=True):
            lane, at = [head], found.following(head)
            while at is not None:
                lane.append(at)
                at = found.following(at)
            assert lane == list(range(head, end))
            shares.append(len(lane))
        assert sum(shares) == count
        assert max(shares) - min(shares) <= 1


def test_an_iterations_end_begins_the_next_one_of_its_lane_and_the_lanes_end_wakes_the_loop() -> None:
    found = graph(each("loop", step("a"), step("b", "a")))
    within = found.follow("loop[0].b", None, lanes(4, 2))
    assert rows(within) == {"loop[1].a": {"path": "loop[1].a", "queue": "q", "status": "ready"}}
    assert (within.wakes, within.joins, within.ends) == (None, (), False)
    last = found.follow("loop[1].b", None, lanes(4, 2))
    assert (rows(last), last.wakes) == ({}, ("loop", "loop["))


def test_an_iteration_with_several_ends_is_followed_once_all_of_them_have_ended_however_they_did() -> None:
    found = graph(each("loop", step("a"), step("b", "a"), step("c", "a"), step("d")))
    within = found.follow("loop[0].b", None, lanes(2))
    ends = ["loop[0].b", "loop[0].c", "loop[0].d"]
    blocked = {"queue": "q", "status": "blocked", "parents": ends, "edges": [[end, "ended"] for end in ends]}
    assert rows(within) == {path: {"path": path} | blocked for path in ("loop[1].a", "loop[1].d")}
    assert (within.joins, within.wakes) == (("loop[1].a", "loop[1].d"), None)
    assert found.follow("loop[0].a", "failed", lanes(2)).joins == ("loop[1].a", "loop[1].d"), "skipped ends are ends"


def test_a_joins_row_within_an_iteration_names_its_own_parents() -> None:
    found = graph(each("loop", step("a"), step("b"), step("j", "a:ended", "b")))
    assert rows(found.follow("loop[7].a", None, lanes(9)))["loop[7].j"] == {
        "path": "loop[7].j",
        "queue": "q",
        "status": "blocked",
        "parents": ["loop[7].a", "loop[7].b"],
        "edges": [["loop[7].a", "ended"], ["loop[7].b", None]],
    }
    assert found.losers("loop[7].j") == []


def test_a_segment_goes_through_the_iterations_of_its_lane() -> None:
    found = graph(each("loop", step("a"), step("b", "a")))
    assert found.segment("loop[0].a") == ("loop[0].a", "loop[0].b"), "of one iteration only, as a plan knows no items"
    assert found.fused("loop[0].b", lanes(4, 2)) == "loop[1].a"
    assert found.fused("loop[1].b", lanes(4, 2)) is None
    assert found.fused("loop[0].b") is None


@pytest.mark.parametrize(
    "steps",
    [
        (step("a"), step("b", "a", queue="x")),
        (step("a", fuse=False),),
        (step("a"), step("b")),
        (step("a"), step("b", "a"), step("c", "a")),
    ],
)
def test_a_segment_ends_with_an_iteration_that_does_not_end_where_the_next_may_begin(steps: tuple[Step, ...]) -> None:
    found = graph(each("loop", *steps))
    assert found.fused(f"loop[0].{steps[-1].id}", lanes(4)) is None


def test_a_block_has_one_iteration() -> None:
    found = graph(block("block", step("a")))
    assert found.follow("block[0].a", None, lanes(9)).wakes == ("block", "block[")
    assert found.fused("block[0].a", lanes(9)) is None


def test_lanes_are_a_chord_whose_body_is_the_loop_and_what_follows_it() -> None:
    found = graph(each("loop", step("a"), step("b", "a"), fuse=False), step("after", "loop"))
    ready = tuple(f"loop[{head}].a" for head in Lanes(count=10, lanes=3).heads())
    snapshot = Snapshot(status=ExecutionStatus.RUNNING, ready=ready, container="loop")
    (part,) = compile_plan(found, snapshot).parts
    assert isinstance(part, Chord)
    assert [segment.paths for segment in part.header] == [(f"loop[{i}].a", f"loop[{i}].b") for i in (0, 3, 6)]
    assert part.body.head == "loop"


def test_a_fan_in_of_six_hundred_is_one_chord_and_one_row() -> None:
    wide = [step(f"s{i}") for i in range(600)]
    found = graph(*wide, step("join", *(parent.id for parent in wide)))
    (part,) = compile_plan(found, Snapshot(status=ExecutionStatus.RUNNING, ready=found.roots)).parts
    assert isinstance(part, Chord)
    assert (len(part.header), part.body.paths) == (600, ("join",))
    for parent in ("s0", "s599"):
        row = rows(found.follow(parent, None, lanes(1)))["join"]
        assert row["parents"] == [parent.id for parent in wide]
        assert "edges" not in row
    assert found.is_plain_join("join")


@pytest.mark.parametrize("join", ["settled", "any", 2])
def test_a_join_that_does_without_some_is_no_chords_body(join: Any) -> None:
    found = graph(step("a"), step("b"), step("j", "a", "b", join=join))
    parts = compile_plan(found, Snapshot(status=ExecutionStatus.RUNNING, ready=("a", "b"))).parts
    assert not any(isinstance(part, Chord) for part in parts)
    named = graph(step("a"), step("b"), step("j", "a:ended", "b"))
    assert not named.is_plain_join("j")


# --- who bears a failure ---


def borne(found: Graph, path: str, category: str = "business", name: str = "No") -> Bearing:
    return bearing(found, path, category, name)


def test_a_failure_is_borne_by_the_first_that_says_so_from_the_inside_out() -> None:
    caught = (Catch(errors=("No",)),)
    found = graph(
        block(
            "outer",
            each("loop", step("plain"), step("own", catch=(Catch(errors=("business",), exit="mine"),))),
            step("kept", on_error="continue"),
            step("stopped", on_error="stop"),
            step("left"),
            step("right", "left"),
            step("j", "right", "kept", join="any"),
            catch=caught,
        ),
        step("free"),
    )
    assert borne(found, "outer[0].loop[3].own") == Bearing(exit="mine")
    assert borne(found, "outer[0].loop[3].plain") == Bearing(container="outer")
    assert borne(found, "outer[0].loop") == Bearing(container="outer")
    assert borne(found, "outer[0].kept") == Bearing(exit="ok")
    assert borne(found, "outer[0].left") == Bearing(exit="failed")
    assert borne(found, "outer[0].stopped") == Bearing(container="outer")
    assert borne(found, "outer[0].stopped", name="Other") == Bearing(rollback=False)
    assert borne(found, "outer[0].loop[3].plain", name="Other") == Bearing(rollback=True)
    assert borne(found, "outer") == Bearing(exit="error")
    assert borne(found, "free") == Bearing()


def test_a_loop_that_leads_to_a_tolerant_join_bears_its_iterations_failures() -> None:
    found = graph(each("loop", step("a")), step("b"), step("j", "loop", "b", join="any"))
    assert borne(found, "loop[3].a") == Bearing(container="loop")
    assert borne(found, "loop") == Bearing(exit="failed")


def test_a_machine_bears_the_failures_of_its_transitions_steps() -> None:
    found = machine()
    assert borne(found, "1:NEXT/one") == borne(found, "1:NEXT/loop[0].work") == Bearing(container=MACHINE)
    assert borne(found, MACHINE) == Bearing()
