"""The contract of a sweep, and the limit that keeps each one short.

A sweep is small, idempotent, and safe in any number at once: what it finds it asks again in the statement that changes
it. It looks at LIMIT rows at most and is called again until it finds fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from orchestrator.config import Settings
from orchestrator.engine.core import Core

#: Rows that one pass takes; a pass over more would hold its locks for long.
LIMIT = 500
#: Passes of one call: what is left then waits for the next tick.
PASSES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a sweep works with."""

    core: Core
    connection: Connection
    #: The boot id of the node that sweeps.
    observer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """One sweep: its name, how often it is due, and a pass of it, which returns how much it found."""

    name: str
    #: Seconds between two calls; 0 is off.
    interval: Callable[[Settings], float]
    sweep: Callable[[Context], int]


def call(sweep: Sweep, context: Context) -> int:
    """Sweep until little is left; how much was found in all."""
    found = 0
    for _ in range(PASSES):
        count = sweep.sweep(context)
        found += count
        if count < LIMIT:
            break
    return found
