"""A history folds to rows, and whatever is wrong with either is told, by name."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.model.fold import Difference, Event, Rows, StepRow, differences, fold

OWNER = {"owner": "boot.1"}


def history(*events: tuple[Any, ...]) -> list[Event]:
    """Events from type, path, attempt and data, of which the later may be left out."""
    named = [dict(zip(("type", "path", "attempt", "data"), given, strict=False)) for given in events]
    return [Event(id=number, **given) for number, given in enumerate(named, 1)]


BEGUN: tuple[tuple[Any, ...], ...] = (
    ("execution_running",),
    ("step_ready", "a"),
    ("step_blocked", "b"),
    ("step_started", "a", 1, OWNER),
)


def test_steps_and_the_execution_stand_as_their_last_events_say() -> None:
    rows, unlawful = fold(history(*BEGUN))
    assert unlawful == []
    assert rows == Rows(
        status="running",
        steps={
            "a": StepRow(status="running", attempt=1, owner="boot.1"),
            "b": StepRow(status="blocked"),
        },
    )


@pytest.mark.parametrize(
    ("event", "row"),
    [
        (("step_released", "a", 1, OWNER), StepRow(status="ready", attempt=1)),
        (("step_retrying", "a", 1, {"error": {"name": "Away"}}), StepRow(status="retrying", attempt=1)),
        (("step_waiting", "a", 1, {"awaits": "signal"}), StepRow(status="waiting", attempt=1)),
        (("step_succeeded", "a", 1, {"output": [7]}), StepRow(status="succeeded", attempt=1, output=[7])),
        (("step_succeeded", "a", 1, {"output": None}), StepRow(status="succeeded", attempt=1)),
        (("step_failed", "a", 1, {"error": {"name": "No"}}), StepRow(status="failed", attempt=1, error={"name": "No"})),
        (
            ("step_timed_out", "a", 1, {"error": {"name": "Late"}}),
            StepRow(status="timed_out", attempt=1, error={"name": "Late"}),
        ),
        (("step_cancelled", "a", 1), StepRow(status="cancelled", attempt=1)),
        (("attempt_fenced", "a", 1, OWNER), StepRow(status="running", attempt=1, owner="boot.1")),
        (("of_a_newer_release", "a"), StepRow(status="running", attempt=1, owner="boot.1")),
    ],
)
def test_each_event_leaves_the_step_as_it_says(event: tuple[Any, ...], row: StepRow) -> None:
    rows, unlawful = fold(history(*BEGUN, event))
    assert unlawful == []
    assert rows.steps["a"] == row


def test_the_execution_has_its_state_and_at_the_end_its_output() -> None:
    rows, unlawful = fold(
        history(
            ("execution_running",),
            ("state_entered", "machine", 1, {"state": "OPEN"}),
            ("state_entered", "machine", 1, {"state": "SHUT"}),
            ("execution_succeeded", None, None, {"output": {"sum": 3}}),
        )
    )
    assert unlawful == []
    assert rows == Rows(status="succeeded", state="SHUT", output={"sum": 3})


def test_what_is_taken_up_again_has_no_output_any_more() -> None:
    rows, _ = fold(
        history(
            ("execution_running",),
            ("step_started", "a", 1, OWNER),
            ("step_failed", "a", 1, {"error": {"name": "No"}}),
            ("execution_failing",),
            ("execution_failed",),
            ("execution_running", None, None, {"command": "retry"}),
            ("step_ready", "a"),
            ("step_started", "a", 2, OWNER),
        )
    )
    assert rows == Rows(status="running", steps={"a": StepRow(status="running", attempt=2, owner="boot.1")})


def test_an_event_that_may_not_follow_is_told_and_folded_all_the_same() -> None:
    rows, unlawful = fold(
        history(*BEGUN, ("step_succeeded", "a", 1), ("step_started", "a", 2, OWNER), ("execution_compensated",))
    )
    assert unlawful == [
        Difference(path="a", field="event", events="step_started", row="succeeded"),
        Difference(path=None, field="event", events="execution_compensated", row="running"),
    ]
    assert rows.steps["a"].status == "running"
    assert str(unlawful[0]) == "a: step_started may not follow succeeded"


def test_rows_that_say_something_else_are_told_one_field_at_a_time() -> None:
    folded, _ = fold(history(*BEGUN))
    stands = Rows(
        status="failing",
        state="OPEN",
        steps={"a": StepRow(status="succeeded", attempt=1, output=1), "c": StepRow(status="ready")},
    )
    assert [(found.path, found.field, found.events, found.row) for found in differences(folded, stands)] == [
        (None, "status", "running", "failing"),
        (None, "state", None, "OPEN"),
        ("a", "status", "running", "succeeded"),
        ("a", "owner", "boot.1", None),
        ("a", "output", None, 1),
        ("b", "step", "blocked", None),
        ("c", "step", None, "ready"),
    ]
    assert differences(folded, folded) == []


def test_no_history_is_no_reason_to_fail() -> None:
    rows, unlawful = fold([])
    assert (rows, unlawful) == (Rows(), [])
    assert [found.field for found in differences(rows, Rows(status="running"))] == ["status"]
