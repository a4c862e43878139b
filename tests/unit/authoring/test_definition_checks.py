from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from costs import calls

from orchestrator.activities.registry import Registry
from orchestrator.authoring.builder import compensation, parallel, step, workflow
from orchestrator.authoring.checks import MOST_PROBLEMS, check
from orchestrator.authoring.nodes import Node
from orchestrator.errors import DefinitionError


def plain(step_id: str, given: Mapping[str, Any] | None = None, **options: Any) -> Node:
    return step(step_id, "act", given, **options)


def problems(*nodes: Node, registry: Registry | None = None, **options: Any) -> list[str]:
    definition = workflow("w", *nodes, **options).definition
    with pytest.raises(DefinitionError) as caught:
        check(definition, "orders.yaml", registry)
    assert caught.value.source == "orders.yaml"
    return list(caught.value.problems)


def test_a_sound_definition_has_no_problems() -> None:
    sound = workflow(
        "w",
        plain("a", {"x": "{{ input.x }} {{ execution.id }}"}),
        parallel(plain("b", {"x": "{{ steps.a.output }}"}), plain("c")),
        plain(
            "d",
            {"x": ["{{ steps.a.output.y }}", {"z": "{{ steps.c.output }}"}]},
            compensation=compensation(
                "act", {"x": "{{ undo.output.id }} {{ undo.input }} {{ undo.error }} {{ steps.b.output }} {{ input }}"}
            ),
        ),
        input={"$defs": {"n": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/n"}}},
        output={"b": "{{ steps.b.output }}", "id": "{{ execution.id }}"},
    )
    check(sound.definition, "orders.yaml", None)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([plain("a"), plain("a")], ["step a: 2 steps have this id; rename all but one"]),
        (
            [plain("charge"), plain("b", after=["chrge"])],
            ['step b: there is no step "chrge" to come after; did you mean "charge"?'],
        ),
        (
            [plain("a"), plain("b", after=["zzz"])],
            ['step b: there is no step "zzz" to come after; add it, or remove it from after'],
        ),
        ([plain("a", after=["a"])], ["step a: it comes after itself; remove it from after"]),
    ],
)
def test_edges_that_lead_nowhere_are_refused(nodes: list[Node], expected: list[str]) -> None:
    assert problems(*nodes) == expected


def test_steps_that_wait_for_each_other_are_shown_as_a_cycle_in_order() -> None:
    found = problems(
        plain("a", after=["c"]),
        plain("b", after=["a"]),
        plain("c", {"x": "{{ steps.a.output }}"}, after=["b"]),
        plain("d", after=["e"]),
        plain("e", after=["d"]),
        plain("f", after=["e"]),
    )
    assert len(found) == 2
    rotations = [" -> ".join(ring) for ring in ("abca", "bcab", "cabc")]
    assert any(f"steps wait for each other: {ring}; remove" in found[0] + found[1] for ring in rotations)
    assert any(
        f"steps wait for each other: {ring}; remove" in found[0] + found[1] for ring in ("d -> e -> d", "e -> d -> e")
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ steps.c.output }}", 'step b: {{ steps.c.output }}: step "c" need not have ended by then; add it to after'),
        ("{{ steps.d.output }}", 'step b: {{ steps.d.output }}: step "d" need not have ended by then; add it to after'),
        ("{{ steps.b.output }}", "step b: {{ steps.b.output }}: a step has no output of its own yet"),
        (
            "{{ steps.chrge.output }}",
            'step b: {{ steps.chrge.output }}: there is no step "chrge"; did you mean "charge"?',
        ),
        ("{{ steps.q.output }}", 'step b: {{ steps.q.output }}: there is no step "q"; add it, or refer to another'),
        ("{{ steps }}", "step b: {{ steps }}: it names no step; write steps.<id>.output"),
        ("{{ steps[0] }}", "step b: {{ steps[0] }}: it names no step"),
        ("{{ inputs.x }}", 'step b: {{ inputs.x }}: nothing is named "inputs"; did you mean "input"?'),
        ("{{ env.x }}", 'step b: {{ env.x }}: nothing is named "env"; there are execution, input, steps'),
        ("{{ undo.output }}", "step b: {{ undo.output }}: undo exists in compensations only"),
        ("{{ input. }}", "step b: x.y: '{{ input. }}', position 11: expected a name"),
    ],
)
def test_expressions_that_cannot_have_a_value_are_refused(template: str, expected: str) -> None:
    nodes = [plain("charge"), parallel(plain("b", {"x": {"y": template}}), plain("c")), plain("d")]
    (found,) = problems(*nodes)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ undo.outpt }}", 'step a: compensation: {{ undo.outpt }}: undo has no "outpt"; did you mean "output"?'),
        ("{{ undo.id }}", 'undo has no "id"; it has error, input, output'),
        ("{{ steps.a.output }}", "in compensations that is {{ undo.output }}"),
        ("{{ steps.b.output }}", 'step "b" need not have ended by then'),
        ("{{", "step a: compensation: x: '{{', position 1"),
    ],
)
def test_expressions_of_compensations_are_checked_too(template: str, expected: str) -> None:
    (found,) = problems(plain("a", compensation=compensation("act", {"x": template})), plain("b"))
    assert expected in found


