"""What each process of a pool is inside of just now, in memory that its node can read.

The ledger says who owes an attempt. Only the process itself knows whether it is still within the activity: a hung one
says nothing at all, and must not be taken for one that is idle, or works on a task of the application's own.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.ledger.claims import Claim

#: Processes of one pool that can be told from each other; any more are not watched.
SLOTS = 1024
#: Process id, what it is inside of (0: nothing), until when, whether it may be interrupted.
_SLOT = struct.Struct("<qqdq")
_WORD, _TIME = struct.Struct("<q"), struct.Struct("<d")
_TOKEN, _DEADLINE, _MAY = 8, 16, 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """A process within an activity."""

    #: Stands for the attempt; see `token_of`.
    token: int
    #: When the attempt is overdue, on the machine's monotonic clock; None is never.
    deadline: float | None
    interruptible: bool


def token_of(held: Claim) -> int:
    """A number for an attempt, the same in a node and in the processes forked from it."""
    return (hash((held.execution_id, held.path, held.attempt)) & 0x7FFF_FFFF_FFFF_FFFF) | 1


class Presence:
    """A row of slots, one for each process of the pool. Made before the pool forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, SLOTS * _SLOT.size)
        self._at: int | None = None

    def take(self, index: int) -> None:
        """Called in a new process: its slot is that of its place in the pool."""
        if 0 <= index < SLOTS:
            self._at = index * _SLOT.size
            _SLOT.pack_into(self._shared, self._at, os.getpid(), 0, 0.0, 0)

    def enter(self, token: int, deadline: float | None, *, interruptible: bool) -> None:
        """This process goes into an activity."""
        if self._at is not None:
            self.move(deadline)
            _WORD.pack_into(self._shared, self._at + _MAY, interruptible)
            # Last: the rest counts only with it.
            _WORD.pack_into(self._shared, self._at + _TOKEN, token)

    def move(self, deadline: float | None) -> None:
        """The attempt is overdue at another time."""
        if self._at is not None:
            _TIME.pack_into(self._shared, self._at + _DEADLINE, deadline or 0.0)

    def leave(self) -> None:
        """This process has come out of the activity."""
        if self._at is not None:
            _WORD.pack_into(self._shared, self._at + _TOKEN, 0)

    def busy(self, children: Collection[int]) -> dict[int, Busy]:
        """Which of these processes are within an activity, by process id."""
        wanted, found = set(children), {}
        for at in range(0, SLOTS * _SLOT.size, _SLOT.size):
            pid, token, deadline, may = _SLOT.unpack_from(self._shared, at)
            if token and pid in wanted:
                found[pid] = Busy(token=token, deadline=deadline or None, interruptible=bool(may))
        return found
