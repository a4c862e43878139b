"""What makes two failures the same: where they happened, of what name, with which message but for what differs."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_UUID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
#: 0x..., or eight and more hexadecimal digits with a decimal one among them: no English word is blanked.
_HEX: Final = re.compile(r"\b0x[0-9a-f]+\b|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_ITERATION: Final = re.compile(r"\[[0-9]+\]")
_TRANSITION: Final = re.compile(r"(?<![^:/])[0-9]+:(?=[^/]+/)")


def fingerprint(*parts: str) -> str:
    """The SHA-256 of the parts, none of which can flow into another."""
    return hashlib.sha256("\x1f".join(part.replace("\x1f", " ") for part in parts).encode()).hexdigest()


def blanked(message: str) -> str:
    """A message with `#` for its numbers, ids and hexadecimal values."""
    return _NUMBER.sub("#", _HEX.sub("#", _UUID.sub("#", message)))


def without_numbers(path: str) -> str:
    """A step's path whatever the iteration or transition: `notify[].send`, `NEXT/verify`."""
    return _TRANSITION.sub("", _ITERATION.sub("[]", path))
