from __future__ import annotations

import copy
from typing import Any

import pytest

from orchestrator.errors import ExpressionError
from orchestrator.expressions import Path, compile_value

SCOPE: dict[str, Any] = {
    "input": {
        "qty": 3,
        "price": 2.5,
        "name": "Ada",
        "paid": True,
        "nothing": None,
        "tags": ["new", "gift"],
        "lines": [{"sku": "A1", "qty": 2}, {"sku": "B2", "qty": 1}],
        "at": 1,
        "field": "sku",
        "order-id": 7,
        "in": "reserved",
        "10": "ten",
    },
    "steps": {"reserve": {"output": {"items": [{"sku": "A1"}]}}, "in": {"output": 5}, "2nd-try": {"output": 6}},
}


def resolve(value: Any) -> Any:
    return compile_value(value).resolve(SCOPE)


def error(value: Any) -> str:
    with pytest.raises(ExpressionError) as caught:
        resolve(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # literals
        ("12", 12),
        ("1.50", 1.5),
        ("2e3", 2000.0),
        ("'it\\'s'", "it's"),
        (r'"a\n\t\"b\\"', 'a\n\t"b\\'),
        ("true", True),
        ("false", False),
        ("null", None),
        ("[]", []),
        ("[1, 'a', [null]]", [1, "a", [None]]),
        ("{}", {}),
        ('{"a": {"b": {}}, "c d": input.qty}', {"a": {"b": {}}, "c d": 3}),
        # paths
        ("steps.reserve.output.items[0].sku", "A1"),
        ("input.lines[input.at].sku", "B2"),
        ("input.lines[input.at][input.field]", "B2"),
        ("input.lines[length(input.lines) - 1].qty", 1),
        ("(input.lines)[0].sku", "A1"),
        ("[10, 20][1]", 20),
        ('{"a": 1}["a"]', 1),
        ('parse_json("[[1, 2]]")[0][1]', 2),
        ('input["10"]', "ten"),
        ("input.in", "reserved"),
        ("steps.in.output", 5),
        ('steps["in"].output', 5),
        ("input.order-id", 7),
        # arithmetic
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 2 - 3", 5),
        ("2 * 3 % 4", 2),
        ("7 / 2", 3.5),
        ("6 / 2", 3.0),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("7.5 // 2", 3.0),
        ("-input.qty + 1", -2),
        ("- -1", 1),
        ("input.qty -1", 2),
        ("input.qty - 1", 2),
        ("input.order-id -1", 6),
        ("5-3", 2),
        ("input.lines[0].qty -1", 1),
        ("length(input.tags)-1", 1),
        ("input.qty * input.price", 7.5),
        ("'a' + 'b' + input.name", "abAda"),
        ("[1] + [2, 3] + input.tags", [1, 2, 3, "new", "gift"]),
        # comparison
        ("1 == 1.0", True),
        ("true == 1", False),
        ("0 == false", False),
        ("'1' == 1", False),
        ("null == null", True),
        ("null == false", False),
        ("input.nothing != null", False),
        ("[1, {'a': 2}] == [1.0, {'a': 2}]", True),
        ("[1, 2] == [1, 3]", False),
        ("[1] == [1, 1]", False),
        ("{'a': 1, 'b': 2} == {'b': 2, 'a': 1}", True),
        ("{'a': 1} == {'b': 1}", False),
        ("[[true]] == [[1]]", False),
        ("2 < 2.5", True),
        ("3 >= 3", True),
        ("'a' < 'b'", True),
        ("'B' < 'a'", True),
        ("10 > 9 and '10' < '9'", True),
        # membership
        ("'gift' in input.tags", True),
        ("'x' not in input.tags", True),
        ("1.0 in [1]", True),
        ("true in [1]", False),
        ("{'sku': 'B2', 'qty': 1} in input.lines", True),
        ("'qty' in input", True),
        ("'Qty' not in input", True),
        ("'d' in input.name", True),
        ("'' in input.name", True),
        ("not 'd' in input.name", False),
        # logic
        ("true and false or true", True),
        ("true or true and false", True),
        ("not false and false", False),
        ("not (false and false)", True),
        ("not not true", True),
        ("false and input.missing", False),
        ("true or input.missing > 1", True),
        ("false and 'no boolean'", False),
        ("input.qty > 2 and input.paid", True),
        # choice
        ("'many' if input.qty > 1 else 'one'", "many"),
        ("1 if false else 2 if false else 3", 3),
        ("1 if false else 2 if true else input.missing", 2),
        ("input.missing if false else 'ok'", "ok"),
        ("(1 if true else 2) + 1", 2),
        ("[1 if false else 2, 3]", [2, 3]),
        ("1 + 1 if true else 0", 2),
        # default
        ("default(input.missing, 'x')", "x"),
        ("default(input.missing.deeper[3], 'x')", "x"),
        ("default(input.name.x, 'x')", "x"),
        ("default(input.nothing.x, 'x')", "x"),
        ("default(input.nothing, 'x')", None),
        ("default(steps.skipped.output, null)", None),
        ("default(input.lines[9], 0)", 0),
        ("default(input.lines[input.missing], 0)", 0),
        ("default(input.qty, input.missing)", 3),
        ("default(input.a, default(input.b, 'c'))", "c"),
        ("coalesce(input.nothing, default(input.missing, null), 4)", 4),
        ("coalesce(null, 1, input.missing)", 1),
        ("coalesce(null)", None),
    ],
)
def test_an_expression_alone_gives_a_value_of_its_own_type(expression: str, expected: object) -> None:
    result = resolve(f"{{{{ {expression} }}}}")
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{1}}", 1),
        ('{{{"a":1}}}', {"a": 1}),
        ('{{ {"a": {"b": 1}}}}', {"a": {"b": 1}}),
        ('{{ {"a": "}}"} }}', {"a": "}}"}),
        ("{{1}} ", "1 "),
        ("{{1}}{{'a'}}", "1a"),
        ("{{ input.qty * 2 }} of {{ upper(input.name) }}", "6 of ADA"),
        ("{{ [1, 'é', null] }};", '[1,"é",null];'),
        ("{{ {'b': 1, 'a': true} }};", '{"a":true,"b":1};'),
        ({"a": ["{{ 1 + 1 }}", {"b": "x{{ 2.5 }}"}]}, {"a": [2, {"b": "x2.5"}]}),
        ("{{ true\n  and\tfalse }}", False),
    ],
)
def test_expressions_stand_in_any_text_list_or_object(text: Any, expected: Any) -> None:
    result = resolve(text)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("expression", "position", "problem"),
    [
        ("1 +", 8, "expected a value"),
        ("* 2", 4, "expected a value"),
        ("1 2", 6, 'expected an operator or "}}"'),
        ("(1", 7, 'expected ")"'),
        ("[1, 2", 10, 'expected "," or "]"'),
        ("[1, ]", 8, "expected a value"),
        ("{a: 1}", 5, 'expected a quoted key, as in {"key": 1}'),
        ("{'a' 1}", 9, 'expected ":" after a key'),
        ("{'a': 1, 'a': 2}", 13, "key 'a' twice"),
        ("1 < 2 < 3", 10, 'write "a < b and b < c"'),
        ("1 if true", 14, 'expected "else"'),
        ("if", 4, 'found the word "if"; a key of that name is quoted, as in x["if"]'),
        ("a && b", 6, 'write "and"'),
        ("a || b", 6, 'write "or"'),
        ("!a", 4, 'write "not"'),
        ("a = b", 6, 'write "=="'),
        ("a ? b : c", 6, "a if condition else b"),
        ("a | upper", 6, "upper(x) for x | upper"),
        ("2 ** 3", 7, "expected a value"),
        ("True", 4, '"True" is written "true"'),
        ("2h", 4, "the number goes on with letters"),
        ("1e400", 4, "too large"),
        ("9" * 40, 4, "too large"),
        ("x[1.5]", 6, "expected an index"),
        ("x[true]", 6, "expected an index"),
        ("x[-1]", 6, "x[length(x) - 1]"),
        ("qty- 1", 9, '"-" belongs to the name before it: to subtract, write a - b'),
        ("input.name.upper()", 20, "there are no methods, only functions by name"),
        ("'a'.upper()", 13, "there are no methods"),
        ("x[0]()", 8, "there are no methods"),
        ("uper(input.name)", 4, 'there is no function "uper"; did you mean "upper"'),
        ("length()", 4, "length is called as length(x), here with 0 arguments"),
        ("round(1, 2, 3)", 4, "round(number, digits = 0), here with 3"),
        ("now(1)", 4, "now is called as now()"),
        ("default(1, 2)", 12, "default takes a path first"),
        ("default(input.a + 1, 2)", 20, "default takes a path first"),
        ("'a\\q'", 6, "no escape"),
        ("lambda x: 1", 11, "found 'x'"),
        ("input.__class__()", 19, "no methods"),
        ("(input.a)(1)", 13, "found '('"),
    ],
)
def test_what_the_language_does_not_have_is_refused_with_the_position_and_the_fix(
    expression: str, position: int, problem: str
) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value(f"{{{{ {expression} }}}}")
    assert f", position {position}: " in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "position", "problem"),
    [
        ("1 + 'a'", 6, '"+" takes two numbers, two strings or two lists, and these are a number and a string'),
        ("1 + true", 6, "a number and a boolean"),
        ("null + null", 9, "null and null"),
        ("{} + {}", 7, "an object and an object"),
        ("'a' * 9", 8, '"*" takes numbers, and this is a string'),
        ("[1] * 9", 8, "this is a list"),
        ("'%s' % 1", 9, "this is a string"),
        ("-'a'", 4, "this is a string"),
        ("-true", 4, "this is a boolean"),
        ("1 < 'a'", 6, "only numbers and strings have an order"),
        ("true < false", 9, "a boolean and a boolean"),
        ("[1] < [2]", 8, "a list and a list"),
        ("null < 1", 9, "null and a number"),
        ("1 and true", 4, '"and" takes booleans, and this is a number'),
        ("true and 'x'", 13, "this is a string"),
        ("null or true", 4, '"or" takes booleans, and this is null'),
        ("not 0", 4, '"not" takes booleans, and this is a number'),
        ("1 if 'x' else 2", 6, '"if" takes booleans, and this is a string'),
        ("1 in 5", 6, '"in" looks into lists, objects and strings, and this is a number'),
        ("1 in 'a1'", 6, "part of a string"),
        ("1 in {}", 6, "key of an object"),
        ("1 / 0", 6, '"/" by zero'),
        ("1 // 0", 6, '"//" by zero'),
        ("1 % 0.0", 6, '"%" by zero'),
        ("1e308 * 10", 10, "not a finite number"),
        ("input.lines[0 - 1]", 4, "indexes count from 0"),
        ("input.lines[1 / 1]", 4, "a subscript is a whole number or a string"),
        ("input.lines[true and true]", 4, "this is a boolean"),
        ("input.lines[1000000 * 1000000]", 4, "too large"),
        ("1 + input.lines[0].price", 8, 'input.lines[0].price: input.lines[0] has no "price"; it has sku, qty'),
        ("input.lines[input.qty].sku", 4, "input.lines[3]: input.lines has no index 3; it is a list of 2"),
        ("input.lines[input.name]", 4, 'input.lines.Ada: input.lines has no "Ada"; it is a list of 2'),
        ("parse_json('{}').a", 4, '(...).a: (...) has no "a"; it is an empty object'),
        ("default(input.missing, input.gone)", 27, 'input has no "gone"'),
        ("default(input.lines[0 - 1], 1)", 12, "indexes count from 0"),
        ("0 + input.qty-1", 8, '"-" belongs to the name: to subtract, write spaces around it, as in qty - 1'),
        ("0 + input.order-id-1", 8, "as in order-id - 1"),
    ],
)
def test_what_cannot_be_computed_is_told_with_the_position_and_the_reason(
    expression: str, position: int, problem: str
) -> None:
    message = error(f"{{{{ {expression} }}}}")
    assert f", position {position}: " in message
    assert problem in message


