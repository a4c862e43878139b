"""Small values that fit a schema, for commands that are shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def example(schema: Mapping[str, Any]) -> Any:
    """A small value that fits a JSON Schema, as far as its types and required properties tell."""
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return {name: example(properties.get(name, {})) for name in schema.get("required", ())}
    if schema.get("type") == "array":
        return [example(schema.get("items", {}))] * max(1, schema.get("minItems", 0))
    number = schema.get("minimum", 1)
    return {"string": "Ada", "integer": number, "number": number, "boolean": True}.get(schema.get("type", ""))
