"""JSON at the edge: what may enter the ledger, and the canonical form that hashes are taken of."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from orchestrator.errors import PayloadError

#: An escaped NUL; behind an even number of backslashes, or it would be the text of the escape itself.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

#: Python refuses to read longer whole numbers (sys.int_info.default_max_str_digits).
MAX_DIGITS = 4300
_HUGE = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal data gives equal text. ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def encode(value: Any, *, limit: int, what: str) -> str:
    """JSON text of a value: JSON data, pydantic models, dataclasses, dates, decimals, UUIDs, enums and sets.

    Args:
        limit: most bytes allowed.
        what: names the value in the error, such as "output of step charge".

    Raises:
        PayloadError: not JSON (NaN and infinities included), text that PostgreSQL cannot hold, or too large.
    """
    try:
        text = to_json(value, inf_nan_mode="constants").decode()
        # to_json writes NaN and Infinity as they are; only a parse tells them from the same words inside a string.
        if "NaN" in text or "Infinity" in text:
            json.loads(text, parse_constant=_refuse_constant)
    except (PydanticSerializationError, UnicodeDecodeError, ValueError) as error:
        raise PayloadError(f"{what} is not JSON: {error}; return plain data, or a pydantic model") from None
    if len(text) > limit // 4 and (size := len(text.encode())) > limit:
        raise PayloadError(
            f"{what} is {size:,} bytes, over the limit of {limit:,}; store it outside and pass a reference"
        )
    if len(text) > MAX_DIGITS and _HUGE.search(text) and not _is_readable(text):
        raise PayloadError(f"{what} holds a number of more than {MAX_DIGITS} digits; write it as a text")
    if _NUL.search(text):
        raise PayloadError(
            f"{what} holds a NUL character, which PostgreSQL's jsonb cannot store; remove it or encode it"
        )
    return text


def _is_readable(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")
