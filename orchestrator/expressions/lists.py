"""Functions of lists and objects."""

from __future__ import annotations

from typing import Any

from orchestrator.expressions.arithmetic import number, operand
from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.values import LIST, OBJECT, check_order, is_number, items, kind, whole
from orchestrator.sealed import is_sealed

#: Most items of a range.
MAX_RANGE = 10_000


def length(_: Evaluation, value: Any) -> int:
    """How many characters, items or keys."""
    if not isinstance(value, (str, *LIST, *OBJECT)) or is_sealed(value):
        raise Fault(f"length takes a string, a list or an object, and this is {kind(value)}")
    return len(value)


def keys(evaluation: Evaluation, value: Any) -> list[str]:
    """The keys, sorted."""
    if not isinstance(value, OBJECT) or is_sealed(value):
        raise Fault(f"keys and values take an object, and this is {kind(value)}")
    evaluation.spend(len(value))
    evaluation.build(len(value))
    # The ledger does not keep the order of keys; sorted, it is the same wherever the expression is computed.
    return sort(evaluation, list(value))


def values(evaluation: Evaluation, value: Any) -> list[Any]:
    """The values, in the order of their keys."""
    return [value[key] for key in keys(evaluation, value)]


def numbers(evaluation: Evaluation, *bounds: Any) -> list[int]:
    """Whole numbers in a row."""
    start, stop = (whole(bound, "range takes") for bound in (bounds if len(bounds) == 2 else (0, *bounds)))
    size = max(0, stop - start)
    if size > MAX_RANGE or abs(start) > MAX_RANGE**2:
        raise Fault(f"the budget of a range is {MAX_RANGE:,} items, and numbers up to {MAX_RANGE**2:,}")
    evaluation.spend(size)
    evaluation.build(size)
    return list(range(start, stop))


def sort(evaluation: Evaluation, values: Any) -> list[Any]:
    """The items in ascending order."""
    found = _ordered(evaluation, items(values, "sorted takes"), len(values).bit_length())
    evaluation.build(len(found))
    return sorted(found)


def smallest(evaluation: Evaluation, *values: Any) -> Any:
    """The smallest of several values, or of a list."""
    return min(_compared(evaluation, "min", values))


def largest(evaluation: Evaluation, *values: Any) -> Any:
    """The largest of several values, or of a list."""
    return max(_compared(evaluation, "max", values))


def _compared(evaluation: Evaluation, name: str, values: tuple[Any, ...]) -> Any:
    found = _ordered(evaluation, items(values[0], f"{name} of one value takes") if len(values) == 1 else values, 1)
    if not found:
        raise Fault(f"{name} of an empty list; test its length first")
    return found


def _ordered(evaluation: Evaluation, values: Any, times_read: int) -> Any:
    """The values, which must all be numbers or all strings, charged for being compared so many times each."""
    evaluation.spend(len(values))
    for value in values[:1]:
        check_order(value, value, evaluation)
    characters = 0
    for value in values[1:]:
        if not (is_number(value) if is_number(values[0]) else isinstance(value, str)):
            check_order(values[0], value, evaluation)
        characters += len(value) if isinstance(value, str) else 0
    # Comparing is faster than searching.
    evaluation.read(characters * times_read // 10)
    return values


def total(evaluation: Evaluation, values: Any) -> Any:
    """The sum of a list of numbers."""
    found = items(values, "sum takes")
    evaluation.spend(len(found))
    result: Any = 0
    for value in found:
        result = number(result + operand(value, "sum"))
    return result
