"""What a retry takes up of an execution that has ended, where each row then stands, and what is left behind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.compiler.graph import MACHINE, Graph
from orchestrator.compiler.reopen import Reopening, exit_given, reopen, undo_again
from orchestrator.model.definition import Catch, Compensation, Definition, Machine, State, Step, Transition
from orchestrator.model.reopened import Reopened, Row
from orchestrator.model.state import StepStatus

S = StepStatus
LATER = datetime(2030, 1, 1, tzinfo=UTC)

_PLAIN = Row(
    path="",
    status=S.SUCCEEDED,
    exit=None,
    category=None,
    name=None,
    was=None,
    was_due_at=None,
    awaits=None,
    woken_by=None,
    remembers=False,
    attempt=1,
    undoes=None,
    parents=None,
)


def step(name: str, *after: str, **options: Any) -> Step:
    return Step(id=name, activity="do", after=after, **options)


def holding(kind: str, name: str, *steps: Step, after: tuple[str, ...] = (), **options: Any) -> Step:
    specs = {"each": {"items": [1, 2, 3]}, "repeat": {"until": "{{ steps.a.output }}"}, "block": {}}
    return Step(id=name, kind=kind, spec=specs[kind], steps=steps, after=after, **options)


def child_step(name: str, *after: str) -> Step:
    return Step(id=name, kind="workflow", spec={"workflow": "other"}, after=after)


def graph(*steps: Step) -> Graph:
    return Graph(Definition(name="w", steps=steps), "q")


def succeeded(path: str, **options: Any) -> Row:
    return _PLAIN._replace(path=path, **options)


def failed(path: str, **options: Any) -> Row:
    return _PLAIN._replace(**{"path": path, "status": S.FAILED, "category": "business", "name": "No", **options})


def cancelled(path: str, was: str | None, **options: Any) -> Row:
    """One that the drain found where it `was`; None was in a worker's hands."""
    attempted = {"attempt": 0} if was in {S.READY, S.BLOCKED} else {}
    return _PLAIN._replace(path=path, status=S.CANCELLED, was=was, **{**attempted, **options})


def another_child(path: str) -> Reopened:
    return Reopened(path=path, status=S.WAITING, awaits="child", wait_name="the child")


def reopened(found: Graph, *rows: Row, **given: str) -> Reopening:
    return reopen(found, rows, given=given, child=another_child)


def only(found: Reopening) -> Reopened:
    (row,) = found.rows
    return row


def statuses(found: Reopening) -> dict[str, str]:
    return {row.path: row.status for row in found.rows}


# --- steps ---


def test_what_succeeded_was_skipped_or_is_borne_stays_and_what_failed_begins_anew() -> None:
    found = reopened(
        graph(
            step("a"),
            step("skipped", "a:error"),
            step("caught", "a", catch=(Catch(),)),
            step("tolerated", "a", on_error="continue"),
            step("fails", "a"),
        ),
        succeeded("a"),
        succeeded("skipped", status=S.SKIPPED, exit="skipped"),
        failed("caught", exit="error"),
        failed("tolerated", exit="ok"),
        failed("fails", remembers=True),
    )
    assert only(found) == Reopened(path="fails", status=S.READY, fresh=True)
    assert found.done == [("a", None), ("caught", "error"), ("tolerated", "ok")]


def test_the_exits_of_what_is_done_are_told_as_rows_behind_them_may_be_missing() -> None:
    route = Step(id="route", kind="choice", spec={"cases": [{"exit": "left", "when": "{{ true }}"}]})
    found = reopened(graph(route, step("left", "route:left"), step("b")), succeeded("route", exit="left"), failed("b"))
    assert found.done == [("route", "left")]


def test_a_failure_that_would_be_borne_but_was_not_is_taken_up() -> None:
    """An attempt that failed once the execution was flagged was its last, whatever the policy says."""
    found = reopened(graph(step("caught", catch=(Catch(),))), failed("caught"))
    assert statuses(found) == {"caught": S.READY}


def test_a_catch_bears_only_what_it_names() -> None:
    caught = step("a", catch=(Catch(errors=("timeout",)),))
    assert statuses(reopened(graph(caught), failed("a", exit="error"))) == {"a": S.READY}


