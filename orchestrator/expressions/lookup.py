"""Reads paths. Only objects have keys and only lists have indexes: nothing else is ever asked for an item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeAlias

from orchestrator.errors import ExpressionError
from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.syntax import Path, shown
from orchestrator.expressions.values import LIST, OBJECT, kind
from orchestrator.sealed import is_sealed

Scope: TypeAlias = Mapping[str, Any]
Evaluator: TypeAlias = Callable[[Scope, Evaluation], Any]

#: More than any list has items.
LARGEST_INDEX = 10**9
#: So many of an object's keys are shown in an error.
_SHOWN_KEYS = 20


class Missing(Fault):
    """A path does not exist. The sentence is made when it is asked for: `default` never asks.

    Attributes:
        path: the path, whole.
        depth: which of its parts is missing; 0 is the root.
        value: what does not have that part.
    """

    def __init__(self, path: Path, depth: int, value: Any) -> None:
        super().__init__()
        self.path, self.depth, self.value = path, depth, value

    @property
    def problem(self) -> str:
        """Path, part, and what there is instead."""
        return f"{self.path}: {self._reason()}"

    def alone(self) -> ExpressionError:
        """The error of an expression that is this path and nothing else."""
        return ExpressionError(f"{{{{ {self.path} }}}}: {self._reason()}")

    def _reason(self) -> str:
        path, depth = self.path, self.depth
        key = path.keys[depth - 1] if depth else path.root
        holder = str(Path(root=path.root, keys=path.keys[: depth - 1])) if depth else "the scope"
        part = f"index {key}" if isinstance(key, int) else f'"{shown(key)}"'
        return f"{holder} has no {part}; {_contents(self.value)}{_minus(key, self.value)}"


def reader(path: Path, *, alone: bool) -> Evaluator:
    """Looks up a path of which every part is known; `alone` when it is the whole expression."""
    hops: tuple[tuple[str | int, Any], ...] = tuple(
        (key, OBJECT if isinstance(key, str) else LIST) for key in (path.root, *path.keys)
    )

    def read(scope: Scope, _: Evaluation) -> Any:
        value: Any = scope
        for depth, (key, container) in enumerate(hops):
            if not isinstance(value, container):
                raise missing(path, depth, value)
            try:
                value = value[key]
            except LookupError:
                raise missing(path, depth, value) from None
        return value

    def missing(path: Path, depth: int, value: Any) -> Exception:
        found = Missing(path, depth, value)
        return found.alone() if alone else found

    return read


def step_into(value: Any, key: Any, path: Path) -> Any:
    """The item of a value at a computed key; the path ends with that key."""
    if isinstance(key, str):
        container: Any = OBJECT
    elif isinstance(key, int) and not isinstance(key, bool):
        if key < 0:
            raise Fault("indexes count from 0, from the front; the last item is x[length(x) - 1]")
        if key > LARGEST_INDEX:
            raise Fault("the index is too large")
        container = LIST
    else:
        raise Fault(f"a subscript is a whole number or a string, and this is {kind(key)}")
    if not isinstance(value, container):
        raise Missing(path, len(path.keys), value)
    try:
        return value[key]
    except LookupError:
        raise Missing(path, len(path.keys), value) from None


def _contents(value: Any) -> str:
    if is_sealed(value):
        return "it is a sealed secret, of which only an activity sees the parts"
    if isinstance(value, OBJECT):
        names = [shown(key) for key in islice(value, _SHOWN_KEYS)]
        more = f" and {len(value) - len(names)} more" if len(value) > len(names) else ""
        return f"it has {', '.join(names)}{more}" if names else "it is an empty object"
    if isinstance(value, LIST):
        return f"it is a list of {len(value)}"
    return f"it is {kind(value).removeprefix('of the type ')}"


def _minus(key: str | int, value: Any) -> str:
    """What to say to those who meant a difference: a hyphen belongs to the name."""
    if isinstance(key, str) and isinstance(value, OBJECT):
        for name in (key.partition("-")[0], key.rpartition("-")[0]):
            if name and name != key and name in value:
                return f'; "-" belongs to the name: to subtract, write spaces around it, as in {name} - 1'
    return ""
