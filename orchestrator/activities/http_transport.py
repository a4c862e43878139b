"""How requests reach a server: over a checked address, within one deadline, and how much of an answer is taken in."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import httpcore
import httpx

from orchestrator import clock
from orchestrator.activities import net
from orchestrator.errors import BusinessError, TransientError

#: Most bytes that one step of decompression gives.
_BLOCK = 65_536


class CheckedTransport(httpx.BaseTransport):
    """An httpx transport that connects to allowed addresses only, and ends with its deadline.

    Certificates and the Host header are those of the name; no proxy and nothing else is taken from the environment.

    Args:
        allow: private networks that may be reached.
        deadline: when the whole exchange must have ended, on the clock of `clock.elapsed`.
        ca_file: certificate authorities to trust besides the public ones.
        resolve: the addresses of a name.
    """

    def __init__(
        self, *, allow: tuple[net.Network, ...], deadline: float, ca_file: str | None, resolve: net.Resolve
    ) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(ca_file),
            max_connections=1,
            max_keepalive_connections=0,
            network_backend=_CheckedBackend(allow, deadline, resolve),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the answer's body is read from its stream. Errors are httpcore's."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        sent = httpcore.Request(request.method, url, headers=request.headers.raw, content=request.stream)
        answer = self._pool.handle_request(sent)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), request=request)

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


@lru_cache(maxsize=32)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    """Made once a process: reading all certificate authorities takes longer than many a request."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _CheckedBackend(httpcore.NetworkBackend):
    def __init__(self, allow: tuple[net.Network, ...], deadline: float, resolve: net.Resolve) -> None:
        self._allow, self._deadline, self._resolve = allow, deadline, resolve
        self._tcp = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers."""
        *others, last = net.checked(host, port, self._allow, self._resolve)
        for address in others:
            try:
                return self._connect(address, port, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return self._connect(last, port, local_address, socket_options)

    def _connect(self, address: str, port: int, *options: Any) -> httpcore.NetworkStream:
        stream = self._tcp.connect_tcp(address, port, _left(self._deadline), *options)
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection whose every read and write ends with the deadline: a server that sends a byte now and then gains no
    time by it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - clock.elapsed()
    if left <= 0:
        raise httpcore.ReadTimeout("the call has used up its time")
    return left


def body(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the decoded body, and whether that is all. What is beyond is not even decompressed."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _DECODERS:
        raise BusinessError(
            f"the body is encoded as {encoding}, which was not asked for; only gzip is read", name="HttpBody"
        )
    taken, size = [], 0
    for part in _DECODERS[encoding](response.iter_raw()):
        size += len(part)
        taken.append(part)
        if size > limit:
            return b"".join(taken)[:limit], False
    return b"".join(taken), True


def _gunzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack in small blocks, as a chunk of a kilobyte can hold a megabyte."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    begun = False
    for chunk in chunks:
        waiting = chunk
        while waiting:
            if unpacker.eof:  # another member follows
                unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            begun = True
            try:
                block = unpacker.decompress(waiting, _BLOCK)
            except zlib.error as error:
                raise BusinessError(f"the body is not the gzip that it says it is: {error}", name="HttpBody") from None
            yield block
            waiting = unpacker.unconsumed_tail or unpacker.unused_data
    # What the last step held back: at most some blocks of one window.
    while begun and not unpacker.eof:
        block = unpacker.decompress(b"", _BLOCK)
        if not block:
            raise TransientError("the body ended before its gzip did", name="HttpConnection")
        yield block


_DECODERS: dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
    "identity": iter,
    "": iter,
    "gzip": _gunzipped,
    "x-gzip": _gunzipped,
}
