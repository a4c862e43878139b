from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator import clock
from orchestrator.errors import ExpressionError
from orchestrator.expressions import FUNCTIONS, compile_value

SCOPE: dict[str, Any] = {
    "o": {"b": 2, "a": [1], "c": None},
    "empty": {},
    "text": " Grüße ",
    "control": '\x00"\\\n',
    "huge": 10**5000,
}


def resolve(expression: str, scope: Any = SCOPE) -> Any:
    return compile_value(f"{{{{ {expression} }}}}").resolve(scope)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("length('aß')", 2),
        ("length([])", 0),
        ("length(o)", 3),
        ("lower('ÀB')", "àb"),
        ("upper('ß')", "SS"),
        ("trim(text)", "Grüße"),
        ("split('a,b,,c', ',')", ["a", "b", "", "c"]),
        ("split('', ',')", [""]),
        ("join(['a', 1, null, [2]], '-')", "a-1-null-[2]"),
        ("join(['a', 'b'])", "ab"),
        ("join([], ',')", ""),
        ("replace('aaa', 'a', 'bb')", "bbbbbb"),
        ("replace('abc', 'b', '')", "ac"),
        ("round(2.5)", 3),
        ("round(-2.5)", -3),
        ("round(2.675, 2)", 2.68),
        ("round(2.0, 1)", 2.0),
        ("round(0 - 0.004, 2)", 0.0),
        ("round(7)", 7),
        ("round(7, 2)", 7),
        ("round(1250, -2)", 1300),
        ("round(1249.9, -2)", 1200),
        ("round(1e300, 2)", 1e300),
        ("abs(-3)", 3),
        ("abs(2.5)", 2.5),
        ("min([3, 1.5, 2])", 1.5),
        ("min(3, 2)", 2),
        ("min('b', 'a')", "a"),
        ("max([3])", 3),
        ("max(1, 2.5)", 2.5),
        ("sum([])", 0),
        ("sum([1, 2])", 3),
        ("sum([1, 0.5])", 1.5),
        ("sorted([3, 1.5, 2])", [1.5, 2, 3]),
        ("sorted(['b', 'B', 'a'])", ["B", "a", "b"]),
        ("sorted([])", []),
        ("keys(o)", ["a", "b", "c"]),
        ("values(o)", [[1], 2, None]),
        ("keys(empty)", []),
        ("range(3)", [0, 1, 2]),
        ("range(0 - 3)", []),
        ("range(2, 4)", [2, 3]),
        ("length(range(10000))", 10_000),
        ("string('a')", "a"),
        ("string(1.0)", "1.0"),
        ("string(true)", "true"),
        ("string({'b': [1, null], 'a': 'é'})", '{"a":"é","b":[1,null]}'),
        ("number('12')", 12),
        ("number(' -1.50 ')", -1.5),
        ("number('1e3')", 1000.0),
        ("number(3)", 3),
        ("boolean('true')", True),
        ("boolean('false')", False),
        ("boolean(false)", False),
        ("json('a\"b')", '"a\\"b"'),
        ("json(null)", "null"),
        ("json({'b': 1, 'a': [1.5, true]})", '{"a":[1.5,true],"b":1}'),
        ("json(control)", '"\\u0000\\"\\\\\\n"'),
        ('parse_json(\'{"a": [1, 2.5, null, "x"]}\')', {"a": [1, 2.5, None, "x"]}),
        ("parse_json(json(o)) == o", True),
        ("add_time('2026-01-31T12:00:00Z', '2h30m')", "2026-01-31T14:30:00.000000Z"),
        ("add_time('2026-01-31T12:00:00+02:00', 90)", "2026-01-31T10:01:30.000000Z"),
        ("add_time('2026-01-31', 'P1DT2H')", "2026-02-01T02:00:00.000000Z"),
        ("add_time('2026-01-31T00:00:00Z', 0.25)", "2026-01-31T00:00:00.250000Z"),
        ("add_time('2026-01-31T00:00:00Z', '-1d')", "2026-01-30T00:00:00.000000Z"),
        ("add_time('2026-01-31T00:00:00Z', -60)", "2026-01-30T23:59:00.000000Z"),
        ("seconds_between('2026-01-01', '2026-01-01T00:01:00.5Z')", 60.5),
        ("seconds_between('2026-01-01T00:00:00Z', '2026-01-01T00:00:00+01:00')", -3600.0),
        ("format_time('2026-03-09T07:05:02+02:00', '%d.%m.%Y %H:%M:%S')", "09.03.2026 07:05:02"),
        ("format_time('2026-03-09', '%j %u %A %B 100%%')", "068 1 Monday March 100%"),
    ],
)
def test_a_function_gives(expression: str, expected: object) -> None:
    result = resolve(expression)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("length(5)", "length takes a string, a list or an object, and this is a number"),
        ("length(null)", "and this is null"),
        ("lower(5)", "lower takes a string, and this is a number; string(x) converts"),
        ("trim(null)", "trim takes a string, and this is null"),
        ("split('a', '')", "an empty string is everywhere"),
        ("replace('a', '', 'b')", "an empty string is everywhere"),
        ("replace('a', 'a', 1)", "what replaces it is a string, and this is a number"),
        ("join('ab', ',')", "join takes a list, and this is a string"),
        ("join([], 1)", "the separator is a string"),
        ("round('1')", '"round" takes numbers, and this is a string; number(x) converts'),
        ("round(1.5, 0.5)", "the number of digits is a whole number, and this is a fraction"),
        ("round(1.5, 31)", "at most 30 digits"),
        ("round(1e300)", "the budget of whole numbers"),
        ("abs(null)", "this is null"),
        ("abs(true)", "this is a boolean"),
        ("min([])", "min of an empty list"),
        ("max('abc')", "max of one value takes a list, and this is a string"),
        ("min(1, 'a')", "these are a number and a string"),
        ("max([true, false])", "a boolean and a boolean"),
        ("sorted([1, 'a'])", "a number and a string"),
        ("sorted(['a', 1])", "a string and a number"),
        ("sorted([1, true])", "a number and a boolean"),
        ("sorted([[1]])", "a list and a list"),
        ("sum(['1'])", '"sum" takes numbers, and this is a string'),
        ("sum([true])", "this is a boolean"),
        ("sum([1e308, 1e308])", "not a finite number"),
        ("keys([1])", "take an object, and this is a list"),
        ("range(1.5)", "range takes a whole number, and this is a fraction"),
        ("range('1')", "range takes a whole number, and this is a string"),
        ("range(true)", "range takes a whole number, and this is a boolean"),
        ("range(10001)", "the budget of a range is 10,000 items"),
        ("number('12a')", "'12a' is no number"),
        ("number('')", "'' is no number"),
        ("number('nan')", "'nan' is no number"),
        ("number('1_000')", "'1_000' is no number"),
        ("number('\uff11')", "is no number"),
        ("number('1e999')", "not a finite number"),
        ("number(true)", "number takes a number or a string, and this is a boolean"),
        ("boolean(1)", "boolean takes a boolean or a string, and this is a number"),
        ("boolean('yes')", "'yes' is no boolean"),
        ("string(huge)", "thousands of digits"),
        ("parse_json('{')", "the text is no JSON: Expecting property name"),
        ("parse_json('NaN')", "NaN is no JSON number"),
        ("parse_json('1e999')", "not a finite number"),
        ("parse_json(null)", "parse_json takes a string, and this is null"),
        ("add_time('2026-01-31T12:00:00', 1)", "'2026-01-31T12:00:00' has no zone; add Z for UTC"),
        ("add_time('tomorrow', 1)", "'tomorrow' is no moment; write it as 2026-01-31T12:00:00Z"),
        ("add_time('2026-02-30', 1)", "'2026-02-30' is no moment"),
        ("add_time('2026-02-03T25:00:00Z', 1)", "is no moment"),
        ("add_time(5, 1)", "takes a moment such as 2026-01-31T12:00:00Z, and this is a number"),
        ("add_time(now(), 'soon')", "'soon' is no duration; write seconds"),
        ("add_time(now(), true)", "a duration is a number of seconds or a text"),
        ("add_time('9999-12-31', '1d')", "years from 1 to 9999"),
        ("seconds_between(now(), null)", "and this is null"),
        ("format_time(now(), '%x')", "format_time does not know '%x'; there are %Y, %m"),
        ("format_time(now(), '%')", "does not know '%'"),
        ("format_time(now(), '%9999999Y')", "does not know '%9'"),
        ("format_time(now(), 5)", "the format is a string"),
    ],
)
def test_a_function_refuses_what_it_is_not_for_and_says_why(expression: str, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        resolve(expression)
    assert problem in str(caught.value)
    assert ", position " in str(caught.value)


def test_json_nested_too_deep_is_refused_and_brackets_in_its_strings_do_not_count() -> None:
    assert resolve("length(parse_json(t))", {"t": "[" * 100 + "]" * 100}) == 1
    assert resolve("parse_json(t)", {"t": '"' + '\\"[{' * 1000 + '"'}) == '"[{' * 1000
    for opening in ("[", '{"a":', '["]",'):
        with pytest.raises(ExpressionError, match="nested more than 100 deep"):
            resolve("parse_json(t)", {"t": opening * 101})


def test_now_is_this_moment_in_utc_and_one_and_the_same_in_all_of_a_value() -> None:
    before = clock.now()
    first, second = compile_value(["{{ now() }}", {"deep": "{{ now() }}"}]).resolve({})
    after = clock.now()
    assert first == second["deep"]
    assert first.endswith("Z")
    moment = datetime.fromisoformat(first)
    assert before <= moment <= after
    assert moment.utcoffset() == UTC.utcoffset(None)


def test_moments_that_functions_give_sort_as_text() -> None:
    assert resolve("add_time('2026-01-01', 1) < add_time('2026-01-01', 1.5)") is True
    assert resolve("add_time(now(), '1s') > now()") is True


def test_the_order_of_keys_does_not_show() -> None:
    one, other = {"v": {"a": 1, "b": {"c": 2, "d": 3}}}, {"v": {"b": {"d": 3, "c": 2}, "a": 1}}
    for expression in ("json(v)", "keys(v)", "values(v)", "string(v)", "join([v])"):
        assert resolve(expression, one) == resolve(expression, other)
    assert compile_value("{{ v }}!").resolve(one) == compile_value("{{ v }}!").resolve(other)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_how_it_is_called_when_it_has_too_many_or_too_few_arguments(name: str) -> None:
    function = FUNCTIONS[name]
    for count in (function.fewest - 1, function.most + 1):
        if 0 <= count < 400:
            with pytest.raises(ExpressionError) as caught:
                compile_value(f"{{{{ {name}({', '.join(['x'] * count)}) }}}}")
            assert f"{name} is called as {function.usage}, here with {count} arguments" in str(caught.value)