def test_a_step_that_timed_out_is_taken_up_like_one_that_failed() -> None:
    found = reopened(graph(step("a")), failed("a", status=S.TIMED_OUT))
    assert only(found) == Reopened(path="a", status=S.READY, fresh=True)


def test_a_branch_that_a_tolerant_join_bears_stays_failed() -> None:
    found = reopened(
        graph(step("a"), step("b"), step("join", "a", "b", join="settled"), step("fails", "join")),
        failed("a", exit="failed"),
        succeeded("b"),
        succeeded("join"),
        failed("fails"),
    )
    assert statuses(found) == {"fails": S.READY}
    assert ("a", "failed") in found.done


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (cancelled("a", S.BLOCKED, parents=["x"]), Reopened(path="a", status=S.BLOCKED)),
        (cancelled("a", S.READY), Reopened(path="a", status=S.READY)),
        (cancelled("a", S.READY, woken_by="due"), Reopened(path="a", status=S.READY, woken_by="due")),
        (
            cancelled("a", S.WAITING, awaits="signal", was_due_at=LATER),
            Reopened(path="a", status=S.WAITING, awaits="signal", due_at=LATER),
        ),
        (cancelled("a", S.WAITING, awaits="signal"), Reopened(path="a", status=S.WAITING, awaits="signal")),
        (cancelled("a", S.WAITING, was_due_at=LATER), Reopened(path="a", status=S.WAITING, due_at=LATER)),
        # It was held by a maintenance, or was to start later: it is running now.
        (cancelled("a", S.WAITING, attempt=0), Reopened(path="a", status=S.READY, fresh=True)),
        (cancelled("a", S.RETRYING, was_due_at=LATER), Reopened(path="a", status=S.READY)),
    ],
)
def test_what_was_cancelled_with_its_execution_goes_back_to_where_it_stood(row: Row, expected: Reopened) -> None:
    assert only(reopened(graph(step("a")), row)) == expected


def test_a_signal_that_had_woken_a_step_is_not_lost_with_the_worker_that_held_it() -> None:
    held = cancelled("a", None, woken_by="signal", remembers=True)
    assert only(reopened(graph(step("a")), held)) == Reopened(path="a", status=S.READY, woken_by="signal")


def test_a_step_given_an_output_succeeds_with_it_and_goes_on_by_the_ordinary_exit() -> None:
    found = reopened(graph(step("a"), step("b", "a")), failed("a"), a='{"by": "hand"}')
    assert only(found) == Reopened(path="a", status=S.SUCCEEDED, output='{"by": "hand"}', fresh=True)
    assert found.done == [("a", None)]


CHOICE = graph(
    step("a"),
    Step(id="route", kind="choice", spec={"cases": [{"exit": "left", "when": "{{ true }}"}]}, after=("a",)),
    step("left", "route:left"),
    step("right", "route:default"),
)


@pytest.mark.parametrize("exit_by", ["left", "default"])
def test_a_choice_given_an_output_goes_on_by_the_case_of_that_name(exit_by: str) -> None:
    found = reopened(CHOICE, succeeded("a"), failed("route"), route=f'"{exit_by}"')
    given = Reopened(path="route", status=S.SUCCEEDED, exit=exit_by, output=f'"{exit_by}"', fresh=True)
    assert only(found) == given
    assert found.done == [("a", None), ("route", exit_by)]


@pytest.mark.parametrize("output", ["null", "1", '"right"', '["left"]', '{"left": 1}'])
def test_a_choice_is_given_no_output_that_is_none_of_its_cases(output: str) -> None:
    with pytest.raises(ValueError, match=r"step route chooses how it goes on.*: left, default"):
        reopened(CHOICE, succeeded("a"), failed("route"), route=output)


def test_a_step_that_chooses_nothing_goes_on_by_the_ordinary_exit_whatever_it_is_given() -> None:
    assert exit_given(CHOICE, "a", '"left"') is None


