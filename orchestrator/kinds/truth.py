"""Conditions of kinds: the same as everywhere, with errors that name the place."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import DefinitionError, ExpressionError
from orchestrator.expressions import Condition, compile_condition


def condition(written: Any, what: str) -> Condition:
    """A compiled condition; ValueError names what it is of, when it cannot be read or can never be true or false."""
    try:
        return compile_condition(written)
    except (ExpressionError, DefinitionError) as error:
        raise ValueError(f"{what}: {error}") from None
