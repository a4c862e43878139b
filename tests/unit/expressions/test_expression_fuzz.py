"""Whatever is written, an expression gives data or an ExpressionError, and arithmetic is Python's."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from stopwatch import processor_seconds

from orchestrator.errors import ExpressionError
from orchestrator.expressions import FUNCTIONS, compile_condition, compile_value

#: Processor seconds that one expression may take.
PATIENCE = 0.5

# Another process on the machine must not fail a test, so an example may take its time by the clock on the wall.
fuzz = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])

SCOPE: dict[str, Any] = {
    "input": {
        "n": 3,
        "f": 2.5,
        "s": "Ada",
        "t": "2026-01-31T12:00:00Z",
        "yes": True,
        "null": None,
        "l": [1, 2.5, "x", None, [True]],
        "ls": ["b", "a", "c"],
        "ln": [3, 1, 2],
        "o": {"a": 1, "in": {"b": [1]}},
        "big": "ab" * 200_000,
        "many": list(range(20_000)),
        "huge": 10**400,
        "nan": math.nan,
        "inf": math.inf,
        "deep": [[[[[[]]]]]],
        "odd": '\0\ud800"\\\u2028',
    },
    "steps": {"a-b": {"output": [{"sku": "A1"}]}},
}
PATHS = [f"input.{name}" for name in SCOPE["input"]] + [
    "input",
    "steps.a-b.output[0].sku",
    "input.l[input.n]",
    "input.missing.x",
    "input.o['in']",
    "nowhere",
]
WORDS = [
    *("and", "or", "not", "in", "if", "else", "true", "false", "null"),
    *("==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "//", "%", "**", "=", "&", "|", "!"),
    *("(", ")", "[", "]", "{", "}", ",", ":", ".", "}}", "{{", "\\", "'", '"', "\\'", "\n"),
    *("0", "1", "12", "1.5", "1e308", "9" * 31, "''", "'a'", '"b"', "'%d'", "'2h'"),
    *FUNCTIONS,
    *PATHS,
]

literals = st.one_of(
    st.integers(0, 10**31).map(str),
    st.floats(0, allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["true", "false", "null", "''", "'a'", "'2h30m'", "'%Y'", "'[1]'", "'2026-01-31'", "[]", "{}"]),
    st.text(max_size=5).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
)


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = ["+", "-", "*", "/", "//", "%", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
    arguments = st.lists(inner, max_size=3).map(", ".join)
    return st.one_of(
        st.tuples(inner, st.sampled_from(operators), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(operators), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, inner, inner).map(lambda parts: "({} if {} else {})".format(*parts)),
        st.builds("{}({})".format, st.sampled_from(sorted(FUNCTIONS)), arguments),
        st.builds("default({}, {})".format, st.sampled_from(PATHS), inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("{}[{}]".format, st.sampled_from(PATHS), inner),
        st.builds("not {}".format, inner),
        st.builds("- {}".format, inner),
        arguments.map("[{}]".format),
        st.lists(inner, max_size=3).map(lambda xs: "{" + ", ".join(f"'k{i}': {x}" for i, x in enumerate(xs)) + "}"),
    )


grammatical = st.recursive(literals | st.sampled_from(PATHS), larger, max_leaves=25)
soup = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join) | st.lists(st.sampled_from(WORDS)).map("".join)


def is_data(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(is_data, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_data(item) for key, item in value.items())
    return value is None or isinstance(value, str | int | float | bool)


def outcome(value: Any, scope: Any = SCOPE) -> Any:
    """The value or the ExpressionError; anything else that is raised, or takes too long, fails the test."""
    results: list[Any] = []

    def compute() -> None:
        try:
            results.append(compile_value(value).resolve(scope))
        except ExpressionError as error:
            results.append(error)

    assert processor_seconds(compute) < PATIENCE
    (result,) = results
    if isinstance(result, ExpressionError):
        # Short, and fit for the ledger.
        assert len(str(result)) < 5_000
        assert "\0" not in str(result)
    else:
        assert is_data(result)
    return result


@fuzz
@given(grammatical)
def test_a_grammatical_expression_gives_data_or_an_expression_error(expression: str) -> None:
    alone = outcome(f"{{{{ {expression} }}}}")
    amid = outcome(f"- {{{{ {expression} }}}}")
    assert isinstance(amid, str | ExpressionError)
    if isinstance(alone, ExpressionError):
        assert isinstance(amid, ExpressionError)


@fuzz
@given(grammatical)
def test_a_grammatical_condition_gives_a_boolean_or_an_expression_error(expression: str) -> None:
    value = outcome(f"{{{{ {expression} }}}}")
    if isinstance(value, bool):
        assert compile_condition(f"{{{{ {expression} }}}}").resolve(SCOPE) is value
    else:
        with pytest.raises(ExpressionError):
            compile_condition(f"{{{{ {expression} }}}}").resolve(SCOPE)


@fuzz
@given(soup)
def test_a_soup_of_words_gives_data_or_an_expression_error(expression: str) -> None:
    outcome(f"{{{{ {expression} }}}}")


@fuzz
@given(st.text())
def test_any_text_gives_data_or_an_expression_error(text: str) -> None:
    outcome(f"{{{{ {text} }}}}")
    outcome(text.replace("x", "{{").replace("y", "}}"))


@fuzz
@given(grammatical)
def test_no_expression_changes_its_scope(expression: str) -> None:
    small = {"input": {key: value for key, value in SCOPE["input"].items() if key not in {"big", "many", "nan"}}}
    before = copy.deepcopy(small)
    outcome([f"{{{{ {expression} }}}}", f"x{{{{ {expression} }}}}"], small)
    assert small == before


@fuzz
@given(grammatical)
def test_an_expression_gives_the_same_again(expression: str) -> None:
    assume("now" not in expression)
    first, second = (outcome(f"{{{{ {expression} }}}}") for _ in range(2))
    assert repr(first) == repr(second)


numbers = st.integers(0, 1_000).map(str) | st.floats(0, 1e6, allow_nan=False).map(repr)


def arithmetic(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-({})".format),
        st.builds("abs({})".format, inner),
        st.builds("max({}, {})".format, inner, inner),
        st.builds("sum([{}, {}])".format, inner, inner),
    )


calculations = st.recursive(numbers, arithmetic, max_leaves=12)


def by_python(expression: str) -> Any:
    """What Python makes of it; an exception for what is none of our results."""
    result = eval(expression, {"__builtins__": {"abs": abs, "max": max, "sum": sum}})
    # Neither infinities nor the whole numbers that are too large are results here.
    if isinstance(result, float) and not math.isfinite(result):
        raise OverflowError
    return result


@fuzz
@given(calculations)
def test_arithmetic_is_that_of_python(expression: str) -> None:
    found = outcome(f"{{{{ {expression} }}}}")
    if isinstance(found, ExpressionError):
        # Python may go on with what ends here: it has no bound for whole numbers, and takes infinities back.
        assert any(reason in str(found) for reason in ("by zero", "not a finite number", "budget of whole numbers"))
        if "by zero" in str(found):
            with pytest.raises(ZeroDivisionError):
                by_python(expression)
        return
    expected = by_python(expression)
    assert (found, type(found)) == (expected, type(expected))


@fuzz
@given(calculations, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), calculations)
def test_comparison_of_numbers_is_that_of_python(left: str, sign: str, right: str) -> None:
    expression = f"({left}) {sign} ({right})"
    found = outcome(f"{{{{ {expression} }}}}")
    if not isinstance(found, ExpressionError):
        assert found is by_python(expression)


booleans = st.recursive(
    st.sampled_from(["true", "false", "1 < 2", "'a' in 'b'", "2 not in [2]"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map("not {}".format),
        inner.map("({})".format),
        st.builds("{} if {} else {}".format, inner, inner, inner).map("({})".format),
    ),
    max_leaves=15,
)


@fuzz
@given(booleans)
def test_logic_is_that_of_python(expression: str) -> None:
    expected = eval(expression, {"__builtins__": {}}, {"true": True, "false": False})
    assert outcome(f"{{{{ {expression} }}}}") is expected


texts = st.text(alphabet="ab", max_size=6)


@fuzz
@given(texts, texts, texts, st.lists(texts, max_size=5))
def test_strings_and_lists_are_those_of_python(one: str, two: str, three: str, items: list[str]) -> None:
    scope = {"one": one, "two": two, "three": three, "items": items}
    expected = {
        "one + two": one + two,
        "one < two": one < two,
        "one == two": one == two,
        "one in two": one in two,
        "one in items": one in items,
        "items + [one]": [*items, one],
        "join(items, one)": one.join(items),
        "sorted(items)": sorted(items),
        "length(one)": len(one),
        "upper(one)": one.upper(),
    }
    if two:
        expected |= {"replace(one, two, three)": one.replace(two, three), "split(one, two)": one.split(two)}
    for expression, result in expected.items():
        assert outcome(f"{{{{ {expression} }}}}", scope) == result
