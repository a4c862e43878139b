"""Which parts of a payload its schema marks as secret: `"writeOnly": true`, which pydantic writes for a SecretStr."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from orchestrator.model.payload import canonical
from orchestrator.sealed import is_sealed

Place: TypeAlias = tuple[str | int, ...]

#: Keywords with schemas that a value, or some of its parts, may have to satisfy. What one of several alternatives marks
#: is a secret whichever is satisfied.
_SAME = ("allOf", "anyOf", "oneOf")
_SAME_ONE = ("if", "then", "else", "not")
_EVERY_ENTRY = ("additionalProperties", "unevaluatedProperties")
_EVERY_ITEM = ("additionalItems", "contains", "unevaluatedItems")


class SecretFields:
    """The secret fields of one schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        specification = specification_with(schema.get("$schema", ""), default=DRAFT202012)
        resource = specification.create_resource(schema)
        base = resource.id() or ""
        self._resolver = Registry().with_resource(base, resource).crawl().resolver(base)

    def places(self, value: Any) -> set[Place]:
        """Where in a value its secrets are. A null is none, and neither is what is sealed already."""
        return set(_places(self._schema, value, (), self._resolver, frozenset()))


def secret_fields(schema: dict[str, Any] | None) -> SecretFields | None:
    """What finds a schema's secret fields; None when it has none."""
    return None if schema is None else _known(canonical(schema))


@lru_cache(maxsize=256)
def _known(schema_text: str) -> SecretFields | None:
    return SecretFields(json.loads(schema_text)) if '"writeOnly":true' in schema_text else None


def _places(schema: Any, value: Any, at: Place, resolver: Any, seen: frozenset[Any]) -> Iterator[Place]:
    if not isinstance(schema, dict) or value is None or is_sealed(value):
        return
    if schema.get("writeOnly") is True:
        yield at
        return
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        reference = schema.get(keyword)
        if isinstance(reference, str) and (mark := (reference, at)) not in seen:
            try:
                found = resolver.lookup(reference)
            except Unresolvable:
                continue  # the value cannot be validated either, and is refused for that
            yield from _places(found.contents, value, at, found.resolver, seen | {mark})
    for part in _same(schema):
        yield from _places(part, value, at, resolver, seen)
    if isinstance(value, dict):
        for key, item in value.items():
            for part in _of_entry(schema, key):
                yield from _places(part, item, (*at, key), resolver, seen)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for part in _of_item(schema, index):
                yield from _places(part, item, (*at, index), resolver, seen)


def _same(schema: dict[str, Any]) -> Iterator[Any]:
    for keyword in _SAME:
        yield from schema.get(keyword, ())
    yield from (schema[keyword] for keyword in _SAME_ONE if keyword in schema)
    yield from schema.get("dependentSchemas", {}).values()
    yield from schema.get("dependencies", {}).values()


def _of_entry(schema: dict[str, Any], key: str) -> Iterator[Any]:
    properties = schema.get("properties", {})
    if key in properties:
        yield properties[key]
    matching = [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
    yield from matching
    if key not in properties and not matching:
        yield from (schema[keyword] for keyword in _EVERY_ENTRY if keyword in schema)


def _of_item(schema: dict[str, Any], index: int) -> Iterator[Any]:
    items = schema.get("items")
    first = items if isinstance(items, list) else schema.get("prefixItems", ())
    if index < len(first):
        yield first[index]
    elif isinstance(items, dict):
        yield items
    yield from (schema[keyword] for keyword in _EVERY_ITEM if keyword in schema)
