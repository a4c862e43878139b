"""Splits the inside of `{{ }}` into tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.errors import ExpressionError

#: Characters between `{{` and `}}`.
MAX_TEXT = 10_000

# A hyphen belongs to the name, since step ids have hyphens; an operator "-" needs a space between it and a name.
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<name>[^\W\d][\w-]*)
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?!\w))
    | (?P<string>"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')
    | (?P<symbol>==|!=|<=|>=|//(?!=)|[<>+*/%(),:.\[\]{}-])
    """,
    re.VERBOSE | re.DOTALL,
)
#: What other languages write, and what is written here.
_FOREIGN = (
    ("&&", 'write "and"'),
    ("||", 'write "or"'),
    ("|", "there are no filters; write upper(x) for x | upper"),
    ("!", 'write "not"'),
    ("=", 'to compare, write "=="'),
    ("?", "write a if condition else b"),
)
_HINT = 'other keys are quoted, as in ["a key"], and the text {{ is written \\{{'
#: So much of a long text is shown in an error.
_SHOWN = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A word of an expression."""

    #: close, name, number, string or symbol.
    kind: str
    text: str
    #: Index of its first character in the whole string.
    position: int


def tokens(text: str, start: int) -> Iterator[Token]:
    """The tokens from `start`, just behind `{{`, up to and with the closing `}}`; ExpressionError if it never comes."""
    position = start
    open_braces = 0
    while position < len(text):
        if open_braces == 0 and text.startswith("}}", position):
            yield Token(kind="close", text="}}", position=position)
            return
        match = _TOKEN.match(text, position)
        if match is None or (match.group() == "}" and open_braces == 0):
            raise _not_understood(text, position)
        if match.end() - start > MAX_TEXT:
            raise error_at(text, start - 2, f"the expression is longer than {MAX_TEXT:,} characters")
        word = match.group()
        if match.lastgroup is not None and match.lastgroup != "space":
            yield Token(kind=match.lastgroup, text=word, position=position)
        if match.lastgroup == "symbol":
            open_braces += (word == "{") - (word == "}")
        position = match.end()
    raise error_at(text, start - 2, "{{ is not closed; add }}, or write \\{{ for the text {{")


def _not_understood(text: str, position: int) -> ExpressionError:
    character = text[position]
    if character in "\"'":
        return error_at(text, position, "the quote is not closed")
    if character in "0123456789":
        return error_at(text, position, "the number goes on with letters; put spaces around it, or quotes for a text")
    for sign, hint in _FOREIGN:
        if text.startswith(sign, position):
            return error_at(text, position, f"{sign!r} is not understood; {hint}")
    return error_at(text, position, f"{character!r} is not understood; {_HINT}")


def error_at(text: str, position: int, problem: str) -> ExpressionError:
    """The error for what is wrong at an index of the text; people count positions from 1."""
    begin = max(0, position - _SHOWN)
    end = position + _SHOWN
    shown = ("..." if begin else "") + text[begin:end] + ("..." if end < len(text) else "")
    return ExpressionError(f"{shown!r}, position {position + 1}: {problem}")
