"""A way to a server that turns half-open: what stands carries nothing any more, and neither end is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class HalfOpen:
    """Listens on a port of 127.0.0.1 and carries to another; a context manager.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lines: list[_Line] = []
        self._silent: list[_Line] = []

    def silence(self) -> int:
        """Carry nothing more on the connections that there are; how many. New ones are carried."""
        silenced, self._lines = self._lines, []
        for line in silenced:
            line.silent = True
        self._silent += silenced
        return len(silenced)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in (*self._lines, *self._silent):
            line.end()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._lines.append(_Line(client, socket.create_connection(("127.0.0.1", self._server))))


class _Line:
    """One connection, both ends."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        #: Whether it takes what comes and carries nothing.
        self.silent = False
        self._ends = (client, server)
        ways = ((client, server), (server, client))
        self._threads = [threading.Thread(target=self._carry, args=way, daemon=True) for way in ways]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Close both ends."""
        self._shut()
        for thread in self._threads:
            thread.join(10)
        for end in self._ends:
            end.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not self.silent:
                    sink.sendall(data)
        if not self.silent:
            self._shut()

    def _shut(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
