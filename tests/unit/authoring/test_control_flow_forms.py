"""Shapes become flat steps: what comes after what, and by which exit."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.authoring.builder import machine, transition, workflow
from orchestrator.authoring.forms import cases_of
from orchestrator.authoring.loader import load_text
from orchestrator.authoring.nodes import Node
from orchestrator.authoring.shapes import (
    block,
    case,
    choice,
    delay,
    each,
    emit,
    fail,
    repeat,
    subworkflow,
    wait,
    when,
)
from orchestrator.authoring.steps import compensation, handle, node, parallel, sequence, step
from orchestrator.errors import DefinitionError
from orchestrator.kinds.kinds import KINDS
from orchestrator.model.definition import Catch, Step


def plain(step_id: str, **options: Any) -> Node:
    return step(step_id, "act", **options)


def steps(*nodes: Node) -> tuple[Step, ...]:
    return workflow("w", *nodes).definition.steps


def after(*nodes: Node) -> dict[str, tuple[str, ...]]:
    return {found.id: found.after for found in steps(*nodes)}


def problems(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load_text(f"name: w\nsteps:\n{text}", "w.yaml")
    return list(caught.value.problems)


def test_what_follows_a_choice_comes_after_every_branch() -> None:
    cases = case("{{ input.a }}", plain("a"), plain("b"), exit="x"), case("{{ input.b }}", plain("c"))
    assert after(choice("route", *cases, default=plain("d")), plain("e")) == {
        "route": (),
        "a": ("route:x",),
        "b": ("a",),
        "c": ("route:case_2",),
        "d": ("route:default",),
        "e": ("b", "c", "d"),
    }


def test_a_choice_without_a_default_goes_straight_on_by_it() -> None:
    assert after(when("is", "{{ input.a }}", plain("a")), plain("b")) == {
        "is": (),
        "a": ("is:then",),
        "b": ("is:default", "a"),
    }


def test_a_case_without_steps_goes_straight_on() -> None:
    route = choice("route", case("{{ input.a }}", exit="x"), default=plain("d"))
    assert after(route, plain("e"))["e"] == ("route:x", "d")
    assert after(choice("route", case("{{ input.a }}")), plain("e"))["e"] == ("route",)


def test_what_follows_a_step_with_handlers_comes_after_it_and_each_of_them() -> None:
    first = plain(
        "a",
        catch=[handle(plain("b"), plain("c"), errors="Declined"), handle(errors=["timeout"])],
        fallback=plain("d"),
    )
    built = steps(first, plain("e"))
    assert {found.id: found.after for found in built} == {
        "a": (),
        "b": ("a:error",),
        "c": ("b",),
        "d": ("a:fallback",),
        "e": ("a", "c", "a:error_2", "d"),
    }
    assert built[0].catch == (
        Catch(errors=("Declined",), exit="error"),
        Catch(errors=("timeout",), exit="error_2"),
        Catch(exit="fallback"),
    )


def test_handlers_never_share_an_exit_by_accident() -> None:
    text = """
- id: a
  activity: act
  catch:
    - {errors: [x], steps: [{id: b, activity: act}]}
    - {errors: y}
