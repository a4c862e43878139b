"""`{{ path }}` values: safe, type-preserving, and compiled once so that a step pays only for the look-ups.

A string may hold expressions: `{{ root.key.list[0]["key with space"] }}`. A root is a name of the scope; after it come
keys of objects and indexes of lists, counted from 0. Names have letters, digits, `_` and `-`; any other key is quoted.
There is nothing else: no attributes, no calls, no code.

- A string that is one expression and nothing else, not even a space, gives the value itself, of whatever type.
- Expressions amid other text give a string: strings as they are, everything else as compact JSON, so null is `null`.
- A backslash before the braces takes their meaning away: `\\{{` is the text `{{`, and `\\\\{{` is a backslash and then
  an expression. Backslashes elsewhere mean nothing.
- Keys of objects are never expressions.
"""

from orchestrator.expressions.syntax import Path
from orchestrator.expressions.template import Template, compile_value

__all__ = ["Path", "Template", "compile_value"]
