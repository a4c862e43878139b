"""Fills an activity's parameters from a step's input, by the function's signature."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from orchestrator.activities.context import StepContext
from orchestrator.errors import ConfigurationError, ExpressionError, InvalidInput
from orchestrator.expressions import compile_value
from orchestrator.spelling import did_you_mean

_NAMED = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a function takes."""

    #: Parameters that a step's input may fill.
    names: frozenset[str]
    #: Those of them without a default.
    required: frozenset[str]
    #: Parameters that get the step's context.
    contexts: tuple[str, ...]
    #: Whether it takes any other parameters too, by **.
    open: bool
    #: Validates and coerces an input that has the required parameters and no unknown ones.
    adapter: TypeAdapter[Any]


class Binding:
    """How an activity's function is given its parameters. Built once, at registration."""

    def __init__(self, activity: str, function: Callable[..., Any]) -> None:
        self._activity = activity
        self._function = function
        # An annotation may name a class further down its module; such a signature is read at its first use.
        if self._hints() is not None:
            _ = self.signature

    @cached_property
    def signature(self) -> Signature:
        """The function's signature, read once; ConfigurationError for one that a step's input cannot fill."""
        hints = self._hints()
        if hints is None:
            raise ConfigurationError(
                f"activity {self._activity}: its annotations name what is not defined in its module; "
                "import it there, and not under TYPE_CHECKING"
            )
        return _read(self._activity, self._function, hints)

    def bind(self, params: Mapping[str, Any], context: StepContext) -> dict[str, Any]:
        """Keyword arguments for a call; InvalidInput names what does not fit the signature."""
        signature = self.signature
        bound: dict[str, Any] = {}
        if params or signature.required:
            try:
                bound = signature.adapter.validate_python({name: _own(value) for name, value in params.items()})
            except ValidationError as error:
                problems = [self._problem(details) for details in error.errors(include_url=False)]
                raise InvalidInput(f"activity {self._activity}: {'; '.join(problems)}") from None
        for name in signature.contexts:
            bound[name] = context
        return bound

    def check(self, template: Mapping[str, Any]) -> list[str]:
        """What is known to be wrong with an input whose expressions are not computed yet."""
        try:
            signature = self.signature
        except ConfigurationError as error:
            return [str(error)]
        problems = [] if signature.open else [self._unknown(name) for name in template if name not in signature.names]
        problems += [_missing(name) for name in sorted(signature.required - template.keys())]
        known = {name: raw for name, raw in template.items() if name in signature.names}
        try:
            signature.adapter.validate_python({name: value for name, raw in known.items() for value in _constant(raw)})
        except ValidationError as error:
            # What is missing here has been reported, or has an expression that gives it later.
            details = [found for found in error.errors(include_url=False) if not _is_missing(found)]
            problems += [self._problem(found) for found in details]
        return [f"activity {self._activity}: {problem}" for problem in problems]

    def _hints(self) -> dict[str, Any] | None:
        """The parameters' annotations, strings resolved; None when a name in them is not defined (yet)."""
        try:
            # The result's annotation plays no part here, so it may name what is imported for type checkers only.
            parameters = inspect.signature(self._function).parameters.values()
            own = {each.name: each.annotation for each in parameters if each.annotation is not each.empty}
            holder = types.SimpleNamespace(__annotations__=own)
            return get_type_hints(holder, globalns=_globals(self._function), include_extras=True)
        except NameError:
            return None

    def _problem(self, details: ErrorDetails) -> str:
        name = str(details["loc"][0]) if details["loc"] else ""
        if _is_missing(details):
            return _missing(name)
        if len(details["loc"]) == 1 and details["type"] == "extra_forbidden":
            return self._unknown(name)
        place = name + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in details["loc"][1:])
        return f'parameter "{place}": {details["msg"]}; correct it in the step\'s input'

    def _unknown(self, name: str) -> str:
        if name in self.signature.contexts:
            return (
                f"parameter \"{name}\" is the step's context, which is given by itself; remove it from the step's input"
            )
        names = sorted(self.signature.names)
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        return f'unknown parameter "{name}"{did_you_mean(name, names) or f"; {takes}"}'


def _is_missing(details: ErrorDetails) -> bool:
    """Whether a parameter itself is missing, and not a field within one."""
    return len(details["loc"]) == 1 and details["type"] == "missing"


def _missing(name: str) -> str:
    return f'parameter "{name}" is missing; give it in the step\'s input'


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    """The names that the function's annotations may use."""
    plain = inspect.unwrap(function.func if isinstance(function, partial) else function)
    # A callable object's parameters are those of its class's __call__.
    found: dict[str, Any] = getattr(plain if inspect.isroutine(plain) else type(plain).__call__, "__globals__", {})
    return found


def _read(activity: str, function: Callable[..., Any], hints: dict[str, Any]) -> Signature:
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind not in _NAMED and parameter.kind is not parameter.VAR_KEYWORD:
            raise ConfigurationError(
                f"activity {activity}: parameter {parameter} cannot be given by name, as a step's input does; "
                "make it an ordinary parameter"
            )
    named = [parameter for parameter in parameters if parameter.kind in _NAMED]
    contexts = tuple(parameter.name for parameter in named if _is_context(hints.get(parameter.name)))
    inputs = [parameter for parameter in named if parameter.name not in contexts]
    fields: dict[str, Any] = {
        parameter.name: (Required if parameter.default is parameter.empty else NotRequired)[
            hints.get(parameter.name, Any)
        ]
        for parameter in inputs
    }
    is_open = len(named) < len(parameters)
    return Signature(
        names=frozenset(fields),
        required=frozenset(parameter.name for parameter in inputs if parameter.default is parameter.empty),
        contexts=contexts,
        open=is_open,
        adapter=_adapter(activity, fields, extra="allow" if is_open else "forbid"),
    )


def _adapter(activity: str, fields: dict[str, Any], *, extra: Literal["allow", "forbid"]) -> TypeAdapter[Any]:
    # A typed dict and not a model: its fields may have any name, and validation gives the arguments as they are passed.
    typed_dict: Any = TypedDict
    shape = with_config(ConfigDict(extra=extra))(typed_dict("Parameters", fields))
    try:
        return TypeAdapter(shape)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ConfigurationError(
            f"activity {activity}: a parameter's type cannot be read from JSON: {reason}; "
            "annotate it with a plain type or a pydantic model"
        ) from None


def _is_context(hint: Any) -> bool:
    """Whether an annotation is StepContext, or StepContext | None."""
    if get_origin(hint) in {Union, types.UnionType}:
        return StepContext in get_args(hint)
    return hint is StepContext


def _constant(raw: Any) -> tuple[Any, ...]:
    """The value of a template without expressions; nothing for others, and for those that cannot be read."""
    try:
        template = compile_value(raw)
    except ExpressionError:
        return ()
    return (template.constant,) if template.is_constant else ()


def _own(value: Any) -> Any:
    """A copy of JSON data. Inputs share their parts with the definition and with other steps' outputs: an activity
    that appends to a list it was given would change them for every step after it."""
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_own(item) for item in value]
    return value
