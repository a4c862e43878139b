"""A TCP proxy between programs and a server, that makes the network bad: latency, slices, half-open connections,
resets and cuts.

It runs on an event loop of its own, in a thread, so that whoever hurts the network need not be asynchronous.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_CHUNK = 64 * 1024
#: With a linger time of 0 seconds a socket is closed by RST.
_RESET = struct.pack("ii", 1, 0)
#: How long the loop may take to do what it is told, in seconds.
_DEADLINE = 10.0


class _Line:
    """One connection: two pumps."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        #: Whether it carries nothing any more, while both ends believe it stands.
        self.dead = False
        #: Whether the client has asked for something since, and whether it has ended it.
        self.asked, self.left = False, False

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, up: bool) -> None:
        """Carry one direction until it ends."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await source.read(_CHUNK):
                if self.dead:
                    self.asked = self.asked or up
                    continue
                if up and self.proxy.struck(data):
                    await self._answered_never(sink, data)
                    return
                self.proxy.carried += len(data)
                await self.proxy.slow_down()
                for piece in self.proxy.pieces(data):
                    sink.write(piece)
                    await sink.drain()
                    if len(piece) != len(data):
                        await asyncio.sleep(0)
        self.left = self.left or up
        if not self.dead:
            self.reset() if self.proxy.resets else self.close()

    async def _answered_never(self, sink: asyncio.StreamWriter, data: bytes) -> None:
        """Carry what was asked for, let the server do it, and cut the client off before it hears."""
        self.dead = True
        sink.write(data)
        await sink.drain()
        await asyncio.sleep(self.proxy.GRACE)
        self.reset()

    def close(self) -> None:
        """End both connections in order."""
        for writer in (self.client, self.server):
            writer.close()

    def reset(self) -> None:
        """End both by RST."""
        for writer in (self.client, self.server):
            sock = writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Listens on `host`, at a port of its own, and carries to a server on 127.0.0.1. A context manager.

    Args:
        port: the server's.
        host: where it listens.
    """

    #: Seconds that a server has to carry out a statement whose answer is lost.
    GRACE = 0.05

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._upstream, self._host = port, host
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Seconds that every piece takes longer, in each direction; a tenth more or less.
        self.latency = 0.0
        #: Most bytes that are carried at once; None carries whatever comes.
        self.slice: int | None = None
        #: Whether connections end by RST.
        self.resets = False
        #: Whether new connections are taken and then carry nothing.
        self._deaf = False
        #: Whether new connections are refused by closing them.
        self._shut = False
        #: Bytes carried so far.
        self.carried = 0
        self._marker, self._strikes = b"", 0
        #: Connections that were cut between a statement and its answer.
        self.struck_so_far = 0

    # What happens to the network; to be called from any thread.

    def half_open(self, *, new: bool = True) -> int:
        """Every connection carries nothing more, and nobody is told; how many there were.

        Args:
            new: those that are made from now on, too.
        """

        async def act() -> int:
            self._deaf = new
            for line in self._lines:
                line.dead = True
            return len(self._lines)

        return self._do(act)

    def cut(self) -> int:
        """End every connection by RST, and refuse others; how many there were."""

        async def act() -> int:
            self._shut = True
            return self._reset_all()

        return self._do(act)

    def reset(self) -> int:
        """End every connection by RST; new ones are carried. How many there were."""

        async def act() -> int:
            return self._reset_all()

        return self._do(act)

    def lose_answers(self, marker: bytes, times: int) -> None:
        """The next so many pieces that hold the marker reach the server, and their answers nobody."""

        async def act() -> None:
            self._marker, self._strikes = marker, times

        self._do(act)

    def heal(self) -> None:
        """A good network again. Connections that were half-open end by RST, as after a long cut they do."""

        async def act() -> None:
            self.latency, self.slice, self.resets, self._deaf, self._shut = 0.0, None, False, False, False
            self._strikes = 0
            for line in [line for line in self._lines if line.dead]:
                line.reset()

        self._do(act)

    @property
    def port(self) -> int:
        """Where it listens."""
        found: int = self._listener.sockets[0].getsockname()[1]
        return found

    @property
    def believed(self) -> int:
        """On how many connections clients wait for an answer, though these carry nothing any more. One that is only
        kept holds nobody up."""
        return sum(line.dead and line.asked and not line.left for line in list(self._lines))

    @property
    def connections(self) -> int:
        """How many stand."""
        return len(self._lines)

    # For the lines.

    def struck(self, data: bytes) -> bool:
        """Whether the answer to this piece is to be lost."""
        if self._strikes and self._marker in data:
            self._strikes -= 1
            self.struck_so_far += 1
            return True
        return False

    async def slow_down(self) -> None:
        """Take the time that the network takes."""
        if self.latency:
            await asyncio.sleep(self.latency * random.uniform(0.9, 1.1))

    def pieces(self, data: bytes) -> list[bytes]:
        """What is carried at once."""
        if self.slice is None or len(data) <= self.slice:
            return [data]
        return [data[begin : begin + self.slice] for begin in range(0, len(data), self.slice)]

    # Life cycle.

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._accept, self._host, 0)

        self._listener = self._do(listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            self._listener.close()
            self._reset_all()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._do(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE)
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._shut:
            _Line(self, writer, writer).reset()
            return
        try:
            source, sink = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _Line(self, writer, writer).reset()
            return
        line = _Line(self, writer, sink)
        line.dead = self._deaf
        self._lines.add(line)
        try:
            await asyncio.gather(line.pump(reader, sink, up=True), line.pump(source, writer, up=False))
        except asyncio.CancelledError:
            pass  # the proxy ends; whoever listens for connections would tell of it
        finally:
            self._lines.discard(line)
            line.close()

    def _reset_all(self) -> int:
        found = list(self._lines)
        for line in found:
            line.reset()
        return len(found)

    def _do(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(_DEADLINE)
