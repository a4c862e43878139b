r"""`{{ }}` values: safe, type-preserving, and compiled once so that a step pays only for the look-ups.

A string may hold expressions: `{{ root.key.list[0]["key with space"] }}`, `{{ input.total * 1.2 > 100 }}`,
`{{ upper(default(input.note, "none")) }}`. docs/expressions.md describes the language.

- A string that is one expression and nothing else, not even a space, gives the value itself, of whatever type.
- Expressions amid other text give a string: strings as they are, everything else as compact JSON, so null is `null`.
- A backslash before the braces takes their meaning away: `\{{` is the text `{{`, and `\\{{` is a backslash and then
  an expression. Backslashes elsewhere mean nothing.
- Keys of objects are never expressions.

Authors need not be trusted. There are no attributes and no methods, functions are those of one table, and every
resolve has a budget of steps and of size that depends on the values alone. A path costs nothing: it gives the value
itself, however large.

tokens -> parser -> syntax (the nodes) -> evaluator (closures over operators, functions and lookup) -> template.
"""

from orchestrator.expressions.condition import Condition, compile_condition
from orchestrator.expressions.functions import FUNCTIONS, Function
from orchestrator.expressions.syntax import Path
from orchestrator.expressions.template import Template, compile_value

__all__ = ["FUNCTIONS", "Condition", "Function", "Path", "Template", "compile_condition", "compile_value"]
