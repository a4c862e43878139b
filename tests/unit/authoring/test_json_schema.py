from __future__ import annotations

from typing import Any

import pytest

from orchestrator.authoring.schema import schema_problems, validate
from orchestrator.errors import InvalidInput

ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "string"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"qty": {"type": "integer", "minimum": 1}}}},
}


def test_a_value_that_fits_is_accepted() -> None:
    validate({"id": "1", "lines": [{"qty": 2}, {"qty": 3.0}]}, ORDER, "input of order")
    validate("anything", {}, "input of order")


def test_every_violation_is_listed_with_its_path() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate({"lines": [{"qty": 1}, {"qty": 0}, {"qty": "x"}], "extra": 1}, ORDER, "input of order")
    message = str(caught.value)
    assert message.startswith("input of order does not fit its schema: ")
    for part in (
        "$: 'id' is a required property",
        "'extra' was unexpected",
        "$.lines[1].qty: 0 is less than the minimum of 1",
        "$.lines[2].qty: 'x' is not of type 'integer'",
    ):
        assert part in message


def test_many_and_long_violations_are_cut_short() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(["x" * 10_000] * 1000, {"items": {"type": "integer"}}, "input")
    message = str(caught.value)
    assert message.endswith("; and 980 more")
    assert len(message) < 6000


def test_a_schema_changed_in_place_is_not_taken_for_the_one_before() -> None:
    schema = {"type": "string"}
    validate("x", schema, "input")
    schema["type"] = "integer"
    with pytest.raises(InvalidInput):
        validate("x", schema, "input")


@pytest.mark.parametrize(
    "schema",
    [
        ORDER,
        {},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "$ref": "#/definitions/a"},
        {"$id": "https://example.test/order", "$defs": {"a": {"$anchor": "here"}}, "items": {"$ref": "#here"}},
        {"$defs": {"a": {"$id": "https://example.test/a", "$ref": "#/$defs/b", "$defs": {"b": {}}}}},
        {"properties": {"$ref": {"type": "string"}}, "default": {"$ref": "#/nowhere"}},
    ],
)
def test_a_schema_that_is_whole_in_itself_has_no_problems(schema: dict[str, Any]) -> None:
    assert schema_problems(schema) == []


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, "$.type: 'objekt' is not valid"),
        ({"properties": {"a": {"minimum": "1"}}}, "$.properties.a.minimum: '1' is not of type 'number'"),
        ({"$ref": "#/$defs/a"}, '"#/$defs/a" is not in the schema; put what it names under "$defs"'),
        ({"items": [{"$ref": "x"}]}, "$.items"),
        ({"allOf": [{"$ref": "https://example.test/schema"}]}, '"https://example.test/schema" is not in the schema'),
        ({"$schema": 3}, "$.$schema: it is no text"),
    ],
)
def test_what_is_no_schema_or_not_whole_is_told(schema: dict[str, Any], problem: str) -> None:
    (found,) = schema_problems(schema)
    assert problem in found


def test_a_reference_to_another_place_is_never_fetched() -> None:
    with pytest.raises(InvalidInput, match=r"input cannot be checked: its schema refers to http://127\.0\.0\.1:9/x"):
        validate(1, {"$ref": "http://127.0.0.1:9/x"}, "input")
