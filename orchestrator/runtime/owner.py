"""Who holds a claim: the node's boot id and the process, or thread, within it.

The boot id lies in memory shared with the pool's children, which are forked after it is made: when the node was taken
for dead and takes a new one, they claim under the new name from then on, while what they hold stays fenced.

Why boot id and process id, where a slot number would do: a slot is taken over by the next child at once, and the late
release of the dead one would release its successor's claims. A process id comes again only after all others.
"""

from __future__ import annotations

import mmap
import os
import threading

from orchestrator.model.identity import new_id
from orchestrator.runtime.presence import Presence

_BOOT_LENGTH = 32
_DRAINING, _DRAINED = _BOOT_LENGTH, _BOOT_LENGTH + 1


class Node:
    """A worker node's identity, shared with its children."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _BOOT_LENGTH + 2)
        #: What its children are inside of.
        self.presence = Presence()
        self.take_boot(new_id().hex)

    @property
    def boot_id(self) -> str:
        """This boot of the node, 32 hex digits."""
        return self._shared[:_BOOT_LENGTH].decode()

    def take_boot(self, boot_id: str) -> None:
        """Go by a new boot id: what is held under the old one is no longer ours."""
        self._shared[:_BOOT_LENGTH] = boot_id.encode()

    @property
    def draining(self) -> bool:
        """Whether the node goes down, or takes up no more: segments give back at the next step."""
        return self._shared[_DRAINING] == 1 or self.drained

    def drain(self) -> None:
        """Let running segments end at their present step, for good."""
        self._shared[_DRAINING] = 1

    @property
    def drained(self) -> bool:
        """Whether the node takes up no more, at an operator's word."""
        return self._shared[_DRAINED] == 1

    def set_drained(self, drained: bool) -> None:
        """Let running segments end at their present step, or go on again."""
        self._shared[_DRAINED] = int(drained)

    def owner(self) -> str:
        """The name that this process, or this thread of a thread pool, claims under."""
        name = f"{self.boot_id}.{os.getpid()}"
        thread = threading.current_thread()
        return name if thread is threading.main_thread() else f"{name}-{thread.ident}"

    def owner_of(self, pid: int) -> str:
        """The name that one of the node's children claims under."""
        return f"{self.boot_id}.{pid}"
