"""What an expression is: the kinds of node that the parser makes and the evaluator compiles."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
#: So much of a long key is shown in an error.
_SHOWN = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """A place in the scope."""

    #: Name of the scope's entry that the path starts at.
    root: str
    #: From there on: keys of objects as text, indexes of lists as numbers.
    keys: tuple[str | int, ...] = ()

    @property
    def step(self) -> str | None:
        """The step id that the path refers to; None when it starts at another root, or names no step."""
        if self.root == "steps" and self.keys and isinstance(self.keys[0], str):
            return self.keys[0]
        return None

    def __str__(self) -> str:
        return self.root + "".join(_written(key) for key in self.keys)


def shown(key: object) -> str:
    """A key for an error: cut when it is long, and without characters that a terminal or a ledger cannot hold."""
    text = str(key)
    begin = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return begin if begin.isprintable() else repr(begin)[1:-1]


def _written(key: str | int) -> str:
    """A key as an expression would write it."""
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A part of an expression."""

    #: Index of its operator or first character in the whole string.
    position: int

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions that it is made of, in the order in which they are written."""
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Literal(Node):
    """A number, a text, true, false or null."""

    value: str | int | float | bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference(Node):
    """A path of which every part is known."""

    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookup(Node):
    """Keys of something that is computed, or keys that are."""

    base: Expression
    keys: tuple[str | int | Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.base, *(key for key in self.keys if not isinstance(key, str | int)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefixed(Node):
    """`not x` and `-x`."""

    operator: str
    operand: Expression

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.operand,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain(Node):
    """Operators of one rank in a row, from left to right, so that a long sum is no deep tree."""

    first: Expression
    #: Operator, its index in the whole string, and its right operand.
    rest: tuple[tuple[str, int, Expression], ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.first, *(operand for _, _, operand in self.rest))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(Node):
    """`a if condition else b`, where b may be such a choice again."""

    #: Value, index of its `if` in the whole string, and condition.
    branches: tuple[tuple[Expression, int, Expression], ...]
    otherwise: Expression

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (*(part for value, _, condition in self.branches for part in (value, condition)), self.otherwise)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListOf(Node):
    """`[a, b]`."""

    items: tuple[Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        return self.items


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectOf(Node):
    """`{"key": a}`."""

    entries: tuple[tuple[str, Expression], ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        return tuple(value for _, value in self.entries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Node):
    """`name(a, b)`."""

    name: str
    arguments: tuple[Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        return self.arguments


#: The kinds of node that an expression may be.
Expression: TypeAlias = Literal | Reference | Lookup | Prefixed | Chain | Choice | ListOf | ObjectOf | Call
