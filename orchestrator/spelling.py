"""Suggestions in error messages: which known word was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x" or "y"?` with the known words closest to a wrong one; empty when none is close."""
    # A cutoff below difflib's 0.6 still pairs words of which one begins with the other, such as input, input_schema.
    matches = get_close_matches(word, list(known), n=2, cutoff=0.55)
    quoted = " or ".join(f'"{match}"' for match in matches)
    return f"; did you mean {quoted}?" if matches else ""