def test_the_output_may_refer_to_any_step_that_exists() -> None:
    output = ["{{ steps.a.output }}", "{{ steps.b.output }}"]
    check(workflow("w", parallel(plain("a"), plain("b")), output=output).definition, "orders.yaml", None)
    found = problems(plain("a"), output={"x": "{{ steps.b.output }}", "y": "{{ undo.x }}", "z": 1})
    assert found[0].startswith('output: {{ steps.b.output }}: there is no step "b"')
    assert found[1].startswith("output: {{ undo.x }}: undo exists in compensations only")
    (unreadable,) = problems(plain("a"), output={"x": "{{ }}"})
    assert unreadable.startswith("output.x: '{{ }}', position 4")


def test_schemas_that_are_none_are_refused() -> None:
    found = problems(plain("a"), input={"type": "objekt"}, output_type={"properties": {"x": {"$ref": "#/$defs/x"}}})
    assert found[0].startswith("input_schema: $.type: 'objekt' is not valid")
    assert found[1] == 'output_schema: "$ref": "#/$defs/x" is not in the schema; put what it names under "$defs"'


def test_activities_and_their_parameters_are_checked_against_the_registry() -> None:
    def charge(amount: int) -> None: ...
    def refund(reason: str = "") -> None: ...

    own = Registry()
    own.register(charge)
    own.register(refund)
    found = problems(
        step("a", "charge", {"amount": "{{ input.amount }}"}, compensation="refund"),
        step("b", "chrge"),
        step("c", charge, {"amount": [], "currency": "EUR"}, compensation=compensation(refund, {"why": 1})),
        registry=own,
    )
    assert [each.split(";")[0] for each in found] == [
        'step b: no activity is named "chrge"',
        'step c: activity charge: unknown parameter "currency"',
        'step c: activity charge: parameter "amount": Input should be a valid integer',
        'step c: compensation: activity refund: unknown parameter "why"',
    ]


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), ("a\x00b", "NUL"), ("\ud800", "surrogates")])
def test_values_that_the_ledger_cannot_store_are_refused(value: object, word: str) -> None:
    (found,) = problems(plain("a", {"x": value}))
    assert found.startswith("the definition")
    assert word in found


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        plain("a", {"x": "{{ foo }}", "y": "{{"}),
        plain("a", after=["b"]),
        plain("c", {"x": "{{ steps.z.output }}"}),
        output="{{ bar }}",
    )
    assert len(found) == 6


def test_thousands_of_problems_are_cut_short() -> None:
    found = problems(*(plain(f"step_{n}", {"x": f"{{{{ steps.stp_{n}.output }}}}"}) for n in range(500)))
    assert len(found) == MOST_PROBLEMS + 1
    assert found[-1] == "there are more problems; mend these first"


@pytest.mark.parametrize("reference", ["s0", "half", "previous"])
def test_checking_costs_as_much_for_each_step_of_a_long_chain_as_of_a_short_one(reference: str) -> None:
    def earlier(n: int) -> str:
        return {"s0": "s0", "half": f"s{n // 2}", "previous": f"s{n - 1}"}[reference]

    def chain(length: int) -> list[Node]:
        return [plain("s0"), *(plain(f"s{n}", {"x": f"{{{{ steps.{earlier(n)}.output }}}}"}) for n in range(1, length))]

    short, long = (workflow("long", *chain(length)).definition for length in (500, 2000))
    assert calls(lambda: check(long, "long", None)) < 4.5 * calls(lambda: check(short, "short", None))