"""
    (first, _) = load_text(f"name: w\nsteps:{text}", "w.yaml").steps
    assert [found.exit for found in first.catch] == ["error", "error_2"]
    flat = load_text("name: w\nsteps: [{id: a, activity: act, catch: [{errors: [x]}, {errors: [y]}]}]", "w.yaml").steps
    assert [found.exit for found in flat[0].catch] == ["error", "error"]


def test_a_caught_error_without_steps_goes_straight_on() -> None:
    assert after(plain("a", catch=handle(errors="business")), plain("b"))["b"] == ("a", "a:error")


def test_an_exit_that_a_step_names_leads_there_only() -> None:
    built = after(
        plain("a", catch=[Catch(exit="late")]),
        plain("b"),
        parallel(sequence(plain("c", after="a:late"), plain("d")), plain("e")),
    )
    assert built == {"a": (), "b": ("a",), "c": ("a:late",), "d": ("c",), "e": ("b",)}
    assert after(plain("a", catch=[Catch(exit="late")]), plain("b"))["b"] == ("a", "a:late")


def test_a_node_behind_exits_that_all_lead_elsewhere_must_say_what_it_comes_after() -> None:
    route = choice("route", case("{{ input.a }}", exit="x"))
    with pytest.raises(DefinitionError, match=r"step b: every exit before it leads elsewhere; say what it comes after"):
        workflow("w", route, plain("b"), plain("c", after=["route:x"]), plain("d", after=["route:default"]))


def test_bodies_are_flat_in_themselves_and_do_not_see_the_edges_around_them() -> None:
    loop = each("loop", "{{ input.items }}", plain("a"), parallel(plain("b"), plain("c")), plain("d"))
    built = steps(plain("first"), loop, plain("last"))
    assert [found.id for found in built] == ["first", "loop", "last"]
    assert built[1].after == ("first",)
    assert {found.id: found.after for found in built[1].steps} == {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d": ("b", "c"),
    }
    assert built[2].after == ("loop",)


def test_shapes_lie_within_each_other() -> None:
    inner = repeat("again", plain("x"), until="{{ steps.x.output }}", catch=handle(plain("y")))
    (outer,) = steps(block("outer", when("is", "{{ input.a }}", inner), plain("z")))
    assert {found.id: found.after for found in outer.steps} == {
        "is": (),
        "again": ("is:then",),
        "y": ("again:error",),
        "z": ("is:default", "again", "y"),
    }
    assert [found.id for found in outer.steps[1].steps] == ["x"]


def test_every_function_makes_its_kind() -> None:
    built = steps(
        delay("a", "24h"),
        delay("b", until="{{ input.at }}"),
        wait("c", "approval", correlation="{{ input.id }}", timeout=5),
        emit("d", "placed", {"x": 1}, correlation="c"),
        subworkflow(
            "e", workflow("other", plain("x")), {"y": 2}, detached=True, version=3, timeout="1h", compensation="undo"
        ),
        fail("f", "no", name="No", category="system"),
        repeat("g", plain("h"), while_="{{ index < 3 }}", max_iterations=4, pause="1s"),
        choice("i", case(True, exit="x"), default_on_error=True),
        each("j", [1, 2], plain("k"), concurrency=2, max_iterations=3, join="settled", on_error="continue"),
        node("l", "delay", {"for": 1}, queue="q", fuse=False),
    )
    assert [(found.kind, found.spec) for found in built] == [
        ("delay", {"for": "24h"}),
        ("delay", {"until": "{{ input.at }}"}),
        ("wait", {"signal": "approval", "correlation": "{{ input.id }}", "timeout": 5}),
        ("emit", {"event": "placed", "payload": {"x": 1}, "correlation": "c"}),
        ("workflow", {"workflow": "other", "version": 3, "input": {"y": 2}, "detached": True, "timeout": "1h"}),
        ("fail", {"message": "no", "name": "No", "category": "system"}),
        ("repeat", {"while": "{{ index < 3 }}", "max_iterations": 4, "pause": "1s"}),
        ("choice", cases_of([("x", True)]) | {"default_on_error": True}),
        ("each", {"items": [1, 2], "concurrency": 2, "max_iterations": 3}),
        ("delay", {"for": 1}),
    ]
    assert (built[8].join, built[8].on_error) == ("settled", "continue")
    assert (built[9].queue, built[9].fuse) == ("q", False)
    assert built[4].compensation is not None


def test_durations_may_be_texts_and_timedeltas_everywhere() -> None:
    undo = compensation("undo", timeout=timedelta(minutes=1))
    built = workflow(
        "w",
        step("a", "act", timeout="1m30s", compensation=undo, retry={"backoff": "500ms", "max_delay": "2m"}),  # type: ignore[arg-type]
        delay("b", timedelta(days=1)),
        timeout="2d",
        step_timeout="PT1H",
    ).definition
    assert (built.timeout, built.step_timeout, built.steps[0].timeout) == (172_800, 3_600, 90)
    assert built.steps[0].compensation is not None
    assert built.steps[0].compensation.timeout == 60
    assert built.steps[0].retry is not None
    assert (built.steps[0].retry.backoff, built.steps[0].retry.max_delay) == (0.5, 120)
    KINDS["delay"](built.steps[1])


def test_texts_that_are_no_durations_are_told() -> None:
    with pytest.raises(DefinitionError, match=r"step a: \"timeout\": 'soon' is no duration; write seconds"):
        workflow("w", plain("a", timeout="soon"))
    with pytest.raises(DefinitionError, match=r"transition to B: \"after\": 'soon' is no duration"):
        machine("m", initial="A", states=["A"], final="B", transitions=[transition("A", "B", after="soon")])


def test_a_lone_value_behind_a_kind_is_that_of_its_first_key() -> None:
    text = """
