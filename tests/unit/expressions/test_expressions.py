from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ExpressionError
from orchestrator.expressions import Path, compile_value
from orchestrator.expressions.values import MAX_DEPTH

SCOPE: dict[str, Any] = {
    "input": {
        "customer": {"name": "Ada", "address-line": "1 Main St"},
        "lines": [{"sku": "A1", "qty": 2}, {"sku": "B2", "qty": 1.5}],
        "a key": {'quote"d': True},
        "nothing": None,
        "größe": "XL",
        "text": "plain",
    },
    "steps": {"charge-card": {"output": {"id": 7}}},
}

# Another process on the machine must not fail a test, so an example may take its time.
patient = settings(deadline=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def resolve(value: Any) -> Any:
    return compile_value(value).resolve(SCOPE)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("{{ input.customer.name }}", "Ada"),
        ("{{input.customer.name}}", "Ada"),
        ("{{ input . customer\n. name }}", "Ada"),
        ("{{ input.customer.address-line }}", "1 Main St"),
        ("{{ input.lines[1].qty }}", 1.5),
        ("{{ input.lines[0] }}", {"sku": "A1", "qty": 2}),
        ('{{ input["a key"]["quote\\"d"] }}', True),
        ("{{ input['a key']['quote\"d'] }}", True),
        ("{{ input.größe }}", "XL"),
        ("{{ input.nothing }}", None),
        ("{{ steps.charge-card.output.id }}", 7),
        ("{{ steps['charge-card'].output.id }}", 7),
    ],
)
def test_a_lone_expression_keeps_the_type_of_its_value(expression: str, expected: object) -> None:
    result = resolve(expression)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dear {{ input.customer.name }},", "Dear Ada,"),
        ("{{ input.lines[0].qty }}{{ input.lines[1].qty }}", "21.5"),
        ("{{ input.nothing }}!", "null!"),
        ('is {{ input["a key"] }}', 'is {"quote\\"d":true}'),
        (" {{ input.lines[0].qty }}", " 2"),
        ("{{ input.größe }} {{ input.text }}", "XL plain"),
    ],
)
def test_expressions_amid_text_give_text_with_compact_json(text: str, expected: str) -> None:
    assert resolve(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\{{ input.text }}", "{{ input.text }}"),
        (r"\\{{ input.text }}", "\\plain"),
        (r"\\\{{ input.text }}", r"\{{ input.text }}"),
        (r"\{{ x }} is {{ input.text }}", "{{ x }} is plain"),
        (r"C:\dir \n }} {", r"C:\dir \n }} {"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
    ],
)
def test_backslashes_take_the_meaning_of_braces_away_and_have_none_elsewhere(text: str, expected: str) -> None:
    assert resolve(text) == expected


def test_closing_braces_in_a_quoted_key_do_not_end_the_expression() -> None:
    assert compile_value('{{ input["}}"] }}').resolve({"input": {"}}": 3}}) == 3


def test_expressions_are_found_in_the_values_of_nested_lists_and_objects_but_not_in_keys() -> None:
    value = {"{{ k }}": [1, {"deep": ["{{ input.text }}", "x"]}], "plain": {"n": 1}}
    assert resolve(value) == {"{{ k }}": [1, {"deep": ["plain", "x"]}], "plain": {"n": 1}}


def test_an_escape_deep_in_a_value_is_undone_without_expressions() -> None:
    template = compile_value({"a": [r"\{{ x }}"], "b": 1})
    assert template.is_constant
    assert template.resolve({}) == {"a": ["{{ x }}"], "b": 1}


def test_resolving_keeps_the_order_of_keys_and_changes_neither_template_nor_scope() -> None:
    value = {"z": "{{ input.text }}", "a": 1, "m": ["{{ input.lines }}"]}
    before = copy.deepcopy((value, SCOPE))
    template = compile_value(value)
    first = template.resolve(SCOPE)
    first["a"] = first["m"][0] = "changed"
    assert list(first) == ["z", "a", "m"]
    assert template.resolve(SCOPE) == {"z": "plain", "a": 1, "m": [SCOPE["input"]["lines"]]}
    assert (value, SCOPE) == before


def test_references_roots_and_steps_are_known_without_resolving() -> None:
    template = compile_value(
        {
            "a": "{{ steps.one.output.x }} {{ steps['two'].output[0] }}",
            "b": ["{{ input.y }}", "{{ steps.one.output.x }}"],
        }
    )
    assert template.steps == {"one", "two"}
    assert template.roots == {"steps", "input"}
    assert template.references == (
        Path(root="steps", keys=("one", "output", "x")),
        Path(root="steps", keys=("two", "output", 0)),
        Path(root="input", keys=("y",)),
    )