def test_a_missing_key_with_a_hyphen_suggests_the_subtraction_that_may_be_meant() -> None:
    assert 'input has no "qty-1"' in error("{{ input.qty-1 }}")
    assert "as in qty - 1" in error("{{ input.qty-1 }}")


def test_a_computed_key_is_shown_short_and_printable() -> None:
    scope = {"o": {"a\0\ud800": 1}, "long": "ab" * 1_000, "odd": "\0\ud800\n"}
    with pytest.raises(ExpressionError) as caught:
        compile_value("{{ o[long] }}").resolve(scope)
    assert 'o has no "abab' in str(caught.value)
    assert len(str(caught.value)) < 400
    with pytest.raises(ExpressionError) as caught:
        compile_value("{{ o[odd] }}").resolve(scope)
    assert r'o has no "\x00\ud800\n"; it has a\x00\ud800' in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_error_in_mixed_text_counts_its_position_in_the_whole_text() -> None:
    assert error("total: {{ 1 + 'a' }}") == (
        '"total: {{ 1 + \'a\' }}", position 13: "+" takes two numbers, two strings or two lists, '
        "and these are a number and a string; number(x) and string(x) convert"
    )


def test_references_are_found_wherever_they_stand_and_computed_keys_end_them() -> None:
    template = compile_value(
        "{{ [upper(steps.a.output), input.x[input.i].z, {'k': -input.n}, 1 if input.c else (input.d)['e f']] }}"
        "{{ steps['b'].output[length(steps.c.output)].sku and steps[input.which].output }}"
    )
    assert [str(path) for path in template.references] == [
        "steps.a.output",
        "input.x",
        "input.i",
        "input.n",
        "input.c",
        'input.d["e f"]',
        "steps.b.output",
        "steps.c.output",
        "steps",
        "input.which",
    ]
    assert template.steps == {"a", "b", "c"}
    assert template.roots == {"steps", "input"}
    assert template.optional == frozenset()


