"""Conditions: a lone expression that gives true or false."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import ExpressionError
from orchestrator.expressions import Template
from orchestrator.kinds.kind import template


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A compiled condition."""

    template: Template
    #: As it was written.
    text: str

    def holds(self, value: Any) -> bool:
        """The value as a truth; ExpressionError for one that is neither true nor false, as nothing is guessed."""
        if value is True or value is False:
            return bool(value)
        shown = json.dumps(value, ensure_ascii=False, default=str)[:60]
        raise ExpressionError(f"{self.text}: a condition must be true or false, and this is {shown}; compare it")


def condition(written: str | bool, what: str) -> Condition:
    """A condition from its text; ValueError when it cannot be read or can never be true or false."""
    compiled = template(written, what)
    if compiled.is_constant and not isinstance(compiled.constant, bool):
        raise ValueError(f"{what}: {written!r} is a text and no condition; write {{{{ ... }}}} around it")
    return Condition(template=compiled, text=str(written))
