"""Sealed values in expressions: handed on, part of a text that is sealed then, and judged by nothing."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import ExpressionError
from orchestrator.expressions import compile_value

CARD = {"$sealed": "token"}
SCOPE = {"input": {"card": CARD, "other": {"$sealed": "other"}, "n": 7, "none": None}}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ input.card }}", CARD),
        ({"a": ["{{ input.card }}"]}, {"a": [CARD]}),
        ("{{ default(input.card, 1) }}", CARD),
        ("{{ [input.card, 1] }}", [CARD, 1]),
        ("{{ input.card if input.n == 7 else 1 }}", CARD),
        ("{{ input.card == null }}", False),
        ("{{ input.card != null }}", True),
        ("Bearer {{ input.card }}", {"$sealed": ["Bearer ", CARD]}),
        ("{{ input.n }}-{{ input.card }}-{{ input.other }}", {"$sealed": ["7", "-", CARD, "-", {"$sealed": "other"}]}),
    ],
)
def test_a_sealed_value_is_handed_on_and_seals_the_text_around_it(template: Any, value: Any) -> None:
    assert compile_value(template).resolve(SCOPE) == value


@pytest.mark.parametrize(
    "expression",
    [
        "input.card == 'token'",
        "input.card == input.card",
        "input == input",
        "input.card in ['a']",
        "'$sealed' in input.card",
        "input.card < 'b'",
        "input.card + 'b'",
        "not input.card",
        "length(input.card)",
        "keys(input.card)",
        "string(input.card)",
        "string(input)",
        "upper(input.card)",
        "input.card.number",
        "1 if input.card else 2",
    ],
)
def test_nothing_judges_or_takes_apart_a_sealed_value(expression: str) -> None:
    with pytest.raises(ExpressionError, match="a sealed secret"):
        compile_value(f"{{{{ {expression} }}}}").resolve(SCOPE)


def test_an_object_with_a_secret_in_it_is_no_part_of_a_text() -> None:
    with pytest.raises(ExpressionError, match="a sealed secret; refer to the secret itself"):
        compile_value("order {{ input }}").resolve(SCOPE)