def test_a_path_is_shown_as_an_expression_would_write_it() -> None:
    assert str(Path(root="a", keys=("b-c", 0, "d e", 'f"'))) == 'a.b-c[0]["d e"]["f\\""]'


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("{{ input.a", 1, "not closed"),
        ("ab {{ input.a }", 15, "not understood"),
        ("{{ input. }}", 11, "expected a name"),
        ("{{ input.a b }}", 12, "found 'b'"),
        ("{{}}", 3, "expected a value"),
        ("{{ 3 4 }}", 6, "expected an operator"),
        ("{{ input.0 }}", 10, "expected a name"),
        ("{{ input[-1] }}", 10, "indexes count from 0"),
        ("{{ input[] }}", 10, "expected a value"),
        ("{{ input[0 }}", 12, 'expected "]"'),
        ("{{ input[12345678901] }}", 10, "too large"),
        ('{{ input["a }}', 10, "quote is not closed"),
        (r'{{ input["a\q"] }}', 12, "no escape"),
        ("{{ input() }}", 4, 'there is no function "input"'),
        ("{{ a ~ b }}", 6, "not understood"),
        ("{{ {{ a }} }}", 5, r"the text {{ is written \{{"),
        ('{{"a": 1}}', 6, r"the text {{ is written \{{"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_text_and_position(text: str, position: int, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value(text)
    assert f"{text!r}, position {position}: " in str(caught.value)
    assert problem in str(caught.value)


def test_a_bad_expression_deep_in_a_value_is_named_by_its_place() -> None:
    with pytest.raises(ExpressionError, match=r'^mail\.to\[1\]\["a b"\]: '):
        compile_value({"mail": {"to": ["x", {"a b": "{{ }}"}]}})


def test_a_value_nested_too_deep_is_refused() -> None:
    value: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(ExpressionError, match="deep"):
        compile_value(value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "{{ input.customer.nam }}",
            '{{ input.customer.nam }}: input.customer has no "nam"; it has name, address-line',
        ),
        ("{{ output.x }}", '{{ output.x }}: the scope has no "output"; it has input, steps'),
        ("{{ input.lines[2].sku }}", "{{ input.lines[2].sku }}: input.lines has no index 2; it is a list of 2"),
        ("{{ input.lines.sku }}", '{{ input.lines.sku }}: input.lines has no "sku"; it is a list of 2'),
        ("{{ input.customer[0] }}", "input.customer has no index 0; it has name, address-line"),
        ("{{ input.text[0] }}", "input.text has no index 0; it is a string"),
        ("{{ input.text.upper }}", 'input.text has no "upper"; it is a string'),
        ("{{ input.nothing.x.y }}", 'input.nothing has no "x"; it is null'),
        ("{{ input.keys }}", 'input has no "keys"'),
        ("{{ input.__class__ }}", 'input has no "__class__"'),
    ],
)
def test_a_missing_path_is_named_whole_with_the_missing_part_and_what_there_is(expression: str, message: str) -> None:
    for text in (expression, f"in text: {expression}"):
        with pytest.raises(ExpressionError) as caught:
            resolve(text)
        assert message in str(caught.value)


def test_only_objects_and_lists_are_asked_for_items() -> None:
    class Trap:
        def __getitem__(self, key: object) -> object:
            raise AssertionError("was asked")

    with pytest.raises(ExpressionError, match="it is Trap"):
        compile_value("{{ input.x }}").resolve({"input": Trap()})
    with pytest.raises(ExpressionError, match='has no "x"'):
        compile_value("{{ input.x }}").resolve({"input": list})


def test_a_value_that_is_not_json_cannot_be_part_of_a_text() -> None:
    with pytest.raises(ExpressionError, match=r"{{ input\.x }}: its value cannot be part of a text"):
        compile_value("is {{ input.x }}").resolve({"input": {"x": float("nan")}})


@patient
@given(json_values)
def test_a_lone_expression_gives_back_any_value_itself(value: Any) -> None:
    assert compile_value("{{ input.value }}").resolve({"input": {"value": value}}) is value
    assert compile_value(["{{ input.value[0] }}"]).resolve({"input": {"value": [value]}})[0] is value


@patient
@given(json_values)
def test_a_value_without_expressions_is_its_own_result(value: Any) -> None:
    if "{{" not in repr(value):
        template = compile_value(value)
        assert template.is_constant
        assert template.resolve({}) is value


@patient
@given(st.text())
def test_any_text_can_be_written_with_escapes(text: str) -> None:
    written = ""
    for index, part in enumerate(text.split("{{")):
        if index:
            slashes = len(written) - len(written.rstrip("\\"))
            written += "\\" * slashes + r"\{{"
        written += part
    if "{{{" not in text:
        assert compile_value(written).resolve({}) == text


@patient
@given(st.lists(st.text() | st.integers(0, 9), max_size=5))
def test_a_path_reads_back_from_how_it_is_shown(keys: list[str | int]) -> None:
    path = Path(root="input", keys=tuple(keys))
    # Only quotes and backslashes have escapes in expressions; JSON, which shows paths, escapes control characters too.
    if all(isinstance(key, int) or key.isprintable() for key in keys):
        assert compile_value(f"{{{{ {path} }}}}").references == (path,)