def test_a_step_that_waited_for_its_next_attempt_keeps_what_it_remembers() -> None:
    """Which child it began, and what its attempts were called with."""
    row = cancelled("a", S.RETRYING, was_due_at=LATER, remembers=True)
    assert not only(reopened(graph(child_step("a")), row)).fresh
    assert not only(reopened(graph(step("a")), row)).fresh


def test_a_step_whose_failure_is_borne_is_given_nothing() -> None:
    found = reopened(graph(step("a", catch=(Catch(),)), step("b")), failed("a", exit="error"), failed("b"), a="1")
    assert statuses(found) == {"b": S.READY}
    assert found.done == [("a", "error")]


def test_compensations_are_no_part_of_it() -> None:
    undo = _PLAIN._replace(path="undo:a", undoes="a", status=S.FAILED)
    assert statuses(reopened(graph(step("a")), failed("a"), undo)) == {"a": S.READY}


# --- races ---

RACE = graph(step("quick"), step("slow"), step("join", "quick", "slow", join="any"), step("fails", "join"))


def test_losers_of_a_race_stay_cancelled() -> None:
    found = reopened(RACE, succeeded("quick"), cancelled("slow", None), succeeded("join"), failed("fails"))
    assert statuses(found) == {"fails": S.READY}


@pytest.mark.parametrize("join", [succeeded("join"), cancelled("join", S.READY)])
def test_a_loser_that_the_drain_found_before_anybody_had_cancelled_it_has_lost_all_the_same(join: Row) -> None:
    slow = cancelled("slow", S.WAITING, awaits="signal")
    found = reopened(RACE, succeeded("quick"), slow, join, failed("fails"))
    assert "slow" not in statuses(found)


@pytest.mark.parametrize("was", [None, S.RETRYING])
@pytest.mark.parametrize("rows", [(), (cancelled("join", S.BLOCKED),)])
def test_nobody_has_lost_a_race_that_is_not_decided(was: str | None, rows: tuple[Row, ...]) -> None:
    found = reopened(RACE, failed("quick", exit="failed"), cancelled("slow", was), *rows)
    assert statuses(found)["slow"] == S.READY


def test_a_loser_within_a_body_stays_cancelled_and_its_neighbours_are_taken_up() -> None:
    body = holding("each", "loop", step("x"), step("y"), step("join", "x", "y", join="any"), step("z", "join"))
    rows = [cancelled("loop", S.WAITING, awaits="body", remembers=True)]
    rows += [succeeded("loop[0].x"), cancelled("loop[0].y", None), succeeded("loop[0].join")]
    rows += [cancelled("loop[0].z", S.READY), cancelled("loop[1].y", None), cancelled("loop[1].x", S.READY)]
    found = reopened(graph(body), *rows)
    assert statuses(found) == {"loop": S.WAITING, "loop[0].z": S.READY, "loop[1].y": S.READY, "loop[1].x": S.READY}


# --- joins that could not be met ---


@pytest.mark.parametrize(
    "join",
    [
        failed("join", parents=["quick", "slow"])._replace(name="JoinUnmet"),
        cancelled("join", S.READY, exit="unmet", parents=["quick", "slow"]),
    ],
)
def test_a_join_that_could_not_be_met_is_decided_anew(join: Row) -> None:
    found = reopened(RACE, failed("quick", exit="failed"), failed("slow", exit="failed"), join)
    assert only(found) == Reopened(path="join", status=S.BLOCKED)


def test_a_step_that_could_only_fail_is_not_called_by_a_retry() -> None:
    """Its only parent has failed, so that no row of it was ever blocked."""
    found = reopened(
        graph(step("a"), step("b", "a", join="any")), failed("a", exit="failed"), failed("b")._replace(name="JoinUnmet")
    )
    assert only(found) == Reopened(path="b", status=S.READY, exit="unmet", fresh=True)


# --- bodies ---

