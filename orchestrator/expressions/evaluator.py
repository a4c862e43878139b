"""Compiles expressions into closures, once. Nothing here but what the grammar names is ever called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from orchestrator.expressions.arithmetic import negate
from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.functions import FUNCTIONS
from orchestrator.expressions.lookup import Evaluator, Scope, reader, step_into
from orchestrator.expressions.operators import OPERATORS, truth
from orchestrator.expressions.syntax import (
    Call,
    Chain,
    Choice,
    Expression,
    ListOf,
    Literal,
    Lookup,
    Node,
    ObjectOf,
    Path,
    Prefixed,
    Reference,
    shown,
)
from orchestrator.expressions.tokens import error_at


def evaluator(text: str, expression: Expression) -> Evaluator:
    """What computes an expression of a text, with the text in its errors.

    Raises, when called:
        ExpressionError: text, position and fix of what cannot be computed.
    """
    if isinstance(expression, Reference):
        return reader(expression.path, alone=True)
    compute = _compiled(expression)
    # Every node, whether it will be visited or not: one charge, known beforehand.
    nodes = _count(expression)

    def evaluate(scope: Scope, evaluation: Evaluation) -> Any:
        try:
            evaluation.spend(nodes)
            return compute(scope, evaluation)
        except Fault as fault:
            position = expression.position if fault.position is None else fault.position
            raise error_at(text, position, fault.problem) from None

    return evaluate


def references(expression: Expression, optional: bool = False) -> Iterator[tuple[Path, bool]]:
    """The paths of an expression, as far as they are known, and whether each may be missing."""
    if isinstance(expression, Reference):
        yield expression.path, optional
    takes_path = isinstance(expression, Call) and FUNCTIONS[expression.name].takes_path
    for index, part in enumerate(expression.parts):
        yield from references(part, optional or (takes_path and index == 0))


def _count(expression: Expression) -> int:
    return 1 + sum(_count(part) for part in expression.parts)


def _compiled(node: Expression) -> Evaluator:
    compute: Evaluator = _COMPILERS[type(node)](node)
    return compute


def _literal(node: Literal) -> Evaluator:
    value = node.value
    return lambda scope, evaluation: value


def _reference(node: Reference) -> Evaluator:
    return _located(reader(node.path, alone=False), node.position)


def _located(compute: Evaluator, position: int) -> Evaluator:
    """The same, whose faults say where they are."""

    def located(scope: Scope, evaluation: Evaluation) -> Any:
        try:
            return compute(scope, evaluation)
        except Fault as fault:
            fault.found_at(position)
            raise

    return located


def _lookup(node: Lookup) -> Evaluator:
    base = _compiled(node.base)
    begin = node.base.path if isinstance(node.base, Reference) else Path(root="(...)")
    keys = tuple((key, None) if isinstance(key, str | int) else (None, _compiled(key)) for key in node.keys)

    def look_up(scope: Scope, evaluation: Evaluation) -> Any:
        value = base(scope, evaluation)
        path = begin
        for known, compute in keys:
            key: Any = known if compute is None else compute(scope, evaluation)
            path = Path(root=path.root, keys=(*path.keys, shown(key) if isinstance(key, str) else key))
            value = step_into(value, key, path)
        return value

    return _located(look_up, node.position)


def _prefixed(node: Prefixed) -> Evaluator:
    operand = _compiled(node.operand)
    if node.operator == "not":
        return _located(lambda scope, evaluation: not truth(operand(scope, evaluation), "not"), node.position)
    return _located(lambda scope, evaluation: negate(operand(scope, evaluation)), node.position)


def _chain(node: Chain) -> Evaluator:
    if node.rest[0][0] in {"and", "or"}:
        return _logical(node)
    first = _compiled(node.first)
    rest = tuple((OPERATORS[sign], at, _compiled(operand)) for sign, at, operand in node.rest)

    def compute(scope: Scope, evaluation: Evaluation) -> Any:
        value = first(scope, evaluation)
        for operate, position, operand in rest:
            right = operand(scope, evaluation)
            try:
                value = operate(value, right, evaluation)
            except Fault as fault:
                fault.found_at(position)
                raise
        return value

    return compute


def _logical(node: Chain) -> Evaluator:
    """`and` and `or`: operands are computed from the left until one decides."""
    word = node.rest[0][0]
    operands = [(_compiled(node.first), node.first.position)]
    operands += [(_compiled(operand), operand.position) for _, _, operand in node.rest]

    def compute(scope: Scope, evaluation: Evaluation) -> bool:
        for operand, position in operands:
            value = operand(scope, evaluation)
            try:
                decided = truth(value, word) is (word == "or")
            except Fault as fault:
                fault.found_at(position)
                raise
            if decided:
                return word == "or"
        return word == "and"

    return compute


def _choice(node: Choice) -> Evaluator:
    branches = tuple(
        (_compiled(value), _located(partial(_condition, _compiled(condition)), position))
        for value, position, condition in node.branches
    )
    otherwise = _compiled(node.otherwise)

    def choose(scope: Scope, evaluation: Evaluation) -> Any:
        for value, condition in branches:
            if condition(scope, evaluation):
                return value(scope, evaluation)
        return otherwise(scope, evaluation)

    return choose


def _condition(compute: Evaluator, scope: Scope, evaluation: Evaluation) -> bool:
    return truth(compute(scope, evaluation), "if")


def _list(node: ListOf) -> Evaluator:
    items = tuple(_compiled(item) for item in node.items)

    def fill(scope: Scope, evaluation: Evaluation) -> list[Any]:
        evaluation.build(len(items))
        return [item(scope, evaluation) for item in items]

    return _located(fill, node.position)


def _object(node: ObjectOf) -> Evaluator:
    entries = tuple((key, _compiled(value)) for key, value in node.entries)

    def fill(scope: Scope, evaluation: Evaluation) -> dict[str, Any]:
        evaluation.build(len(entries))
        return {key: value(scope, evaluation) for key, value in entries}

    return _located(fill, node.position)


def _call(node: Call) -> Evaluator:
    function = FUNCTIONS[node.name].call
    arguments = tuple(_compiled(argument) for argument in node.arguments)
    if FUNCTIONS[node.name].lazy:
        return _located(
            lambda scope, evaluation: function(*[partial(argument, scope, evaluation) for argument in arguments]),
            node.position,
        )
    return _located(
        lambda scope, evaluation: function(evaluation, *[argument(scope, evaluation) for argument in arguments]),
        node.position,
    )


_COMPILERS: dict[type[Node], Callable[[Any], Evaluator]] = {
    Literal: _literal,
    Reference: _reference,
    Lookup: _lookup,
    Prefixed: _prefixed,
    Chain: _chain,
    Choice: _choice,
    ListOf: _list,
    ObjectOf: _object,
    Call: _call,
}
