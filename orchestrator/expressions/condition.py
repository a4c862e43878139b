"""Conditions: expressions that must give true or false."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.errors import ExpressionError
from orchestrator.expressions.lookup import Scope
from orchestrator.expressions.syntax import Path
from orchestrator.expressions.template import Template, compile_value, split
from orchestrator.expressions.values import kind

#: So much of a condition is shown in an error.
_SHOWN = 200


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Condition:
    """A compiled condition; see `compile_condition`."""

    #: As it was written, for errors and history.
    source: str
    #: What it refers to, and what computes it.
    template: Template

    @property
    def references(self) -> tuple[Path, ...]:
        """Every place that it refers to, as of a template."""
        return self.template.references

    @property
    def optional(self) -> frozenset[Path]:
        """Those of them that may be missing."""
        return self.template.optional

    @property
    def roots(self) -> frozenset[str]:
        """First names of the references."""
        return self.template.roots

    @property
    def steps(self) -> frozenset[str]:
        """Ids of the steps referred to."""
        return self.template.steps

    @property
    def is_constant(self) -> bool:
        """Whether it is just true or false."""
        return self.template.is_constant

    def resolve(self, scope: Scope) -> bool:
        """Whether it holds.

        Raises:
            ExpressionError: it cannot be computed, or gives something else than true or false.
        """
        return self.holds(self.template.resolve(scope))

    def holds(self, value: Any) -> bool:
        """What the template gave, as a truth; ExpressionError for anything but true or false: nothing is guessed."""
        if isinstance(value, bool):
            return value
        shown = self.source if len(self.source) <= _SHOWN else self.source[:_SHOWN] + "..."
        raise ExpressionError(f"{shown}: the condition gave {kind(value)}, not a boolean; compare it, as in x != null")


def compile_condition(value: Any) -> Condition:
    """Compile true, false, or a text that is one expression in {{ }}; white space around it means nothing.

    Raises:
        ExpressionError: anything else, or an expression that cannot be read.
    """
    if isinstance(value, bool):
        return Condition(source="true" if value else "false", template=compile_value(value))
    if not isinstance(value, str):
        raise ExpressionError(f"a condition is true, false or one expression in {{{{ }}}}, and this is {kind(value)}")
    source = value.strip()
    parts = list(split(source))
    shown = source if len(source) <= _SHOWN else source[:_SHOWN] + "..."
    if not any(not isinstance(part, str) for part in parts):
        raise ExpressionError(f"{shown!r}: a condition stands in braces, as in {{{{ input.total > 100 }}}}")
    if len(parts) > 1:
        raise ExpressionError(
            f"{shown!r}: a condition is one expression and nothing else; put all of it into one pair of {{{{ }}}}"
        )
    return Condition(source=source, template=compile_value(source))