KINDS = ("each", "repeat", "block")


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_is_taken_up_with_the_step_that_it_belongs_to(kind: str) -> None:
    found = reopened(
        graph(holding(kind, "box", step("a"), step("b", "a")), step("behind", "box")),
        failed("box", remembers=True),
        succeeded("box[0].a"),
        failed("box[0].b", exit="failed"),
    )
    assert {row.path: row for row in found.rows} == {
        "box": Reopened(path="box", status=S.WAITING, awaits="body"),
        "box[0].b": Reopened(path="box[0].b", status=S.READY, fresh=True),
    }
    assert found.done == [("box[0].a", None)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_whose_body_was_cancelled_waits_for_it_although_nothing_of_it_has_a_row_to_take_up(kind: str) -> None:
    """What it was doing ended well during the drain, which kept the next step's row from being inserted."""
    found = reopened(
        graph(holding(kind, "box", step("a"), step("b", "a"))),
        cancelled("box", S.WAITING, awaits="body", was_due_at=LATER, remembers=True),
        succeeded("box[0].a"),
    )
    assert only(found) == Reopened(path="box", status=S.WAITING, awaits="body", due_at=LATER)
    assert found.done == [("box[0].a", None)], "so that the row of b is inserted"


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_had_been_woken_by_the_end_of_its_body_goes_on_from_there(kind: str) -> None:
    woken = cancelled("box", S.READY, woken_by="body", remembers=True, attempt=1)
    found = reopened(graph(holding(kind, "box", step("a"))), woken, succeeded("box[0].a"))
    assert only(found) == Reopened(path="box", status=S.READY, woken_by="body")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("woken_by", [None, "body"])
def test_a_step_with_a_body_that_a_worker_held_decides_once_more_as_it_was_claimed(
    kind: str, woken_by: str | None
) -> None:
    """Its worker died, or let go of it in vain: what it waits for then was never begun, and must not count as ended."""
    held = cancelled("box", None, awaits="body", woken_by=woken_by, remembers=woken_by is not None)
    found = reopened(graph(holding(kind, "box", step("a"))), held)
    assert only(found) == Reopened(path="box", status=S.READY, woken_by=woken_by)


def test_a_step_that_failed_when_its_body_had_ended_is_asked_again_and_repeats_nothing() -> None:
    found = reopened(
        graph(holding("repeat", "box", step("a"))),
        failed("box", remembers=True)._replace(name="TooManyIterations"),
        *[succeeded(f"box[{n}].a") for n in range(3)],
    )
    assert only(found) == Reopened(path="box", status=S.READY, woken_by="body")


def test_a_step_that_failed_before_it_had_a_body_begins_anew() -> None:
    found = reopened(graph(holding("each", "box", step("a"))), failed("box"))
    assert only(found) == Reopened(path="box", status=S.READY, fresh=True)


def test_a_body_whose_step_has_borne_its_failure_is_left_behind() -> None:
    found = reopened(
        graph(holding("block", "box", step("a"), step("b"), catch=(Catch(),)), step("fails", "box:error")),
        failed("box", exit="error", remembers=True),
        failed("box[0].a", exit="failed"),
        cancelled("box[0].b", S.READY),
        failed("fails"),
    )
    assert statuses(found) == {"fails": S.READY}
    assert found.done == [("box", "error")], "not what succeeded within, as nothing is missing behind that"


def test_a_body_whose_step_is_given_an_output_is_left_behind_however_deep() -> None:
    inner = holding("each", "loop", step("a"))
    found = reopened(
        graph(holding("block", "box", inner), step("behind", "box")),
        failed("box", remembers=True),
        failed("box[0].loop", exit="failed", remembers=True),
        failed("box[0].loop[1].a", exit="failed"),
        box='"by hand"',
    )
    assert statuses(found) == {"box": S.SUCCEEDED}
    assert found.done == [("box", None)]


def test_a_step_of_a_body_that_is_left_behind_is_given_nothing() -> None:
    body = holding("block", "box", step("a"), on_error="continue")
    found = reopened(
        graph(body, step("b")), failed("box", exit="ok"), failed("box[0].a"), failed("b"), **{"box[0].a": "1"}
    )
    assert statuses(found) == {"b": S.READY}


def test_a_step_of_a_body_is_given_an_output_and_the_body_goes_on_behind_it() -> None:
    rows = failed("box", remembers=True), failed("box[0].a", exit="failed")
    found = reopen(
        graph(holding("block", "box", step("a"), step("b", "a"))), rows, given={"box[0].a": "1"}, child=another_child
    )
    assert statuses(found) == {"box": S.WAITING, "box[0].a": S.SUCCEEDED}
    assert found.done == [("box[0].a", None)]


def test_iterations_that_are_done_stay_so_and_a_failure_that_is_borne_within_one_too() -> None:
    loop = holding("each", "loop", step("a"), step("b", "a", on_error="continue"))
    rows = [failed("loop", remembers=True)]
    for n in range(3):
        rows += [succeeded(f"loop[{n}].a"), failed(f"loop[{n}].b", exit="ok")]
    rows += [failed("loop[3].a", exit="failed"), cancelled("loop[4].a", S.READY)]
    found = reopened(graph(loop), *rows)
    assert statuses(found) == {"loop": S.WAITING, "loop[3].a": S.READY, "loop[4].a": S.READY}
    assert len(found.done) == 6


def test_loops_within_loops_are_taken_up_from_the_outside_in() -> None:
    inner = holding("repeat", "in", step("a"))
    found = reopened(
        graph(holding("each", "out", inner)),
        # In the order of paths, in which what is inside may come first.
        *sorted(
            [
                failed("out", remembers=True),
                succeeded("out[0].in", remembers=True),
                failed("out[10].in", exit="failed", remembers=True),
                failed("out[10].in[2].a", exit="failed"),
                succeeded("out[10].in[1].a"),
                cancelled("out[9].in", S.WAITING, awaits="body", remembers=True),
                cancelled("out[9].in[0].a", S.RETRYING, was_due_at=LATER),
            ],
            key=lambda row: row.path,
            reverse=True,
        ),
    )
    assert statuses(found) == {
        "out": S.WAITING,
        "out[10].in": S.WAITING,
        "out[10].in[2].a": S.READY,
        "out[9].in": S.WAITING,
        "out[9].in[0].a": S.READY,
    }


# --- machines ---

MOVING = Graph(
    Definition(
        name="m",
        machine=Machine(
            initial="x",
            states={"x": State(), "y": State()},
            transitions=(
                Transition.model_validate(
                    {"from": ("x",), "event": "GO", "to": "y", "steps": (step("a"), step("b", "a"))}
                ),
            ),
        ),
    ),
    "q",
)


def test_a_machine_that_waited_for_an_event_does_so_again_and_repeats_no_transition_that_failed() -> None:
    found = reopened(
        MOVING,
        cancelled(MACHINE, S.WAITING, awaits="event", was_due_at=LATER, remembers=True),
        succeeded("1:GO/a"),
        failed("1:GO/b", exit="failed"),
        cancelled("2:GO/a", S.READY),
    )
    assert only(found) == Reopened(path=MACHINE, status=S.WAITING, awaits="event", due_at=LATER)
    assert found.done == []


def test_a_machine_goes_on_with_the_transition_that_was_under_way_and_with_no_other() -> None:
    found = reopened(
        MOVING,
        cancelled(MACHINE, S.WAITING, awaits="body", remembers=True, inner="2:GO/"),
        failed("1:GO/a", exit="failed"),
        cancelled("1:GO/b", S.READY),
        succeeded("2:GO/a"),
        cancelled("2:GO/b", None),
    )
    assert statuses(found) == {MACHINE: S.WAITING, "2:GO/b": S.READY}
    assert found.done == [("2:GO/a", None)]


# --- children ---


@pytest.mark.parametrize(
    "row",
    [
        cancelled("a", S.WAITING, awaits="child", remembers=True),
        failed("a", remembers=True),
        # Told of its child's failure, but not yet failed of it; and in the hands of a worker that started the child.
        cancelled("a", S.READY, woken_by="broken", remembers=True, attempt=1),
        cancelled("a", None),
    ],
)
def test_a_step_with_an_execution_of_its_own_is_asked_what_becomes_of_that(row: Row) -> None:
    assert only(reopened(graph(child_step("a")), row)) == another_child("a")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (cancelled("a", S.READY), Reopened(path="a", status=S.READY)),
        (
            cancelled("a", S.READY, woken_by="child", remembers=True, attempt=1),
            Reopened(path="a", status=S.READY, woken_by="child"),
        ),
        (cancelled("a", S.BLOCKED), Reopened(path="a", status=S.BLOCKED)),
    ],
)
def test_a_child_that_was_not_begun_or_has_succeeded_is_left_alone(row: Row, expected: Reopened) -> None:
    assert only(reopened(graph(child_step("a")), row)) == expected


