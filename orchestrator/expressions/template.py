"""Compiles values with expressions into closures, once, so that resolving them for a step is a few look-ups."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.errors import ExpressionError
from orchestrator.expressions.syntax import Expression, Path, parse

Scope: TypeAlias = Mapping[str, Any]
Resolver: TypeAlias = Callable[[Scope], Any]

#: Lists and objects may be nested this deep; a value that holds itself is refused by it too.
MAX_DEPTH = 100
#: So many of an object's keys are shown in an error.
_SHOWN_KEYS = 20

_OPEN = re.compile(r"(\\*)\{\{")
_OBJECT = (dict, Mapping)
_LIST = (list, tuple)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Template:
    """A value whose expressions are compiled; see `compile_value`."""

    #: Every place that the value refers to, each once, in order of appearance.
    references: tuple[Path, ...]
    #: First names of the references.
    roots: frozenset[str]
    #: Ids of the steps referred to, as in `steps.<id>.output`.
    steps: frozenset[str]
    #: The result when there are no expressions.
    constant: Any
    #: Computes the result; None when there are no expressions.
    resolver: Resolver | None

    @property
    def is_constant(self) -> bool:
        """Whether there are no expressions, so that every scope gives the same value."""
        return self.resolver is None

    def resolve(self, scope: Scope) -> Any:
        """The value with its expressions computed from the scope.

        The result shares its parts with the template and with the scope: do not change it in place.

        Raises:
            ExpressionError: a path that does not exist; names the path, the part that is missing and what there is.
        """
        return self.constant if self.resolver is None else self.resolver(scope)


def compile_value(value: Any) -> Template:
    """Compile a string, list or object, however deep, or anything else, which then is its own result.

    Raises:
        ExpressionError: an expression that cannot be read; names the text and the position.
    """
    references: dict[Path, None] = {}
    constant, resolver = _compile(value, (), references)
    return Template(
        references=tuple(references),
        roots=frozenset(path.root for path in references),
        steps=frozenset(path.step for path in references if path.step is not None),
        constant=constant,
        resolver=resolver,
    )


def _compile(value: Any, where: tuple[str | int, ...], found: dict[Path, None]) -> tuple[Any, Resolver | None]:
    """The value with `None` for a resolver, or a placeholder and its resolver."""
    if len(where) > MAX_DEPTH:
        raise ExpressionError(f"the value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        return _compile_text(value, where, found) if "{{" in value else (value, None)
    if isinstance(value, dict):
        return _compile_container(value, value.items(), where, found)
    if isinstance(value, list):
        return _compile_container(value, enumerate(value), where, found)
    return value, None


def _compile_container(value: Any, items: Any, where: Any, found: dict[Path, None]) -> tuple[Any, Resolver | None]:
    compiled = [(key, item, *_compile(item, (*where, key), found)) for key, item in items]
    if all(constant is item and resolver is None for _, item, constant, resolver in compiled):
        return value, None
    base = value.copy()
    for key, _, constant, _ in compiled:
        base[key] = constant
    dynamic = tuple((key, resolver) for key, _, _, resolver in compiled if resolver is not None)

    def fill(scope: Scope) -> Any:
        result = base.copy()
        for key, resolver in dynamic:
            result[key] = resolver(scope)
        return result

    return base, fill if dynamic else None


def _compile_text(text: str, where: tuple[str | int, ...], found: dict[Path, None]) -> tuple[Any, Resolver | None]:
    try:
        parts = list(_split(text))
    except ExpressionError as error:
        if not where:
            raise
        place = Path(root=str(where[0]), keys=where[1:])
        raise ExpressionError(f"{place}: {error}") from None
    for part in parts:
        if isinstance(part, Path):
            found[part] = None
    if all(isinstance(part, str) for part in parts):
        return "".join(str(part) for part in parts), None
    if len(parts) == 1 and isinstance(parts[0], Path):
        return None, _reader(parts[0])
    return None, _joiner(tuple(part if isinstance(part, str) else (part, _reader(part)) for part in parts))


def _split(text: str) -> Iterator[str | Expression]:
    """Literal text and expressions in turn; no part is empty."""
    position = 0
    while match := _OPEN.search(text, position):
        backslashes = len(match[1])
        escaped = backslashes % 2 == 1
        literal = text[position : match.start()] + "\\" * (backslashes // 2) + ("{{" if escaped else "")
        if literal:
            yield literal
        position = match.end()
        if not escaped:
            expression, position = parse(text, position)
            yield expression
    if position < len(text):
        yield text[position:]


def _reader(path: Path) -> Resolver:
    """Looks a path up. Only objects have keys and only lists have indexes: nothing else is ever asked for an item."""
    hops: tuple[tuple[str | int, Any], ...] = tuple(
        (key, _OBJECT if isinstance(key, str) else _LIST) for key in (path.root, *path.keys)
    )

    def read(scope: Scope) -> Any:
        value: Any = scope
        for depth, (key, container) in enumerate(hops):
            if not isinstance(value, container):
                raise _missing(path, depth, value)
            try:
                value = value[key]
            except LookupError:
                raise _missing(path, depth, value) from None
        return value

    return read


def _joiner(parts: tuple[str | tuple[Expression, Resolver], ...]) -> Resolver:
    def join(scope: Scope) -> str:
        return "".join(part if isinstance(part, str) else _text(part[0], part[1](scope)) for part in parts)

    return join


def _text(path: Path, value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"{{{{ {path} }}}}: its value cannot be part of a text: {error}") from None


def _missing(path: Path, depth: int, value: Any) -> ExpressionError:
    """The error for the part of the path at `depth`, which `value` does not have."""
    keys: tuple[str | int, ...] = (path.root, *path.keys)
    holder = str(Path(root=path.root, keys=path.keys[: depth - 1])) if depth else "the scope"
    part = f"index {keys[depth]}" if isinstance(keys[depth], int) else f'"{keys[depth]}"'
    return ExpressionError(f"{{{{ {path} }}}}: {holder} has no {part}; {_contents(value)}")


def _contents(value: Any) -> str:
    if isinstance(value, _OBJECT):
        names = [str(key) for key in value]
        more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
        return f"it has {', '.join(names[:_SHOWN_KEYS])}{more}" if names else "it is an empty object"
    if isinstance(value, _LIST):
        return f"it is a list of {len(value)}"
    if value is None:
        return "it is null"
    kinds = {str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return f"it is {kinds.get(type(value), type(value).__name__)}"
