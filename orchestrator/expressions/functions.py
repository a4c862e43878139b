"""The functions of expressions. A function is one entry of FUNCTIONS: checks, suggestions and the page take it there.

All are pure but `now`. They take the evaluation first, to charge it for what they are about to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.expressions import arithmetic, lists, texts, times
from orchestrator.expressions.lookup import Missing


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """What authors may call."""

    #: Takes the evaluation and the arguments; a lazy one takes functions that compute the arguments.
    call: Callable[..., Any]
    #: How it is called, as documentation and errors show it.
    usage: str
    #: What it gives, for the documentation.
    meaning: str
    #: Fewest arguments.
    fewest: int = 1
    #: Most arguments.
    most: int = 1
    #: Whether arguments are computed only when it asks for them.
    lazy: bool = False
    #: Whether the first argument must be a path, and may be missing.
    takes_path: bool = False


def _default(path: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    try:
        return path()
    except Missing:
        return otherwise()


def _coalesce(*values: Callable[[], Any]) -> Any:
    for value in values:
        if (found := value()) is not None:
            return found
    return None


#: As many arguments as an expression has room for.
_ANY = 1_000

FUNCTIONS: Mapping[str, Function] = {
    "default": Function(
        call=_default,
        usage="default(path, fallback)",
        meaning="The value at the path; the fallback when any part of the path is missing. A null is not missing.",
        fewest=2,
        most=2,
        lazy=True,
        takes_path=True,
    ),
    "coalesce": Function(
        call=_coalesce,
        usage="coalesce(a, b, ...)",
        meaning="The first value that is not null; null when there is none. Those behind it are not computed.",
        most=_ANY,
        lazy=True,
    ),
    "length": Function(
        call=lists.length,
        usage="length(x)",
        meaning="Number of characters, items or keys of a string, list or object.",
    ),
    "lower": Function(call=texts.lower, usage="lower(text)", meaning="The text in small letters."),
    "upper": Function(call=texts.upper, usage="upper(text)", meaning="The text in capital letters."),
    "trim": Function(call=texts.trim, usage="trim(text)", meaning="The text without white space at its ends."),
    "split": Function(
        call=texts.split,
        usage="split(text, separator)",
        meaning="List of the parts between separators.",
        fewest=2,
        most=2,
    ),
    "join": Function(
        call=texts.join,
        usage='join(list, separator = "")',
        meaning="The items as one text. Items that are no strings stand in it as compact JSON.",
        most=2,
    ),
    "replace": Function(
        call=texts.replace,
        usage="replace(text, old, new)",
        meaning="The text with every `old` replaced.",
        fewest=3,
        most=3,
    ),
    "round": Function(
        call=arithmetic.rounded,
        usage="round(number, digits = 0)",
        meaning="Rounded, halves away from zero. With digits behind the point a float stays one; without, it is whole.",
        most=2,
    ),
    "abs": Function(call=arithmetic.absolute, usage="abs(number)", meaning="The number without its sign."),
    "min": Function(
        call=lists.smallest,
        usage="min(list), min(a, b, ...)",
        meaning="The smallest of numbers, or the first of strings. An empty list is an error.",
        most=_ANY,
    ),
    "max": Function(
        call=lists.largest,
        usage="max(list), max(a, b, ...)",
        meaning="The largest of numbers, or the last of strings. An empty list is an error.",
        most=_ANY,
    ),
    "sum": Function(call=lists.total, usage="sum(list)", meaning="Sum of the numbers of a list; 0 when it is empty."),
    "sorted": Function(
        call=lists.sort,
        usage="sorted(list)",
        meaning="The list in ascending order; all numbers, or all strings by their Unicode code points.",
    ),
    "keys": Function(call=lists.keys, usage="keys(object)", meaning="List of the keys, sorted."),
    "values": Function(
        call=lists.values, usage="values(object)", meaning="List of the values, in the order of `keys`."
    ),
    "range": Function(
        call=lists.numbers,
        usage="range(stop), range(start, stop)",
        meaning="List of the whole numbers from start, or 0, up to but without stop; at most 10,000.",
        most=2,
    ),
    "string": Function(
        call=texts.written, usage="string(x)", meaning="A string as it is, everything else as compact JSON."
    ),
    "number": Function(
        call=arithmetic.converted,
        usage="number(x)",
        meaning="The number that a text holds, whole unless it has a point or an exponent; a number as it is.",
    ),
    "boolean": Function(
        call=texts.boolean, usage="boolean(x)", meaning='true for `"true"`, false for `"false"`; a boolean as it is.'
    ),
    "json": Function(
        call=texts.as_json, usage="json(x)", meaning="Compact JSON text of any value, strings in quotes, keys sorted."
    ),
    "parse_json": Function(
        call=texts.parse_json, usage="parse_json(text)", meaning="The value that a JSON text holds."
    ),
    "now": Function(
        call=times.now,
        usage="now()",
        meaning="This moment, one and the same within a value; worked out anew by every attempt of a step.",
        fewest=0,
        most=0,
    ),
    "add_time": Function(
        call=times.add_time,
        usage="add_time(moment, duration)",
        meaning="The moment so much later; earlier for a negative duration.",
        fewest=2,
        most=2,
    ),
    "seconds_between": Function(
        call=times.seconds_between,
        usage="seconds_between(a, b)",
        meaning="Seconds from moment a to moment b, a float; negative when b is earlier.",
        fewest=2,
        most=2,
    ),
    "format_time": Function(
        call=times.format_time,
        usage="format_time(moment, format)",
        meaning="The moment as text, in its own zone; the format is text with "
        "`%Y %m %d %H %M %S`, `%j` (day of the year), `%u` (of the week, Monday is 1), `%A`, `%B` (names) and `%%`.",
        fewest=2,
        most=2,
    ),
}
