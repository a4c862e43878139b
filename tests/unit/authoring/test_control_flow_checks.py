"""What is refused of control flow before it is used, each with the step and the fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from costs import calls

from orchestrator.activities.registry import Registry
from orchestrator.authoring.builder import workflow
from orchestrator.authoring.checks import MOST_PROBLEMS, check
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
from orchestrator.authoring.steps import compensation, handle, node, parallel, step
from orchestrator.errors import DefinitionError
from orchestrator.model.definition import Catch, Definition, Step


def plain(step_id: str, value: Any = None, **options: Any) -> Node:
    return step(step_id, "act", None if value is None else {"x": value}, **options)


def told(*nodes: Node, **options: Any) -> list[str]:
    return problems(workflow("w", *nodes, **options).definition)


def problems(definition: Definition, registry: Registry | None = None) -> list[str]:
    try:
        check(definition, "w.py", registry)
    except DefinitionError as error:
        return list(error.problems)
    return []


def test_sound_shapes_have_no_problems() -> None:
    loop = each(
        "loop",
        "{{ steps.first.output }}",
        plain("a", "{{ item }} {{ index }} {{ steps.first.output }}"),
        repeat(
            "poll",
            plain("b", "{{ steps.a.output }} {{ item }}"),
            until="{{ steps.b.output.done and index < 5 and item.x }}",
            catch=handle(plain("c", "{{ steps.poll.error.name }}"), errors="TooManyIterations"),
        ),
        plain("d", "{{ steps.poll.output }}", compensation=compensation("undo", {"x": "{{ item }} {{ undo.output }}"})),
    )
    nodes = [
        plain("first"),
        loop,
        when("is", "{{ steps.loop.output }}", plain("e", "{{ steps.loop.output }}")),
        plain("last", "{{ steps.is.exit }} {{ steps.is.status }} {{ default(steps.e.output, 1) }}"),
        delay("soon", "{{ steps.last.output }}"),
        wait("w", "go", correlation="{{ steps.last.output }}"),
        emit("m", "gone", "{{ steps.w.output }}", correlation="{{ input.id }}"),
        subworkflow("s", "other", "{{ steps.w.output }}", compensation="undo"),
        fail("f", "{{ steps.s.output }}"),
    ]
    assert told(*nodes, output="{{ steps.loop.output }}") == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (node("a", "dely", {"for": 1}), 'step a: no kind is named "dely"; did you mean "delay"?'),
        (node("a", "delay", {"fro": 1}), 'step a: delay: unknown key "fro"'),
        (node("a", "delay"), "step a: delay: "),
        (delay("a", "soon"), "step a: delay: 'soon' is no duration"),
        (when("a", "input.x", plain("b")), "step a: choice: case \"then\": 'input.x': a condition stands in braces"),
        (each("a", "{{ input. }}", plain("b")), "step a: each: items: '{{ input. }}', position"),
        (each("a", "{{ input.x }}"), "step a: a step of kind each holds steps; give it some"),
        (
            node("a", "delay", {"for": 1}, plain("b")),
            "step a: a step of kind delay holds no steps; move them",
        ),
        (
            plain("a", retry=3, join="any"),
            "step a: it joins any, but comes after nothing; remove join",
        ),
        (plain("a", join=2), "step a: it joins 2, but comes after 0 steps only; lower join, or add to after"),
        (node("a", "delay", {"for": 1}, retry=3), "step a: retry means nothing to kind delay; only activities"),
        (
            node("a", "wait", {"signal": "x"}, timeout=3),
            "step a: timeout means nothing to kind wait; give one",
        ),
        (node("a", "delay", {"for": 1}, input={"x": 1}), "step a: input means nothing to kind delay; write what"),
        (node("a", "delay", {"for": 1}, activity="x"), "step a: activity means nothing to kind delay; remove it"),
        (node("a", "activity", {"x": 1}, activity="x"), "step a: an activity has no spec; write its parameters into"),
        (delay("a", 1, on_error="retry"), "step a: on_error retry means nothing to kind delay"),
        (node("a", "delay", {"for": 1}, compensation="undo"), "step a: kind delay has no effect to undo; give"),
        (plain("a", on_error="continue", fallback=plain("b")), "step a: with on_error continue it goes on after every"),
        (plain("a", catch=[Catch(), Catch(exit="b")]), 'step a: its catch with exit "b" is never reached'),
        (
            choice("a", case(True, exit="x"), catch=Catch(exit="default")),
            'step a: catch: the kind has an exit "default" of its own; name it otherwise',
        ),
        (plain("a", catch=Catch(exit="skipped")), 'step a: exit "skipped" is a word of the engine; name it otherwise'),
        (block("a", plain("b", retry=1), plain("b")), "step b: 2 steps have this id; rename all but one"),
        (block("a", plain("b"), block("c", plain("a"))), "step a: 2 steps have this id; rename all but one"),
        (block("a", plain("b", after=["c"]), plain("c", after=["b"])), "steps wait for each other: "),
        (block("a", plain("b", after=["a"])), 'step b: step "a" lies in another body, and a step can only come after'),
        (plain("a", "{{ item }}"), "step a: {{ item }}: item exists inside of each only; use input, steps or"),
        (plain("a", "{{ index }}"), "step a: {{ index }}: index exists inside of each and repeat only"),
        (plain("a", "{{ event.payload }}"), "step a: {{ event.payload }}: event exists in a machine's transitions"),
        (repeat("a", plain("b", "{{ item }}"), until="{{ true }}"), "step b: {{ item }}: item exists inside of each"),
        (each("a", "{{ item }}", plain("b")), "step a: {{ item }}: item exists inside of each only"),
        (
            repeat("a", plain("b"), until="{{ steps.a.output }}"),
            'step a: {{ steps.a.output }}: step "a" holds this one and has not ended yet; refer to another',
        ),
        (
            block("a", plain("b", "{{ steps.a.output }}")),
            'step b: {{ steps.a.output }}: step "a" holds this one and has not ended yet; refer to another',
        ),
        (
            block("a", plain("b"), parallel(plain("c"), plain("d", "{{ steps.c.output }}"))),
            'step d: {{ steps.c.output }}: step "c" need not have ended by then; add it to after',
        ),
    ],
)
def test_one_wrong_shape_is_one_problem(found: Any, expected: str) -> None:
    (problem,) = told(found)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (
            [choice("route", case(True, exit="express")), plain("b", after=["route:expres"])],
            'step b: step route has no exit "expres"; did you mean "express"?',
        ),
        (
            [choice("route", case(True, exit="express")), plain("b", after=["route:zzz"])],
            'step b: step route has no exit "zzz"; it has express, default',
        ),
        (
            [plain("a"), plain("b", after=["a:error"])],
            'step b: step a has no exit "error"; it has none, so come after a',
        ),
        (
            [block("a", plain("inner")), plain("b", after=["inner"])],
            'step b: step "inner" lies inside of step "a", and a step can only come after those beside it; come after',
        ),
        (
            [block("a", plain("inner")), plain("b", "{{ steps.inner.output }}")],
            'step b: {{ steps.inner.output }}: step "inner" is seen inside of step "a" only; refer to steps.a.output',
        ),
        (
            [parallel(plain("a"), block("b", plain("c", "{{ steps.a.output }}")))],
            'step c: {{ steps.a.output }}: step "a" need not have ended by then; add it to after of step "b"',
        ),
        (
            [parallel(plain("a"), plain("b")), plain("c", join=3)],
            "step c: it joins 3, but comes after 2 steps only; lower join, or add to after",
        ),
        (
            # Two exits of one step are one that can succeed.
            [choice("a", case(True, exit="x")), plain("b", after=["a:x", "a:default"], join=2)],
            "step b: it joins 2, but comes after 1 steps only",
        ),
        (
            [plain("a"), repeat("b", plain("c"), until="{{ steps.d.output }}"), plain("d")],
            'step b: {{ steps.d.output }}: step "d" need not have ended by then; add it to after of step "b"',
        ),
    ],
)
def test_wrong_edges_and_references_between_shapes_are_one_problem(nodes: list[Node], expected: str) -> None:
    (problem,) = told(*nodes)
    assert problem.startswith(expected)


def test_the_output_sees_outermost_steps_only() -> None:
    (problem,) = told(block("a", plain("inner")), output="{{ steps.inner.output }}")
    assert problem == (
        'output: {{ steps.inner.output }}: step "inner" is seen inside of step "a" only; refer to steps.a.output'
    )


def test_schemas_of_signals_are_checked() -> None:
    (problem,) = told(plain("a"), signals={"go": {"type": "objekt"}})
    assert problem.startswith("signals.go: $.type: 'objekt' is not valid")


def test_activities_within_bodies_are_checked_against_the_registry() -> None:
    def act(x: int) -> None: ...

    own = Registry()
    own.register(act)
    inner = step("b", "act", {"x": "{{ item }}", "y": 1}, compensation="undo")
    (wrong, unknown) = problems(workflow("w", each("a", [1], inner)).definition, own)
    assert wrong.startswith('step b: activity act: unknown parameter "y"')
    assert unknown.startswith('step b: compensation: no activity is named "undo"')


def chain(count: int) -> list[Node]:
    return [plain("s0"), *(plain(f"s{n}", f"{{{{ steps.s{n // 2}.output }}}}") for n in range(1, count))]


def nested(count: int) -> list[Node]:
    """Loops within loops, each with steps that refer to those of all loops around them."""
    inner: list[Node] = []
    for depth in range(15, 0, -1):
        around = " ".join(f"{{{{ steps.s{each_}_0.output }}}}" for each_ in range(1, depth + 1))
        body = [plain(f"s{depth}_{n}", around if n else None) for n in range(count // 15)]
        inner = [*body, each(f"loop{depth}", [1], *(inner or [plain("innermost", "{{ item }}")]))]
    return inner


def branches(count: int) -> list[Node]:
    return [
        found
        for n in range(count // 4)
        for found in (
            choice(f"c{n}", case("{{ input.x }}", plain(f"a{n}"), exit="x"), default=plain(f"b{n}")),
            plain(f"d{n}", f"{{{{ steps.a{n}.output }}}}", catch=handle(errors="business")),
        )
    ]


def loops(count: int) -> list[Node]:
    return [each(f"loop{n}", [1], plain(f"s{n}", "{{ item }}")) for n in range(count // 2)]


def wide(count: int) -> list[Node]:
    """One choice of many cases, and a join of all of them."""
    cases = [case("{{ input.x }}", plain(f"a{n}"), exit=f"x{n}") for n in range(count // 2)]
    behind = [plain(f"c{n}", after=[f"route:x{n}"]) for n in range(count // 2)]
    return [choice("route", *cases), plain("b"), *behind]


@pytest.mark.parametrize("shape", [chain, nested, branches, loops, wide])
def test_checking_costs_as_much_for_each_step_of_2000_as_of_500(shape: Callable[[int], list[Node]]) -> None:
    few, many = (workflow("long", *shape(count)).definition for count in (500, 2000))
    assert problems(many) == []
    assert calls(lambda: problems(many)) < 4.5 * calls(lambda: problems(few))


def test_thousands_of_problems_in_nested_bodies_are_cut_short() -> None:
    found = told(*(each(f"loop{n}", [1], plain(f"s{n}", f"{{{{ steps.x{n}.output }}}}")) for n in range(500)))
    assert len(found) == MOST_PROBLEMS + 1
    assert found[-1] == "there are more problems; mend these first"


def test_a_definition_that_was_never_assembled_is_checked_all_the_same() -> None:
    inner = Step(id="b", activity="act", input={"x": "{{ item }}"})
    found = problems(Definition(name="w", steps=(Step(id="a", kind="block", steps=(inner,)),)))
    assert [problem.split(":")[0] for problem in found] == ["step b"]