def test_references_that_stand_only_in_default_are_optional() -> None:
    template = compile_value(
        [
            "{{ default(steps.a.output.x, steps.b.output) }}",
            "{{ default(input.both, 1) + input.both }}",
            "{{ default(input.list[input.index], default(input.inner, 0)) }}",
        ]
    )
    optional = {"steps.a.output.x", "input.list", "input.index", "input.inner"}
    assert {str(path) for path in template.optional} == optional
    assert {str(path) for path in template.references} == optional | {"steps.b.output", "input.both"}
    assert Path(root="input", keys=("both",)) not in template.optional


def test_an_expression_without_references_is_still_computed_by_resolving() -> None:
    template = compile_value("{{ 1 + 1 }}")
    assert not template.is_constant
    assert template.references == ()
    assert template.resolve({}) == 2


def test_resolving_changes_neither_the_scope_nor_what_was_resolved_before() -> None:
    before = copy.deepcopy(SCOPE)
    template = compile_value("{{ [sorted(input.tags), input.tags + [1], {'l': input.lines}, values(input.lines[0])] }}")
    first = template.resolve(SCOPE)
    first[0].append("changed")
    first[1].append("changed")
    first[2]["l"] = "changed"
    assert before == SCOPE
    assert template.resolve(SCOPE) == [
        ["gift", "new"],
        ["new", "gift", 1],
        {"l": before["input"]["lines"]},
        [2, "A1"],
    ]