def test_nobody_asks_for_the_child_of_a_step_that_is_done() -> None:
    def refuse(path: str) -> Reopened:
        raise AssertionError(path)

    rows = succeeded("a", remembers=True), failed("b")
    found = reopen(graph(child_step("a"), step("b")), rows, child=refuse)
    assert statuses(found) == {"b": S.READY}


# --- undoing again ---


def undo(path: str, status: StepStatus) -> Row:
    return _PLAIN._replace(path=f"undo:{path}", undoes=path, status=status)


def test_compensations_that_did_not_succeed_follow_each_other_again_in_their_order() -> None:
    rows = [
        *[succeeded(path) for path in "abcd"],
        undo("a", S.CANCELLED),
        undo("b", S.SUCCEEDED),
        undo("c", S.FAILED),
        undo("d", S.FAILED),
    ]
    assert undo_again(rows, ["d", "c", "b", "a"]) == [
        Reopened(path="undo:d", status=S.READY, fresh=True),
        Reopened(path="undo:c", status=S.BLOCKED, fresh=True, parents=("undo:d",)),
        Reopened(path="undo:a", status=S.BLOCKED, fresh=True, parents=("undo:c",)),
    ]


def test_what_was_never_to_be_undone_is_not_undone_again() -> None:
    found = graph(step("a", compensation=Compensation(activity="undo")), step("b"))
    assert undo_again([succeeded("a"), failed("b"), undo("a", S.SUCCEEDED)], ["b", "a"]) == []
    assert statuses(reopened(found, succeeded("a"), failed("b"))) == {"b": S.READY}


