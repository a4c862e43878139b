"""What a sealed value looks like: data that only an activity's attempt may see, encrypted wherever it is kept.

An envelope is `{"$sealed": "<token>"}`, or, for a text that a template has made around sealed values, their parts in
order: `{"$sealed": ["Bearer ", {"$sealed": "<token>"}]}`. Nothing but its holder's keys opens it (ledger/seals.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: The only key of an envelope.
SEALED = "$sealed"
#: What people are shown in its place.
SHOWN = "[secret]"


def is_sealed(value: object) -> bool:
    """Whether a value is an envelope."""
    return isinstance(value, Mapping) and SEALED in value


def composed(parts: Sequence[Any]) -> dict[str, Any]:
    """The envelope of a text, of which some parts are sealed and the others texts."""
    return {SEALED: list(parts)}


def mapped(data: Any, change: Callable[[Any], Any]) -> Any:
    """JSON data with every sealed value changed; what holds none is the same object."""
    if isinstance(data, dict):
        if SEALED in data:
            return change(data)
        entries = {key: mapped(item, change) for key, item in data.items()}
        return entries if any(entries[key] is not item for key, item in data.items()) else data
    if isinstance(data, list):
        items = [mapped(item, change) for item in data]
        return items if any(new is not old for new, old in zip(items, data, strict=True)) else data
    return data


def shown(data: Any) -> Any:
    """JSON data as people are shown it."""
    return mapped(data, lambda _: SHOWN)
