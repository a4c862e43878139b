"""Numbers: what arithmetic takes and gives, rounding, and numbers from text."""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.values import is_number, kind, string, whole

#: Whole numbers of arithmetic are at most this large: no sum of money or count is larger.
LARGEST = 10**30
#: `round` takes so many digits, before or behind the point.
MAX_DIGITS = 30

#: Characters of the longest number of a text.
_LONGEST = 100
_NUMBER = re.compile(r"\s*(-?[0-9]{1,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?\s*")
#: Enough digits for any float to be rounded exactly.
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)


def number(value: Any) -> Any:
    """A result, if it is a number that arithmetic may give; Fault otherwise."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Fault("the result is not a finite number")
    elif not -LARGEST <= value <= LARGEST:
        raise Fault("the budget of whole numbers is spent: they are at most 10^30; add 0.0 to have floats")
    return value


def operand(value: Any, sign: str) -> Any:
    """An operand of arithmetic, which must be a number that is not too large."""
    if not is_number(value):
        raise Fault(f'"{sign}" takes numbers, and this is {kind(value)}; number(x) converts a string')
    return number(value) if isinstance(value, int) else value


def negate(value: Any) -> Any:
    """Unary minus."""
    return number(-operand(value, "-"))


def absolute(_: Evaluation, value: Any) -> Any:
    """The number without its sign."""
    return negate(value) if operand(value, "abs") < 0 else value


def rounded(_: Evaluation, value: Any, digits: Any = 0) -> Any:
    """Half goes away from zero, by the digits that the number is written with: 2.675 to two digits is 2.68."""
    places = whole(digits, "the number of digits is")
    if abs(places) > MAX_DIGITS:
        raise Fault(f"round takes at most {MAX_DIGITS} digits")
    exact = Decimal(repr(number(operand(value, "round"))))
    found = exact.quantize(Decimal((0, (1,), -places)), context=_EXACT)
    # Added to 0.0, the zero of a small negative number has no sign.
    return number(float(found) + 0.0 if places > 0 and isinstance(value, float) else int(found))


def converted(_: Evaluation, value: Any) -> Any:
    """The number that a text holds."""
    if is_number(value):
        return value
    source = string(value, "number takes a number or")
    found = _NUMBER.fullmatch(source) if len(source) <= _LONGEST else None
    if found is None:
        raise Fault(f"{source[:40]!r} is no number; numbers are written as 12, -1.5 or 1e3")
    return number(float(source) if found[2] or found[3] else int(source))
