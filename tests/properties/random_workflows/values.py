"""The few forms of {{ }} values that the generated definitions use, computed without the library's own evaluator."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_LONE = re.compile(r"\{\{ ([a-z0-9_.]+) \}\}")
_MODULO = re.compile(r"\{\{ coalesce\(([a-z0-9_.]+), 0\) % (\d+) == (\d+) \}\}")
_INDEX = re.compile(r"\{\{ index (<|>=) (\d+) \}\}")
#: The one condition that cannot be computed.
BROKEN = "{{ input.missing > 1 }}"


class _Unknown:
    """The value of what lost a race, which may be there or not."""


UNKNOWN = _Unknown()
#: Gives the value at a path.
Look = Callable[[str], Any]


class Incomputable(Exception):
    """A condition refers to what does not exist."""


def computed(written: Any, look: Look) -> Any:
    """A value whose texts may be lone paths; UNKNOWN if any part is."""
    if isinstance(written, str):
        found = _LONE.fullmatch(written)
        return look(found[1]) if found else written
    if isinstance(written, list):
        parts = [computed(part, look) for part in written]
        return UNKNOWN if any(part is UNKNOWN for part in parts) else parts
    if isinstance(written, dict):
        fields = {name: computed(part, look) for name, part in written.items()}
        return UNKNOWN if any(part is UNKNOWN for part in fields.values()) else fields
    return written


def holds(written: str, look: Look) -> Any:
    """Whether a condition holds, or UNKNOWN; Incomputable when that cannot be said."""
    if written == BROKEN:
        raise Incomputable(written)
    if found := _MODULO.fullmatch(written):
        value = look(found[1])
        return UNKNOWN if value is UNKNOWN else (value or 0) % int(found[2]) == int(found[3])
    if found := _INDEX.fullmatch(written):
        index = look("index")
        return index < int(found[2]) if found[1] == "<" else index >= int(found[2])
    raise AssertionError(f"the reference does not know the form {written}")
