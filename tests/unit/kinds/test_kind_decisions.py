"""What each kind of step decides, from what a claim tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.errors import ExpressionError
from orchestrator.expressions import Template
from orchestrator.kinds.kind import Decision, Done, Emit, Failed, Park, Situation, Spawn, Start
from orchestrator.kinds.kinds import ACTIVITY, KINDS
from orchestrator.model.definition import Step


class Execution:
    """The values of an execution, and how often iterations were asked."""

    def __init__(self, data: Mapping[str, Any] | None = None, outputs: Mapping[int, Any] | None = None) -> None:
        self._data, self._outputs = data or {}, outputs or {}
        self.asked: list[int | None] = []

    def value(self, template: Template, iteration: int | None = None, own: Mapping[str, Any] | None = None) -> Any:
        self.asked.append(iteration)
        step = {"output": self._outputs.get(iteration or 0), "status": None, "exit": None, "error": None}
        return template.resolve({"input": self._data, "steps": {"ask": step}, **(own or {})})

    def decide(
        self,
        kind: str,
        spec: Mapping[str, Any],
        *,
        resume: Any = None,
        woken_by: str | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> Decision:
        """What a step of a kind decides."""
        step = Step(id="step", kind=kind, spec=dict(spec))
        situation = Situation(
            path="step",
            resume=resume,
            woken_by=woken_by,
            error=error,
            value=self.value,
            result=lambda iteration: f"result {iteration}",
        )
        return KINDS[kind](step).decide(situation)


def name_of(decision: Decision) -> str:
    assert isinstance(decision, Failed)
    return decision.failure.name


CASES = [{"exit": "big", "when": "{{ input.total > 100 }}"}, {"exit": "mid", "when": "{{ input.total > 10 }}"}]


@pytest.mark.parametrize(("total", "exit_by"), [(500, "big"), (50, "mid"), (5, "default")])
def test_a_choice_ends_by_the_first_exit_whose_condition_holds(total: int, exit_by: str) -> None:
    assert Execution({"total": total}).decide("choice", {"cases": CASES}) == Done(output=exit_by, exit=exit_by)


def test_a_choice_that_cannot_be_computed_fails_or_takes_the_default_as_its_author_says() -> None:
    spec = {"cases": [{"exit": "yes", "when": "{{ input.total }}"}]}
    with pytest.raises(ExpressionError, match="not a boolean"):
        Execution({"total": 5}).decide("choice", spec)
    taken = Execution({"total": 5}).decide("choice", spec | {"default_on_error": True})
    assert taken == Done(output="default", exit="default")


ERROR = {"category": "timeout", "name": "TooLate", "message": "no answer", "step": "step[0].ask"}


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("block", {}),
        ("each", {"items": [1]}),
        ("repeat", {"while": True}),
        ("workflow", {"workflow": "other"}),
    ],
)
def test_whatever_was_broken_off_fails_with_the_error_that_broke_it(kind: str, spec: dict[str, Any]) -> None:
    decided = Execution().decide(kind, spec, resume={"done": 0}, woken_by="broken", error=ERROR)
    assert isinstance(decided, Failed)
    found = decided.failure
    assert (found.category, found.name, found.message) == ("timeout", "TooLate", "no answer")


def test_a_block_begins_once_and_hands_on_what_its_last_step_gave() -> None:
    assert Execution().decide("block", {}) == Spawn(resume={})
    assert Execution().decide("block", {}, resume={}, woken_by="body") == Done(output="result 0")


def test_a_loop_over_a_list_begins_its_lanes() -> None:
    decided = Execution({"all": list("abcdefg")}).decide("each", {"items": "{{ input.all }}", "concurrency": 3})
    assert decided == Spawn(resume={"items": list("abcdefg"), "count": 7, "lanes": 3}, iterations=(0, 2, 4))
    assert Execution().decide("each", {"items": [1, 2]}) == Spawn(
        resume={"items": [1, 2], "count": 2, "lanes": 1}, iterations=(0,)
    )
    wide = Execution().decide("each", {"items": [1, 2], "concurrency": 50})
    assert isinstance(wide, Spawn)
    assert wide.iterations == (0, 1), "no more lanes than items"


def test_a_loop_over_nothing_is_done_at_once_and_a_loop_that_was_woken_too() -> None:
    assert Execution().decide("each", {"items": []}) == Done(output=[])
    assert isinstance(Execution().decide("each", {"items": [1]}, resume={"count": 1}, woken_by="body"), Done)


def test_a_loop_over_no_list_or_too_long_a_list_fails_before_anything_is_done() -> None:
    assert name_of(Execution({"all": "abc"}).decide("each", {"items": "{{ input.all }}"})) == "NoList"
    assert name_of(Execution().decide("each", {"items": [1, 2, 3], "max_iterations": 2})) == "TooManyIterations"
    assert isinstance(Execution().decide("each", {"items": [1, 2], "max_iterations": 2}), Spawn)


UNTIL = {"until": "{{ steps.ask.output }}", "max_iterations": 3}


def test_until_is_asked_after_each_iteration_of_the_one_that_has_ended() -> None:
    execution = Execution(outputs={0: False, 1: True})
    assert execution.decide("repeat", UNTIL) == Spawn(resume={"done": 0}, iterations=(0,))
    assert execution.asked == []
    again = execution.decide("repeat", UNTIL, resume={"done": 0}, woken_by="body")
    assert again == Spawn(resume={"done": 1}, iterations=(1,))
    assert execution.decide("repeat", UNTIL, resume={"done": 1}, woken_by="body") == Done(output="result 1")
    assert execution.asked == [0, 1]


def test_while_is_asked_before_each_iteration_the_first_included() -> None:
    spec = {"while": "{{ index < 2 }}"}
    assert Execution().decide("repeat", {"while": "{{ index < 0 }}"}) == Done(output=None)
    assert Execution().decide("repeat", spec) == Spawn(resume={"done": 0}, iterations=(0,))
    for done, expected in ((0, Spawn(resume={"done": 1}, iterations=(1,))), (1, Done(output="result 1"))):
        assert Execution().decide("repeat", spec, resume={"done": done}, woken_by="body") == expected


def test_a_repetition_that_does_not_come_to_an_end_fails_after_the_most_iterations() -> None:
    execution = Execution(outputs={2: False})
    assert name_of(execution.decide("repeat", UNTIL, resume={"done": 2}, woken_by="body")) == "TooManyIterations"
    last = Execution(outputs={2: True}).decide("repeat", UNTIL, resume={"done": 2}, woken_by="body")
    assert last == Done(output="result 2"), "the last one may still meet the condition"


def test_a_pause_lies_between_two_iterations_and_does_not_ask_again() -> None:
    spec = UNTIL | {"pause": "5s"}
    execution = Execution(outputs={0: False})
    assert execution.decide("repeat", spec) == Spawn(resume={"done": 0}, iterations=(0,))
    parked = execution.decide("repeat", spec, resume={"done": 0}, woken_by="body")
    assert parked == Park(resume={"done": 1}, seconds=5)
    after = execution.decide("repeat", spec, resume={"done": 1}, woken_by="due")
    assert after == Spawn(resume={"done": 1}, iterations=(1,))
    assert execution.asked == [0]


def test_a_delay_parks_for_its_time_and_is_done_when_woken() -> None:
    assert Execution().decide("delay", {"for": "90m"}) == Park(resume={}, seconds=5_400)
    assert Execution({"wait": 2.5}).decide("delay", {"for": "{{ input.wait }}"}) == Park(resume={}, seconds=2.5)
    assert Execution().decide("delay", {"for": 1}, resume={}, woken_by="due") == Done()
    until = Execution({"at": "2030-01-31T09:00:00+01:00"}).decide("delay", {"until": "{{ input.at }}"})
    assert until == Park(resume={}, until="2030-01-31T09:00:00+01:00")


@pytest.mark.parametrize("at", ["soon", "2030-01-31T09:00:00", "", None, 12, "infinity", "2030-13-01T00:00:00Z"])
def test_a_delay_until_no_time_with_a_zone_fails(at: object) -> None:
    assert name_of(Execution({"at": at}).decide("delay", {"until": "{{ input.at }}"})) == "NoTime"


@pytest.mark.parametrize(("kind", "field"), [("delay", "for"), ("wait", "timeout")])
@pytest.mark.parametrize("length", ["soon", -1, True, [], 1e300])
def test_a_length_of_time_that_is_none_fails(kind: str, field: str, length: object) -> None:
    spec = {field: "{{ input.length }}"} | ({"signal": "paid"} if kind == "wait" else {})
    assert name_of(Execution({"length": length}).decide(kind, spec)) == "NoDuration"


def test_a_wait_parks_for_its_signal_and_hands_on_the_payload() -> None:
    assert Execution().decide("wait", {"signal": "paid"}) == Park(resume={}, signal="paid")
    spec = {"signal": "paid", "correlation": "{{ input.order }}", "timeout": "1d"}
    assert Execution({"order": 7}).decide("wait", spec) == Park(
        resume={}, signal="paid", correlation="7", seconds=86_400
    )
    for payload in ({"amount": 1}, None, False):
        assert Execution().decide("wait", spec, resume={"signal": payload}, woken_by="signal") == Done(output=payload)


def test_a_wait_that_was_in_vain_times_out() -> None:
    decided = Execution().decide("wait", {"signal": "paid", "timeout": 1}, resume={}, woken_by="due")
    assert isinstance(decided, Failed)
    assert (decided.failure.category, decided.failure.name) == ("timeout", "WaitTimedOut")


def test_a_child_is_started_with_its_input_and_ends_its_step_with_its_output() -> None:
    spec = {"workflow": "other", "version": 3, "input": {"id": "{{ input.id }}"}, "timeout": "1h"}
    assert Execution({"id": 5}).decide("workflow", spec) == Start(
        workflow="other", version=3, input={"id": 5}, detached=False, timeout=3_600
    )
    for output in ({"a": 1}, None):
        done = Execution().decide("workflow", spec, resume={"child": "id", "output": output}, woken_by="child")
        assert done == Done(output=output)
    again = Execution({"id": 5}).decide("workflow", spec, resume={"child": "id"})
    assert isinstance(again, Start), "claimed again before the child has ended, it is started under the same id"


def test_an_event_is_emitted_with_its_values() -> None:
    spec = {"event": "paid", "payload": "{{ input.amount }}", "correlation": "order-{{ input.order }}"}
    decided = Execution({"amount": 9, "order": 7}).decide("emit", spec)
    assert decided == Emit(name="paid", payload=9, correlation="order-7")


def test_fail_fails_with_the_authors_own_error() -> None:
    decided = Execution({"who": "Ann"}).decide("fail", {"message": "no {{ input.who }}", "name": "Gone"})
    assert isinstance(decided, Failed)
    found = decided.failure
    assert (found.category, found.name, found.message) == ("business", "Gone", "no Ann")


GOOD: dict[str, dict[str, Any]] = {
    "choice": {"cases": CASES},
    "each": {"items": [1]},
    "repeat": {"while": True},
    "block": {},
    "delay": {"for": 1},
    "wait": {"signal": "paid"},
    "emit": {"event": "paid", "correlation": "x"},
    "workflow": {"workflow": "other"},
    "fail": {"message": "no"},
    "task": {"task": "shop.send"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_its_spec_and_refuses_what_it_does_not_know(kind: str) -> None:
    found = KINDS[kind](Step(id="step", kind=kind, spec=GOOD[kind]))
    assert found.has_body == (kind in {"each", "repeat", "block"})
    assert all(isinstance(template, Template) for template in (*found.templates, *found.inner_templates))
    with pytest.raises(ValueError, match='unknown key "colour"'):
        KINDS[kind](Step(id="step", kind=kind, spec=GOOD[kind] | {"colour": 1}))
    assert ACTIVITY not in KINDS


@pytest.mark.parametrize(
    ("kind", "spec", "problem"),
    [
        ("choice", {"cases": []}, "cases"),
        ("choice", {"cases": [{"exit": "a", "when": True}, {"exit": "a", "when": True}]}, "two cases"),
        ("choice", {"cases": [{"exit": "a", "when": "yes"}]}, "stands in braces"),
        ("each", {}, '"items" is missing'),
        ("each", {"items": [], "concurrency": 0}, "concurrency"),
        ("repeat", {}, "either while or until"),
        ("repeat", {"while": True, "until": True}, "either while or until"),
        ("repeat", {"while": "{{ 1 +"}, "while"),
        ("repeat", {"while": True, "pause": "soon"}, "no duration"),
        ("delay", {}, "either for or until"),
        ("delay", {"for": 1, "until": "2030-01-31T09:00:00Z"}, "either for or until"),
        ("delay", {"for": "P1M"}, "no duration"),
        ("delay", {"until": "tomorrow"}, "no time with a zone"),
        ("wait", {"signal": "paid", "timeout": "soon"}, "no duration"),
        ("wait", {"signal": "not a name"}, "signal"),
        ("workflow", {"workflow": "other", "version": 0}, "version"),
        ("fail", {"message": "no", "category": "weather"}, "category"),
        ("task", {"task": ""}, "task"),
    ],
)
def test_what_is_wrong_with_a_spec_is_told_before_anything_starts(
    kind: str, spec: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        KINDS[kind](Step(id="step", kind=kind, spec=spec))
