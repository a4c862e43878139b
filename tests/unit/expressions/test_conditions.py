from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import ExpressionError
from orchestrator.expressions import compile_condition

SCOPE: dict[str, Any] = {"input": {"total": 120, "name": "Ada", "paid": True, "note": None}}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (True, True),
        (False, False),
        ("{{ input.total > 100 }}", True),
        ("{{input.paid}}", True),
        ("{{ input.paid and not input.total > 100 }}", False),
        ("  {{ input.total >= 120 }}\n", True),
        ("{{ default(input.vip, false) }}", False),
        ("{{ input.note != null }}", False),
    ],
)
def test_a_condition_gives_true_or_false(condition: Any, expected: bool) -> None:
    assert compile_condition(condition).resolve(SCOPE) is expected


@pytest.mark.parametrize(
    ("condition", "given"),
    [
        ("{{ input.name }}", "a string"),
        ("{{ input.total }}", "a number"),
        ("{{ input.note }}", "null"),
        ("{{ [input.paid] }}", "a list"),
        ("{{ input }}", "an object"),
    ],
)
def test_a_condition_that_gives_anything_else_is_an_error(condition: str, given: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_condition(condition).resolve(SCOPE)
    assert str(caught.value).startswith(f"{condition}: the condition gave {given}, not a boolean; ")


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("input.total > 100", "'input.total > 100': a condition stands in braces, as in {{ input.total > 100 }}"),
        ("true", "a condition stands in braces"),
        ("", "a condition stands in braces"),
        (r"\{{ input.paid }}", "a condition stands in braces"),
        ("{{ input.paid }} and {{ input.paid }}", "put all of it into one pair of {{ }}"),
        ("{{ input.paid }} or true", "put all of it into one pair"),
        ("x" * 10_000, "xxx...'"),
        (1, "a condition is true, false or one expression in {{ }}, and this is a number"),
        (None, "and this is null"),
        (["{{ input.paid }}"], "and this is a list"),
        ("{{ input.paid == }}", ", position 18: expected a value"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_is(condition: Any, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_condition(condition)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_condition_knows_its_references() -> None:
    condition = compile_condition("{{ default(steps.a.output.ok, false) or steps.b.output > input.limit }}")
    assert condition.steps == {"a", "b"}
    assert condition.roots == {"steps", "input"}
    assert [str(path) for path in condition.references] == ["steps.a.output.ok", "steps.b.output", "input.limit"]
    assert [str(path) for path in condition.optional] == ["steps.a.output.ok"]
    assert not condition.is_constant
    assert compile_condition(True).is_constant


def test_the_error_of_a_condition_that_cannot_be_computed_is_that_of_its_expression() -> None:
    with pytest.raises(ExpressionError, match='input has no "gone"'):
        compile_condition("{{ input.gone }}").resolve(SCOPE)
    with pytest.raises(ExpressionError, match="position 16: only numbers and strings have an order"):
        compile_condition("{{ input.total > input.name }}").resolve(SCOPE)