- {id: a, delay: 24h}
- {id: b, wait: approval}
- {id: c, workflow: other}
- {id: d, fail: "no {{ input.x }}"}
- {id: e, each: [1, 2], steps: [{id: f, activity: act}]}
- {id: g, block: , steps: [{id: h, activity: act}]}
- {id: i, block: [{id: j, activity: act}]}
"""
    loaded = load_text(f"name: w\nsteps:{text}", "w.yaml").steps
    assert [(found.kind, found.spec) for found in loaded] == [
        ("delay", {"for": "24h"}),
        ("wait", {"signal": "approval"}),
        ("workflow", {"workflow": "other"}),
        ("fail", {"message": "no {{ input.x }}"}),
        ("each", {"items": [1, 2]}),
        ("block", {}),
        ("block", {}),
    ]
    assert [inner.id for found in loaded for inner in found.steps] == ["f", "h", "j"]


def test_exits_of_any_kind_may_have_steps() -> None:
    spec = cases_of([("x", "{{ input.x }}")])
    built = node("a", "choice", spec, exits={"x": [plain("b")]})
    assert after(built, plain("c")) == {"a": (), "b": ("a:x",), "c": ("a:default", "b")}
    behind = {"x": [{"id": "b", "activity": "act"}]}
    written = [{"id": "a", "choice": spec, "exits": behind}, {"id": "c", "activity": "act"}]
    text = json.dumps({"name": "w", "steps": written})
    assert load_text(text, "w.json").steps == steps(built, plain("c"))


def test_a_new_kind_works_without_touching_the_authoring_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "nap", KINDS["delay"])
    monkeypatch.setitem(KINDS, "loop", KINDS["each"])
    text = """
- {id: a, nap: 5s}
- {id: b, loop: {items: [1]}, steps: [{id: c, activity: act, input: {x: "{{ item }}"}}]}
"""
    loop = node("b", "loop", {"items": [1]}, step("c", "act", {"x": "{{ item }}"}))
    built = steps(node("a", "nap", {"for": "5s"}), loop)
    assert load_text(f"name: w\nsteps:{text}", "w.yaml").steps == built


def test_a_machine_in_short_and_in_full_is_the_same() -> None:
    short = """
name: m
machine:
  initial: A
  states: [A, B]
  final: C
  transitions:
    - {from: A, to: B, event: GO, actors: boss, steps: [{id: a, activity: act}, {id: b, activity: act}], timeout: 1m}
    - {from: ["*"], to: C, after: 1d}
"""
    full = """
{"name": "m", "$schema": "workflow.schema.json", "machine": {
  "initial": "A", "states": {"A": {}, "B": null, "C": {"final": true}},
  "transitions": [
    {"from": ["A"], "to": "B", "event": "GO", "actors": ["boss"], "timeout": 60, "steps": [
      {"id": "a", "activity": "act", "after": []}, {"id": "b", "activity": "act", "after": ["a"]}]},
    {"from": ["*"], "to": "C", "after": 86400}]}}
