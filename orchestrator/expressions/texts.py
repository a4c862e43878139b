"""Functions of strings, and of JSON as text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from orchestrator.expressions.arithmetic import LARGEST, number
from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.values import MAX_DEPTH, items, json_text, string, text

_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|([\[{])|([\]}])', re.DOTALL)
#: More digits than a whole number may have.
_DIGITS = 40


def lower(evaluation: Evaluation, value: Any) -> str:
    """In small letters."""
    return _cased(evaluation, string(value, "lower takes"), str.lower)


def upper(evaluation: Evaluation, value: Any) -> str:
    """In capital letters."""
    return _cased(evaluation, string(value, "upper takes"), str.upper)


def _cased(evaluation: Evaluation, value: str, change: Callable[[str], str]) -> str:
    evaluation.build(len(value))
    found = change(value)
    # Some letters become two or three.
    evaluation.build(max(0, len(found) - len(value)))
    return found


def trim(evaluation: Evaluation, value: Any) -> str:
    """Without white space at its ends."""
    source = string(value, "trim takes")
    evaluation.build(len(source))
    return source.strip()


def split(evaluation: Evaluation, value: Any, separator: Any) -> list[str]:
    """The parts between separators."""
    source, sign = string(value, "split takes"), string(separator, "the separator is")
    evaluation.build(len(source) + _count(evaluation, source, sign) + 1)
    return source.split(sign)


def replace(evaluation: Evaluation, value: Any, old: Any, new: Any) -> str:
    """Every `old` replaced."""
    source, sign = string(value, "replace takes"), string(old, "what is replaced is")
    instead = string(new, "what replaces it is")
    evaluation.build(len(source) + _count(evaluation, source, sign) * max(0, len(instead) - len(sign)))
    return source.replace(sign, instead)


def _count(evaluation: Evaluation, source: str, sign: str) -> int:
    if not sign:
        raise Fault("an empty string is everywhere; name at least one character")
    # Once for counting here, and once for what the caller does.
    evaluation.read(2 * (len(source) + len(sign)))
    return source.count(sign)


def join(evaluation: Evaluation, values: Any, separator: Any = "") -> str:
    """The items as one text."""
    found, sign = items(values, "join takes"), string(separator, "the separator is")
    evaluation.spend(len(found))
    evaluation.build(len(sign) * max(0, len(found) - 1))
    return sign.join([text(value, evaluation) for value in found])


def written(evaluation: Evaluation, value: Any) -> str:
    """The value as it stands amid text."""
    return text(value, evaluation)


def as_json(evaluation: Evaluation, value: Any) -> str:
    """The value as compact JSON."""
    return json_text(value, evaluation)


def parse_json(evaluation: Evaluation, value: Any) -> Any:
    """The value of a JSON text."""
    source = string(value, "parse_json takes")
    evaluation.build(len(source))
    # More than there can be values, whose making costs more than reading the text.
    evaluation.spend(sum(source.count(sign) for sign in "[{,:"))
    _check_nesting(source)
    try:
        return json.loads(source, parse_constant=_no_constant, parse_int=_whole, parse_float=_fraction)
    except ValueError as error:
        raise Fault(f"the text is no JSON: {error}") from None


def _check_nesting(source: str) -> None:
    if source.count("[") + source.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKET.finditer(source):
        depth += bool(match[1]) - bool(match[2])
        if depth > MAX_DEPTH:
            raise Fault(f"the text is JSON nested more than {MAX_DEPTH} deep")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _whole(digits: str) -> Any:
    return number(int(digits) if len(digits) <= _DIGITS else LARGEST + 1)


def _fraction(digits: str) -> Any:
    return number(float(digits))


def boolean(_: Evaluation, value: Any) -> bool:
    """The boolean that a text holds."""
    if isinstance(value, bool):
        return value
    source = string(value, "boolean takes a boolean or")
    if source not in {"true", "false"}:
        raise Fault(f'{source[:40]!r} is no boolean; "true" and "false" are')
    return source == "true"
