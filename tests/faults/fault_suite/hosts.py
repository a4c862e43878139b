"""A second host on this machine: a network namespace with a link of its own, which can be cut as a cable is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Self

#: From the block for benchmarks of networks (RFC 2544), which nobody else uses.
_NETWORK = "198.18.{}"
#: Addresses of each cable's network, and what that makes of its prefix.
_SIZE, _PREFIX = 8, 29


def why_no_hosts() -> str | None:
    """Why this machine can make no network namespaces; None if it can."""
    if shutil.which("ip") is None:
        return "`ip` is missing: Debian's package iproute2"
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    name = f"fault-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"the kernel makes no network namespace: {made.stderr.strip()}"
    pair = ["ip", "link", "add", f"fp{os.getpid()}", "type", "veth", "peer", "name", f"fq{os.getpid()}"]
    linked = subprocess.run(pair, capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], check=True)
    if linked.returncode:
        return f"the kernel makes no pair of links: {linked.stderr.strip()}"
    subprocess.run(["ip", "link", "del", f"fp{os.getpid()}"], check=True)
    return None


class Link:
    """A cable between this machine and a host."""

    def __init__(self, host: str, number: int) -> None:
        self._host = host
        self._near, self._far = (f"{end}{os.getpid()}x{number}" for end in ("fn", "ff"))
        # Another suite on this machine has another process id.
        self._first = first = number * _SIZE + 1
        network = _NETWORK.format(os.getpid() % 256)
        #: This machine's address, as the host sees it.
        self.gateway = f"{network}.{first}"
        #: The host's, and the one that it has after a move.
        self.address, self._other = f"{network}.{first + 1}", f"{network}.{first + 2}"

    def cut(self) -> None:
        """Pull the cable: whatever is sent vanishes."""
        _ip("link", "set", self._near, "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self._near, "up")

    def move(self) -> None:
        """The host goes by another address, and what is sent to the one before vanishes: what stood between it and here
        carries nothing any more, and neither end is told."""
        before, self.address, self._other = self.address, self._other, self.address
        self._unlearn(self.address)
        network = f"{self.gateway.rpartition('.')[0]}.{self._first - 1}/{_PREFIX}"
        _ip("-n", self._host, "addr", "replace", f"{self.address}/{_PREFIX}", "dev", self._far)
        _ip("-n", self._host, "route", "replace", network, "dev", self._far, "scope", "link", "src", self.address)
        _ip("route", "add", "blackhole", before)

    def _unlearn(self, address: str) -> None:
        subprocess.run(["ip", "route", "del", "blackhole", address], check=False, capture_output=True)

    def lay(self) -> None:
        """Make it."""
        _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far)
        _ip("link", "set", self._far, "netns", self._host)
        _ip("addr", "add", f"{self.gateway}/{_PREFIX}", "dev", self._near)
        _ip("link", "set", self._near, "up")
        _ip("-n", self._host, "addr", "add", f"{self.address}/{_PREFIX}", "dev", self._far)
        _ip("-n", self._host, "link", "set", self._far, "up")

    def take_away(self) -> None:
        """Both ends go."""
        for address in (self.address, self._other):
            self._unlearn(address)
        subprocess.run(["ip", "link", "del", self._near], check=False, capture_output=True)


class Host:
    """A host with a cable of its own to each server. A context manager."""

    def __init__(self) -> None:
        self.name = f"fault-{os.getpid()}"
        self.database, self.broker = (Link(self.name, number) for number in (1, 2))

    def command(self, argv: Sequence[str]) -> list[str]:
        """A command line that carries out another on the host, in the same process."""
        return ["ip", "netns", "exec", self.name, *argv]

    def sockets(self, address: str) -> str:
        """Connections that begin at an address, as `ss` tells of them, with their timers and processes."""
        words = self.command(["ss", "--tcp", "--numeric", "--processes", "--options", "--info", "src", address])
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        for link in (self.database, self.broker):
            link.lay()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in (self.database, self.broker):
            link.take_away()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
