"""How many connections to the database each process of the workers has, read from /proc, while they work."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from fault_suite.stack import Stack

#: Seconds between two looks.
_PACE = 0.5
_ESTABLISHED = "01"


class Census:
    """Looks again and again; a context manager."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._over = stack, threading.Event()
        self._thread = threading.Thread(target=self._look, name="census", daemon=True)
        #: Most that one process had, and how many looks there were, since the last `begin`.
        self.most, self.looks = 0, 0

    def begin(self) -> None:
        """Count anew."""
        self.most, self.looks = 0, 0

    def _look(self) -> None:
        while not self._over.wait(_PACE):
            ports = {proxy.port for proxy in self._stack.database_proxies.values()}
            for node in self._stack.workers():
                # What a child has inherited by its fork belongs to its parent.
                main = connections(node.pid, ports)
                own = [len(main), *(len(connections(pid, ports) - main) for pid in node.children())]
                self.most = max(self.most, *own)
            self.looks += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10)


def standing(pid: int, address: str) -> set[str]:
    """Connections that begin at an IPv4 address, of the network of a process, as the kernel names them."""
    begins = socket.inet_aton(address)[::-1].hex().upper()
    found = set()
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _ESTABLISHED and local.startswith(f"{begins}:"):
                found.add(f"socket:[{rest[5]}]")
    return found


def connections(pid: int, ports: set[int]) -> set[str]:
    """Connections of a process to any of the ports, as the kernel names them; none if it is gone. The table is that of
    its own network, which is its host's."""
    with suppress(OSError):
        standing = set()
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            _, _, remote, state, *rest = line.split()
            if state == _ESTABLISHED and int(remote.rpartition(":")[2], 16) in ports:
                standing.add(f"socket:[{rest[5]}]")
        held = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                held.add(str(descriptor.readlink()))
        return standing & held
    return set()
