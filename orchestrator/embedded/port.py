"""Ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_TRIALS = 200


def free_port() -> int:
    """A port that nobody listens on at the moment, below those the kernel hands out to outgoing connections.

    Inside that range a client that reconnects while its server is down can be given the server's own port as its
    source, connects to itself, and then holds the port against the server's return. Raises OSError if none is free.
    """
    try:
        highest = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        highest = 32_768
    if highest <= _LOWEST:  # the whole range is handed out: there is no better port than any
        return _bind(0)
    for _ in range(_TRIALS):
        try:
            return _bind(random.randrange(_LOWEST, highest))  # noqa: S311  # no secret
        except OSError:
            continue
    return _bind(0)


def _bind(port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