"""
    built = machine(
        "m",
        initial="A",
        states={"A": {}, "B": {}, "C": {"final": True}},
        transitions=[
            transition("A", "B", event="GO", actors=["boss"], steps=[plain("a"), plain("b")], timeout=60),
            transition("*", "C", after=timedelta(days=1)),
        ],
    ).definition
    assert load_text(short, "m.yaml") == load_text(full, "m.json") == built


def test_signals_take_types_and_schemas() -> None:
    built = workflow("w", plain("a"), signals={"x": int, "y": {"type": "string"}}).definition
    assert built.signals == {"x": {"type": "integer"}, "y": {"type": "string"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- {id: a, delay: 5, wait: x}", "line 3: step a: wait and delay do not go together; remove one of them"),
        ("- {id: a, delay: 5, activity: x}", "line 3: step a: delay and activity do not go together"),
        ("- {id: a, when: true, then: [], activity: x}", "line 3: step a: when and activity do not go together"),
        ("- {id: a, dealy: 5}", 'line 3: step a: unknown key "dealy"; did you mean "delay"'),
        ("- {id: a, each: [1], steps: {id: b}}", "line 3: steps takes a list of steps; write each behind a dash"),
        ("- {id: a, when: true}", "line 3: step a: when has no then; add it, or otherwise"),
        ("- {id: a, choice: [{steps: []}]}", "line 3: a case has when, steps and perhaps an exit"),
        ("- {id: a, choice: [{default: []}, {when: true}]}", "line 3: cases behind the default are never asked"),
        ("- {id: a, choice: [{exit: x, when: true}, {exit: x, when: true}]}", "line 3: exit x stands twice"),
        ("- {id: a, activity: x, exits: []}", "line 3: exits takes a mapping"),
        (
            "- {id: a, activity: x, catch: [{exit: e, steps: []}, {exit: e, steps: []}]}",
            'line 3: step a: two branches have the exit "e"; give one another',
        ),
        (
            "- id: a\n  block:\n  steps:\n    - {id: b, activity: x}\n    - {id: c, activity: x, rety: 1}",
            'line 7: step c: unknown key "rety"; did you mean "retry"',
        ),
        (
            "- id: a\n  activity: x\n  catch:\n    - {erors: [x]}",
            'line 6: step a: unknown key "catch.0.erors"; did you mean "errors"?',
        ),
        ("- {id: a, activity: x, after: ['b:c:d']}", 'line 3: step a: "after.0": String should match pattern'),
        ("- {id: a, kind: delay, activity: x, join: 0}", 'step a: "join": Input should be'),
    ],
)
def test_shapes_that_are_none_are_told_with_line_and_step(text: str, expected: str) -> None:
    assert any(found.startswith(expected) or expected in found for found in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("machine: 3", "line 2: a machine is a mapping with initial, states and transitions; write them"),
        ("machine:\n  initial: A\n  states: [A]\n  transitions: 3", "line 5: transitions takes a list"),
        ("machine:\n  initial: A\n  states: [A]\n  transitions:\n    - 3", "line 6: 3 is no transition"),
        ("machine:\n  states: [A]", 'line 2: "machine.initial" is missing; add it'),
        (
            "machine:\n  initial: A\n  states: {A: {finl: true}}",
            'line 4: unknown key "machine.states.A.finl"; did you mean "final"?',
        ),
        (
            "machine:\n  initial: A\n  states: [A]\n  transitions:\n    - from: A\n      too: B\n      to: A",
            'line 7: unknown key "machine.transitions.0.too"; did you mean "to"?',
        ),
        (
            "machine: {initial: A, states: [A], transitions: [{from: A, to: A,\nsteps: [{id: x, rety: 1}]}]}",
            'line 3: step x: unknown key "rety"; did you mean "retry"',
        ),
        (
            "machine: {initial: A, states: [A]}\nsteps: [{id: a, activity: b}]",
            "a definition has either steps or a machine; give one of them",
        ),
    ],
)
def test_machines_that_are_none_are_told_with_their_line(text: str, expected: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_text(f"name: m\n{text}", "m.yaml")
    assert any(found.startswith(expected) for found in caught.value.problems), caught.value.problems


def test_an_unknown_option_of_a_node_is_told() -> None:
    with pytest.raises(DefinitionError, match=r'step a: unknown key "afer"; did you mean "after"'):
        workflow("w", plain("a", afer=["b"]))


def test_steps_cannot_be_nested_without_end() -> None:
    inner = plain("x")
    for number in range(30):
        inner = block(f"b{number}", inner)
    with pytest.raises(DefinitionError, match="steps are nested more than 20 deep; make the inner ones a workflow"):
        workflow("w", inner)
