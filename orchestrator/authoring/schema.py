"""JSON Schema: whether a schema is one, and whether a value satisfies it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from orchestrator.authoring.secret_fields import secret_fields
from orchestrator.errors import InvalidInput
from orchestrator.model.payload import canonical
from orchestrator.sealed import is_sealed

#: So many violations are listed, each cut to so many characters: a list of 10,000 wrong items is one mistake.
_MOST, _LONGEST = 20, 200
#: Keywords whose messages show names, and no data.
_TELLING = frozenset({"required", "additionalProperties"})
#: Keywords whose values are data.
_DATA = frozenset({"const", "default", "enum", "examples"})


def validate(value: Any, schema: dict[str, Any], what: str) -> None:
    """Check a value against a schema; `format` is an annotation, as the standard's default is.

    A sealed value was checked before it was sealed, and fits. The error of a schema with secrets shows no data.

    Args:
        what: names the value in the error, such as "input of order".

    Raises:
        InvalidInput: each violation with the JSON path of the part that violates.
    """
    try:
        errors = sorted(_validator(canonical(schema)).iter_errors(value), key=lambda error: error.json_path)
    except Unresolvable as error:
        raise InvalidInput(f"{what} cannot be checked: its schema refers to {error.ref}, which is not in it") from None
    if errors:
        told = _without_data if secret_fields(schema) is not None else _told
        lines = [f"{error.json_path}: {_shortened(told(error))}" for error in errors[:_MOST]]
        if len(errors) > _MOST:
            lines.append(f"and {len(errors) - _MOST} more")
        raise InvalidInput(f"{what} does not fit its schema: {'; '.join(lines)}")


def schema_problems(schema: dict[str, Any]) -> list[str]:
    """What keeps a mapping from being a JSON Schema, one sentence each; a schema must be whole in itself."""
    if not isinstance(schema.get("$schema", ""), str):
        return ["$.$schema: it is no text; name a draft's URL, or leave it out"]
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        return [f"{error.json_path}: {_shortened(error.message)}; correct the schema"]
    specification = specification_with(schema.get("$schema", ""), default=DRAFT202012)
    resource = specification.create_resource(schema)
    base = resource.id() or ""
    resolver = Registry().with_resource(base, resource).crawl().resolver(base)
    problems = []
    for reference in sorted(set(_references(schema))):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            problems.append(f'"$ref": "{reference}" is not in the schema; put what it names under "$defs"')
    return problems


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Validator:
    schema = json.loads(schema_text)
    kind = validator_for(schema, default=Draft202012Validator)
    tolerant: Any = extend(kind, {keyword: _unless_sealed(check) for keyword, check in kind.VALIDATORS.items()})  # type: ignore[no-untyped-call]
    # An empty registry: the library's own would fetch references from the network.
    made: Validator = tolerant(schema, registry=Registry())
    return made


def _unless_sealed(check: Callable[..., Any]) -> Callable[..., Iterator[ValidationError]]:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if not is_sealed(instance):
            yield from check(validator, value, instance, schema) or ()

    return checked


def _told(error: ValidationError) -> str:
    return str(error.message)


def _without_data(error: ValidationError) -> str:
    """Names what is violated by the schema's words alone; the message itself would show what was given."""
    if error.validator in _TELLING:
        return str(error.message)
    return f"it does not satisfy {error.validator}: {json.dumps(error.validator_value, ensure_ascii=False)}"


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            # Data is no schema, and a part with an id of its own has references of its own.
            elif key not in _DATA and not (isinstance(value, dict) and isinstance(value.get("$id"), str)):
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST else message[:_LONGEST] + "..."
