"""What the operators compute, and what they refuse."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from orchestrator.expressions.arithmetic import number, operand
from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.values import LIST, OBJECT, check_order, equal, is_number, kind
from orchestrator.sealed import is_sealed

Operator: TypeAlias = Callable[[Any, Any, Evaluation], Any]


def truth(value: Any, word: str) -> bool:
    """A value that must be true or false."""
    if not isinstance(value, bool):
        raise Fault(f'"{word}" takes booleans, and this is {kind(value)}; compare it, as in x != null')
    return value


def add(left: Any, right: Any, evaluation: Evaluation) -> Any:
    """The sum of numbers, or strings or lists joined."""
    if is_number(left) and is_number(right):
        return number(operand(left, "+") + operand(right, "+"))
    if isinstance(left, str) and isinstance(right, str):
        evaluation.build(len(left) + len(right))
        return left + right
    if isinstance(left, LIST) and isinstance(right, LIST):
        evaluation.build(len(left) + len(right))
        return [*left, *right]
    raise Fault(
        f'"+" takes two numbers, two strings or two lists, and these are {kind(left)} and {kind(right)}; '
        "number(x) and string(x) convert"
    )


def contains(left: Any, right: Any, evaluation: Evaluation) -> bool:
    """Whether a list has an item, an object a key, or a string a part."""
    if isinstance(right, LIST):
        return any(equal(left, item, evaluation) for item in right)
    if not isinstance(right, (str, *OBJECT)) or is_sealed(right):
        raise Fault(f'"in" looks into lists, objects and strings, and this is {kind(right)}')
    if not isinstance(left, str):
        whose = "part of a string" if isinstance(right, str) else "key of an object"
        raise Fault(f'"in" looks for a {whose}, which is a string, and this is {kind(left)}')
    evaluation.read(len(left) + (len(right) if isinstance(right, str) else 0))
    return left in right


def _arithmetic(sign: str, compute: Callable[[Any, Any], Any]) -> Operator:
    def calculate(left: Any, right: Any, _: Evaluation) -> Any:
        try:
            return number(compute(operand(left, sign), operand(right, sign)))
        except ZeroDivisionError:
            raise Fault(f'"{sign}" by zero') from None

    return calculate


def _order(compare: Callable[[Any, Any], bool]) -> Operator:
    def ordered(left: Any, right: Any, evaluation: Evaluation) -> bool:
        check_order(left, right, evaluation)
        return compare(left, right)

    return ordered


def _differ(left: Any, right: Any, evaluation: Evaluation) -> bool:
    return not equal(left, right, evaluation)


def _lacks(left: Any, right: Any, evaluation: Evaluation) -> bool:
    return not contains(left, right, evaluation)


#: The operators between two values that are both computed first; `and` and `or` are not among them.
OPERATORS: Mapping[str, Operator] = {
    "==": equal,
    "!=": _differ,
    "<": _order(operator.lt),
    "<=": _order(operator.le),
    ">": _order(operator.gt),
    ">=": _order(operator.ge),
    "in": contains,
    "not in": _lacks,
    "+": add,
    "-": _arithmetic("-", operator.sub),
    "*": _arithmetic("*", operator.mul),
    "/": _arithmetic("/", operator.truediv),
    "//": _arithmetic("//", operator.floordiv),
    "%": _arithmetic("%", operator.mod),
}
