"""Which parts of a payload its schema marks as secret, and what its errors show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from orchestrator.authoring.schema import validate
from orchestrator.authoring.secret_fields import secret_fields
from orchestrator.errors import InvalidInput
from orchestrator.model.payload import encode
from orchestrator.model.revealed import revealed

SECRET = {"type": "string", "writeOnly": True}


class Card(BaseModel):
    number: SecretStr = Field(alias="Number")
    pin: SecretStr | None = None


class Customer(BaseModel):
    name: str
    cards: list[Card] = []
    by_name: dict[str, Card] = {}
    friends: list[Customer] = []


def model(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


@pytest.mark.parametrize(
    ("schema", "value", "found"),
    [
        ({"writeOnly": True}, "a", {()}),
        ({"properties": {"a": SECRET}}, {"a": "x", "b": "y"}, {("a",)}),
        ({"properties": {"a": {"type": "object", "writeOnly": True}}}, {"a": {"b": "y"}}, {("a",)}),
        ({"properties": {"a": SECRET}}, {"a": None}, set()),
        ({"properties": {"a": SECRET}}, {"a": {"$sealed": "..."}}, set()),
        ({"properties": {"a": SECRET}}, ["x"], set()),
        ({"patternProperties": {"^x": SECRET}}, {"xa": "1", "ya": "2"}, {("xa",)}),
        ({"properties": {"a": {}}, "additionalProperties": SECRET}, {"a": "1", "b": "2"}, {("b",)}),
        ({"unevaluatedProperties": SECRET}, {"b": "2"}, {("b",)}),
        ({"items": SECRET}, ["1", "2"], {(0,), (1,)}),
        ({"prefixItems": [{}, SECRET], "items": {}}, ["1", "2", "3"], {(1,)}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [SECRET]}, ["1", "2"], {(0,)}),
        ({"contains": SECRET}, ["1"], {(0,)}),
        ({"allOf": [{"properties": {"a": SECRET}}]}, {"a": "1"}, {("a",)}),
        ({"oneOf": [{"type": "integer"}, {"properties": {"a": SECRET}}]}, {"a": "1"}, {("a",)}),
        ({"if": {}, "then": {"properties": {"a": SECRET}}}, {"a": "1"}, {("a",)}),
        ({"dependentSchemas": {"b": {"properties": {"a": SECRET}}}}, {"a": "1"}, {("a",)}),
        ({"$defs": {"s": SECRET}, "properties": {"a": {"$ref": "#/$defs/s"}}}, {"a": "1"}, {("a",)}),
        (model(Card), {"Number": "1", "pin": "2"}, {("Number",), ("pin",)}),
        (
            model(Customer),
            {"name": "n", "friends": [{"name": "m", "cards": [{"Number": "1"}], "by_name": {"x": {"pin": "2"}}}]},
            {("friends", 0, "cards", 0, "Number"), ("friends", 0, "by_name", "x", "pin")},
        ),
    ],
)
def test_marked_fields_are_found_wherever_the_schema_says_it(
    schema: dict[str, Any], value: Any, found: set[tuple[str | int, ...]]
) -> None:
    fields = secret_fields(schema)
    assert fields is not None
    assert fields.places(value) == found


def test_a_schema_that_leads_back_to_itself_is_followed_as_far_as_the_value_goes() -> None:
    loop = {"$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}, SECRET]}}, "$ref": "#/$defs/x"}
    fields = secret_fields(loop)
    assert fields is not None
    assert fields.places("a") == {()}


def test_a_schema_without_secrets_has_no_finder() -> None:
    assert secret_fields({"properties": {"a": {"type": "string"}}}) is None
    assert secret_fields(None) is None


@pytest.mark.parametrize(
    "wrong", [{"a": ["4711"]}, "4711", {"a": "4711", "b": "4711"}, {"a": "4711", "c": {"d": "4711"}}]
)
def test_an_error_of_a_schema_with_secrets_shows_nothing_of_what_was_given(wrong: Any) -> None:
    schema = {"type": "object", "properties": {"a": SECRET, "b": {"type": "integer"}, "c": {"enum": ["x"]}}}
    with pytest.raises(InvalidInput, match="does not satisfy") as refused:
        validate(wrong, schema, "input")
    assert "4711" not in str(refused.value)


def test_a_sealed_value_fits_any_schema_within_alternatives_too() -> None:
    validate({"Number": {"$sealed": "x"}, "pin": {"$sealed": "y"}}, model(Card), "input")
    validate([{"$sealed": "x"}], {"items": {"type": "integer"}}, "input")
    with pytest.raises(InvalidInput):
        validate([{"$sealed": "x"}, "y"], {"items": {"type": "integer"}}, "input")


def test_what_a_models_secret_fields_hold_is_brought_into_its_data() -> None:
    card = Card(Number=SecretStr("4111"))
    for value in (card, [card], {"a": (card,)}, Customer(name="n", cards=[card]), {"a": SecretStr("4111")}):
        masked = encode(value, limit=10_000, what="input")
        assert "4111" not in masked
        assert "4111" in json.dumps(revealed(value, json.loads(masked)))