def test_a_large_value_is_passed_by_a_path_without_a_copy_and_without_a_charge() -> None:
    scope = {"input": {"big": ["x" * 1_000] * 2_000_000}}
    assert compile_value("{{ input.big }}").resolve(scope) is scope["input"]["big"]
    assert compile_value("{{ [input.big, length(input.big)] }}").resolve(scope)[0] is scope["input"]["big"]
    assert compile_value({"a": ["{{ input.big }}"] * 50}).resolve(scope)["a"][49] is scope["input"]["big"]


def test_the_attributes_of_values_are_out_of_reach() -> None:
    class Secret(dict[str, int]):
        token = "t"

    for expression in ("input.token", "input['token']", "input.keys", "input.__class__.__mro__"):
        with pytest.raises(ExpressionError, match="input has no "):
            compile_value(f"{{{{ {expression} }}}}").resolve({"input": Secret()})
    assert compile_value("{{ default(input.__class__, 1) }}").resolve({"input": Secret()}) == 1


def test_values_that_are_no_data_are_not_asked_for_their_opinion() -> None:
    class Loud:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("was asked")

        __hash__ = None  # type: ignore[assignment]
        __lt__ = __add__ = __radd__ = __contains__ = __len__ = __iter__ = __eq__

    scope = {"x": Loud(), "y": Loud()}
    for expression in ("x == y", "x in [y]", "1 in x", "x < y", "x + y", "length(x)", "json(x)", "sorted([x, y])"):
        with pytest.raises(ExpressionError, match="Loud"):
            compile_value(f"{{{{ {expression} }}}}").resolve(scope)
