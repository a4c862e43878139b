"""Holds an activity's result against what its function says it returns."""

from __future__ import annotations

import collections.abc
import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from orchestrator.errors import PayloadError
from orchestrator.model.payload import canonical

#: Validating these would give a generator in place of the value.
_LAZY = (collections.abc.Iterable, collections.abc.Iterator, collections.abc.Generator)


class ResultType:
    """A function's return annotation. One that is missing, or cannot be resolved, allows everything."""

    def __init__(self, activity: str, function: Callable[..., Any]) -> None:
        self._activity, self._function = activity, function

    def fit(self, value: Any) -> Any:
        """The value as the annotated type; PayloadError says where it does not fit."""
        if self._adapter is None:
            return value
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, found['loc'])) or 'the result'}: {found['msg']}"
                for found in error.errors(include_url=False)
            )
            raise PayloadError(
                f"activity {self._activity} returned what its annotation does not allow: {problems}; mend one of them"
            ) from None

    @cached_property
    def secret_schema(self) -> dict[str, Any] | None:
        """The annotation's JSON Schema if it marks fields as secret, as a SecretStr is; None otherwise."""
        if self._adapter is None:
            return None
        try:
            schema = self._adapter.json_schema()
        except PydanticUserError:
            return None
        return schema if '"writeOnly":true' in canonical(schema) else None

    @cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        annotation = self._annotation()
        kind = get_origin(annotation) or annotation
        if kind in (inspect.Signature.empty, None, type(None), Any, *_LAZY):
            return None
        try:
            return TypeAdapter(annotation)
        except (PydanticSchemaGenerationError, PydanticUserError):
            return None

    def _annotation(self) -> Any:
        try:
            return get_type_hints(self._function, include_extras=True).get("return", inspect.Signature.empty)
        except (NameError, TypeError):
            # Imported for type checkers only, or a callable object.
            return inspect.Signature.empty