# Parts that went back by themselves.


def undo_of(path: str, status: StepStatus = S.SUCCEEDED) -> Row:
    return _PLAIN._replace(path=f"undo:{path}", undoes=path, status=status)


@pytest.mark.parametrize(
    "box",
    [
        cancelled("box", S.WAITING, awaits="undo", woken_by="broken", remembers=True),
        cancelled("box", None, woken_by="broken", remembers=True, category="business", name="No"),
        # As something of it could not be undone, nobody bore its failure.
        failed("box", remembers=True),
    ],
)
def test_a_part_that_has_gone_back_is_left_behind_and_its_step_has_still_to_fail(box: Row) -> None:
    inside = step("a", compensation=Compensation(activity="undo")), step("no", "a")
    found = reopened(
        graph(holding("block", "box", *inside, catch=(Catch(exit="error"),))),
        box,
        succeeded("box[0].a"),
        failed("box[0].no"),
        undo_of("box[0].a"),
    )
    assert only(found) == Reopened(path="box", status=S.READY, woken_by="broken")


def test_a_body_that_was_broken_off_and_not_undone_yet_is_taken_up_where_it_failed() -> None:
    inside = step("a", compensation=Compensation(activity="undo")), step("no", "a")
    found = reopened(
        graph(holding("block", "box", *inside, catch=(Catch(exit="error"),))),
        cancelled("box", None, woken_by="broken", remembers=True, category="business", name="No"),
        succeeded("box[0].a"),
        failed("box[0].no"),
    )
    assert statuses(found) == {"box": S.WAITING, "box[0].no": S.READY}


def test_a_part_within_a_body_that_went_back_does_not_make_the_body_one_that_did() -> None:
    inner = holding("block", "inner", step("a", compensation=Compensation(activity="undo")), on_error="continue")
    found = reopened(
        graph(holding("block", "box", inner, step("no", "inner"))),
        cancelled("box", S.WAITING, awaits="body", remembers=True),
        failed("box[0].inner", exit="ok", remembers=True),
        succeeded("box[0].inner[0].a"),
        failed("box[0].no"),
        undo_of("box[0].inner[0].a"),
    )
    assert statuses(found) == {"box": S.WAITING, "box[0].no": S.READY}
