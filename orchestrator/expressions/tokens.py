"""Splits the inside of `{{ }}` into tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.errors import ExpressionError

# A hyphen belongs to the name, since step ids have hyphens; an operator "-" would need a space before it.
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<close>\}\})
    | (?P<name>[^\W\d][\w-]*)
    | (?P<number>[0-9]+)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<symbol>[.\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)
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
    while match := _TOKEN.match(text, position):
        kind = match.lastgroup
        if kind is not None and kind != "space":
            yield Token(kind=kind, text=match.group(), position=position)
        if kind == "close":
            return
        position = match.end()
    if position == len(text):
        raise syntax_error(text, start - 2, "{{ is not closed; add }}, or write \\{{ for the text {{")
    if text[position] in "\"'":
        raise syntax_error(text, position, "the quote is not closed")
    hint = 'other keys are quoted, as in ["a key"], and the text {{ is written \\{{'
    raise syntax_error(text, position, f"{text[position]!r} is not understood; {hint}")


def syntax_error(text: str, position: int, problem: str) -> ExpressionError:
    """The error for what is wrong at an index of the text; people count positions from 1."""
    begin = max(0, position - _SHOWN)
    end = position + _SHOWN
    shown = ("..." if begin else "") + text[begin:end] + ("..." if end < len(text) else "")
    return ExpressionError(f"{shown!r}, position {position + 1}: {problem}")
