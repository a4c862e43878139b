"""What an expression is, and the recursive descent that reads one.

expression := path
path       := NAME ( "." NAME | "[" NUMBER "]" | "[" STRING "]" )*
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.expressions.tokens import Token, syntax_error, tokens

_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
#: More digits than any list has items.
_MAX_DIGITS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """A place in the scope."""

    #: Name of the scope's entry that the path starts at.
    root: str
    #: From there on: keys of objects as text, indexes of lists as numbers.
    keys: tuple[str | int, ...] = ()

    @property
    def step(self) -> str | None:
        """The step id that the path refers to; None when it starts at another root, or names no step."""
        if self.root == "steps" and self.keys and isinstance(self.keys[0], str):
            return self.keys[0]
        return None

    def __str__(self) -> str:
        return self.root + "".join(_written(key) for key in self.keys)


#: The kinds of node that an expression may be.
Expression: TypeAlias = Path


def parse(text: str, start: int) -> tuple[Expression, int]:
    """Read the expression that begins at `start`, just behind `{{`.

    Returns:
        The expression, and the index just behind its `}}`.

    Raises:
        ExpressionError: the text and the position of what is not understood.
    """
    parser = _Parser(text, tuple(tokens(text, start)))
    expression = parser.expression()
    return expression, parser.close()


class _Parser:
    """One method for one rule of the grammar. The last token is always `close`, so there is always a next one."""

    def __init__(self, text: str, found: tuple[Token, ...]) -> None:
        self._text = text
        self._tokens = found
        self._at = 0

    def expression(self) -> Expression:
        return self.path()

    def path(self) -> Path:
        root = self._take("name", "a name such as input or steps").text
        keys: list[str | int] = []
        while (token := self._peek()).text in {".", "["} and token.kind == "symbol":
            self._at += 1
            keys.append(self._name() if token.text == "." else self._subscript())
        return Path(root=root, keys=tuple(keys))

    def close(self) -> int:
        """The index behind `}}`."""
        return self._take("close", '"}}", "." or "["').position + 2

    def _name(self) -> str:
        return self._take("name", 'a name after ".", such as .id; other keys are quoted, as in ["a key"] or [0]').text

    def _subscript(self) -> str | int:
        token = self._peek()
        if token.kind not in {"number", "string"}:
            raise self._expected('an index such as 0 or a quoted key after "["')
        if token.kind == "number" and len(token.text) > _MAX_DIGITS:
            raise syntax_error(self._text, token.position, "the index is too large")
        self._at += 1
        bracket = self._peek()
        if (bracket.kind, bracket.text) != ("symbol", "]"):
            raise self._expected('"]"')
        self._at += 1
        return int(token.text) if token.kind == "number" else self._unquoted(token)

    def _unquoted(self, token: Token) -> str:
        for match in _ESCAPE.finditer(token.text):
            if match[1] not in "\\\"'":
                position = token.position + match.start()
                raise syntax_error(self._text, position, f"{match[0]} is no escape; there are only \\\\, \\\" and \\'")
        return _ESCAPE.sub(r"\1", token.text[1:-1])

    def _take(self, kind: str, wanted: str) -> Token:
        token = self._peek()
        if token.kind != kind:
            raise self._expected(wanted)
        self._at += 1
        return token

    def _peek(self) -> Token:
        return self._tokens[min(self._at, len(self._tokens) - 1)]

    def _expected(self, wanted: str) -> Exception:
        token = self._peek()
        return syntax_error(self._text, token.position, f"expected {wanted}, found {token.text!r}")


def _written(key: str | int) -> str:
    """A key as an expression would write it."""
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"
