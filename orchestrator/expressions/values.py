"""What values are to expressions: their kinds, when they are equal, which comes first, and their text.

Values are data as JSON has it. Nothing else is asked of them: no attribute, no method of theirs decides anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.sealed import is_sealed

OBJECT = (dict, Mapping)
LIST = (list, tuple)
#: Values may be nested this deep; a value that holds itself is refused by it too.
MAX_DEPTH = 100

_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
    dict: "an object",
    list: "a list",
    tuple: "a list",
}
#: What only an activity gets to see.
SEALED_KIND = "a sealed secret"
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True)
_HOLDERS = frozenset({"a list", "an object"})
_SIZED = _HOLDERS | {"a string"}
_SCALARS = frozenset({"a number", "a boolean", "null"})
#: Whole numbers of more bits, over 4,000 digits, have no text: Python refuses to write them.
_MAX_BITS = 13_000
#: Decimal digits for one bit of an integer, rounded up.
_DIGITS = 0.30103
#: Characters of the longest float.
_FLOAT = 24


def kind(value: object) -> str:
    """What a value is, as an error says it."""
    found = _KINDS.get(type(value))
    if found is None:
        found = next((name for base, name in _KINDS.items() if isinstance(value, base)), None)
    if found == "an object" and is_sealed(value):
        return SEALED_KIND
    return found or ("an object" if isinstance(value, Mapping) else f"of the type {type(value).__name__}")


def is_number(value: object) -> bool:
    """Whether it is a number; booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(value: Any, what: str) -> int:
    """The value, which must be a whole number; `what` begins the error, as in "range takes"."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Fault(f"{what} a whole number, and this is {'a fraction' if is_number(value) else kind(value)}")
    return value


def string(value: Any, what: str) -> str:
    """The value, which must be a string."""
    if not isinstance(value, str):
        raise Fault(f"{what} a string, and this is {kind(value)}; string(x) converts")
    return value


def items(value: Any, what: str) -> list[Any] | tuple[Any, ...]:
    """The value, which must be a list."""
    if not isinstance(value, LIST):
        raise Fault(f"{what} a list, and this is {kind(value)}")
    return value


def equal(left: Any, right: Any, evaluation: Evaluation) -> bool:
    """Whether two values are the same data. 1 equals 1.0; values of different kinds never equal each other."""
    # Two names of one object are compared like any others: whether they share it depends on who resolves.
    evaluation.spend(1)
    waiting = [(left, right, 0)]
    while waiting:
        one, other, depth = waiting.pop()
        kinds, others = kind(one), kind(other)
        if SEALED_KIND in (kinds, others) and "null" not in (kinds, others):
            raise Fault("a sealed secret is equal to nothing that can be said here; compare it in an activity")
        if kinds != others:
            return False
        if kinds in _SIZED and len(one) != len(other):
            return False
        if kinds not in _HOLDERS:
            if not _same(one, other, kinds, evaluation):
                return False
            continue
        if depth >= MAX_DEPTH:
            raise Fault(f"the values are nested more than {MAX_DEPTH} deep")
        pairs = _pairs(one, other, evaluation)
        if pairs is None:
            return False
        waiting += [(item, opposite, depth + 1) for item, opposite in pairs]
    return True


def _same(left: Any, right: Any, kinds: str, evaluation: Evaluation) -> bool:
    """Whether two values of one kind, that hold no others, are the same."""
    if kinds == "a string":
        evaluation.read(len(left))
    elif kinds not in _SCALARS:
        raise Fault(f"a value {kinds} cannot be compared")
    return bool(left == right)


def _pairs(left: Any, right: Any, evaluation: Evaluation) -> Iterable[tuple[Any, Any]] | None:
    """What must be equal in two lists or objects of one size; None when their keys differ already."""
    evaluation.spend(len(left))
    if isinstance(left, LIST):
        return zip(left, right, strict=True)
    characters = 0
    for key in left:
        characters += len(key) if isinstance(key, str) else 0
    evaluation.read(characters)
    if not all(map(right.__contains__, left)):
        return None
    return [(left[key], right[key]) for key in left]


def check_order(left: Any, right: Any, evaluation: Evaluation) -> None:
    """Charge for telling which of two values comes first; Fault unless they are two numbers or two strings."""
    if isinstance(left, str) and isinstance(right, str):
        evaluation.read(min(len(left), len(right)))
    elif not (is_number(left) and is_number(right)):
        raise Fault(
            f"only numbers and strings have an order, each among themselves, and these are {kind(left)} and "
            f"{kind(right)}; number(x) and string(x) convert"
        )


def text(value: Any, evaluation: Evaluation) -> str:
    """A value as it stands in text: strings as they are, everything else as `json_text`."""
    if isinstance(value, str):
        evaluation.build(len(value))
        return value
    return json_text(value, evaluation)


def json_text(value: Any, evaluation: Evaluation) -> str:
    """Compact JSON. Keys are sorted, because the ledger does not keep their order: the text is always the same."""
    charged = _measure(value, evaluation)
    try:
        found = _COMPACT.encode(value)
    except (TypeError, ValueError) as error:
        raise Fault(f"its value cannot be part of a text: {error}") from None
    # Escapes make a text at most six times as long.
    evaluation.build(max(0, len(found) - charged))
    return found


def _measure(value: Any, evaluation: Evaluation) -> int:
    """Charge for the JSON of a value before it is made; the characters charged."""
    size = 0
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        inner: list[Any] = []
        if isinstance(item, str):
            own = len(item) + 2
        elif isinstance(item, bool) or item is None:
            own = 4
        elif isinstance(item, int):
            own = int(item.bit_length() * _DIGITS) + 1
            if item.bit_length() > _MAX_BITS:
                raise Fault("its value cannot be part of a text: it has a whole number of thousands of digits")
        elif isinstance(item, float):
            own = _FLOAT
        else:
            own, inner = _container(item, evaluation)
            if inner and depth >= MAX_DEPTH:
                raise Fault(f"its value cannot be part of a text: it is nested more than {MAX_DEPTH} deep")
        evaluation.build(own)
        size += own
        waiting += ((part, depth + 1) for part in inner)
    return size


def _container(value: Any, evaluation: Evaluation) -> tuple[int, list[Any]]:
    """The characters of a list's or object's own, and the parts."""
    if is_sealed(value):
        raise Fault(f"its value holds {SEALED_KIND}; refer to the secret itself, which can be part of a text")
    if isinstance(value, dict):
        evaluation.spend(len(value))
        return 2 + sum(len(key) + 4 if isinstance(key, str) else 4 for key in value), list(value.values())
    if isinstance(value, LIST):
        evaluation.spend(len(value))
        return 2 + len(value), list(value)
    return 0, []
