"""A TCP proxy before PostgreSQL that loses chosen statements, or the replies to them.

It shows a client what a broken network does: the connection ends, and whether the server carried the statement out is
exactly what the test says.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from sqlalchemy import make_url

from ledger.races import DEADLINE

#: Marks a transaction's end, but not the words READ COMMITTED at its begin.
COMMIT = "COMMIT\0"
#: ReadyForQuery: the server has done all that it was sent, and an autocommit statement is committed.
_READY = b"Z\x00\x00\x00\x05"


class Session:
    """One client's connection, and the server's end of it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client, self._server = client, server
        self._answered = threading.Event()
        self._swallowing = False
        #: A statement that the server shall get when the client is gone.
        self.held: bytes | None = None

    def upwards(self, fault: Callable[[bytes], Fault | None]) -> None:
        """Carry what the client sends, but for what a fault strikes."""
        with suppress(OSError):
            while data := self._client.recv(65_536):
                struck = fault(data)
                if struck is None:
                    self._server.sendall(data)
                else:
                    struck(self, data)
        if self.held is None:
            self.end()

    def downwards(self) -> None:
        """Carry what the server answers, or swallow it."""
        with suppress(OSError):
            while data := self._server.recv(65_536):
                if not self._swallowing:
                    self._client.sendall(data)
                elif _READY in data:
                    self._answered.set()
        self.end()

    def forward(self, data: bytes) -> None:
        """Hand a statement to the server."""
        self._server.sendall(data)

    def carry_out(self, data: bytes) -> None:
        """Hand a statement to the server, wait until it is carried out, and swallow the reply."""
        self._swallowing = True
        self.forward(data)
        assert self._answered.wait(DEADLINE), "the server did not answer"

    def cut(self) -> None:
        """End the client's connection alone."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End both connections."""
        self.cut()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give both sockets back, once nothing is carried any more."""
        self._client.close()
        self._server.close()


#: What is done with a statement in place of forwarding it.
Fault = Callable[[Session, bytes], None]


class Proxy:
    """Listens on a port of its own; a context manager. Each fault strikes once, in the order given, the next statement
    that holds its marker."""

    def __init__(self, url: str) -> None:
        self._server = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._faults: deque[tuple[bytes, Fault]] = deque()
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The database's URL by way of the proxy."""
        port = self._listener.getsockname()[1]
        return self._server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    @property
    def pending(self) -> int:
        """Faults that have not struck yet."""
        return len(self._faults)

    def lose_reply(self, marker: str) -> None:
        """A statement is carried out, and its reply is lost."""

        def fault(session: Session, data: bytes) -> None:
            session.carry_out(data)
            session.end()

        self._faults.append((marker.encode(), fault))

    def lose_statement(self, marker: str) -> None:
        """A statement never reaches the server."""
        self._faults.append((marker.encode(), lambda session, _: session.end()))

    def delay(self, marker: str) -> None:
        """A statement is on its way while its client is cut off; it reaches the server at the next `overtaken`."""

        def fault(session: Session, data: bytes) -> None:
            session.held = data
            session.cut()

        self._faults.append((marker.encode(), fault))

    def overtaken(self, marker: str) -> None:
        """A statement reaches the server only after the delayed one has been carried out."""

        def fault(session: Session, data: bytes) -> None:
            self.deliver()
            session.forward(data)

        self._faults.append((marker.encode(), fault))

    def deliver(self) -> None:
        """Let the delayed statement reach the server; returns when it is carried out."""
        late = next(session for session in self._sessions if session.held is not None)
        assert late.held is not None
        data, late.held = late.held, None
        late.carry_out(data)
        late.end()

    def __enter__(self) -> Self:
        self._go(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for session in self._sessions:
            session.end()
        for thread in self._threads:
            thread.join(DEADLINE)
        for session in self._sessions:
            session.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((str(self._server.host), self._server.port or 5432))
                session = Session(client, server)
                self._sessions.append(session)
                self._go(lambda session=session: session.upwards(self._strikes))  # type: ignore[misc]
                self._go(session.downwards)

    def _strikes(self, data: bytes) -> Fault | None:
        with self._lock:
            if self._faults and self._faults[0][0] in data:
                return self._faults.popleft()[1]
        return None

    def _go(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
