"""One call of an outside service by HTTP, redirects included, and what becomes of its answer or failure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore
import httpx

from orchestrator import clock
from orchestrator.activities import net
from orchestrator.activities.http_transport import CheckedTransport, body
from orchestrator.errors import BusinessError, InvalidInput, TransientError
from orchestrator.redaction import redact

MAX_REDIRECTS = 10
#: Statuses that another attempt may change: timeouts, too early, too many requests, and all of the server's own.
TRANSIENT = frozenset({408, 425, 429}) | frozenset(range(500, 600))
#: No service is left alone for longer, whatever it asks for, in seconds.
MAX_RETRY_AFTER = 86_400.0
#: Of an unexpected answer's body so many bytes are read, and so many characters are told.
_EXCERPT_BYTES, _EXCERPT = 4_096, 300
#: What may leave the origin with a redirect; anything else may be meant for the first service alone.
_HARMLESS = frozenset({"accept", "accept-encoding", "accept-language", "user-agent", "content-type", "idempotency-key"})
_SEE_OTHER, _MOVED = 303, (301, 302)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What is asked of a service."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str]
    content: bytes = b""
    #: Headers that only the url's own origin may see.
    secret_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Private networks that any hop may reach.
    networks: tuple[net.Network, ...] = ()
    #: Private networks that the url's own origin may be in.
    origin_networks: tuple[net.Network, ...] = ()
    #: Statuses that are a success: 200, or 2xx.
    expect: Sequence[int | str] = ("2xx",)
    #: Seconds for everything together.
    timeout: float
    #: Most bytes of the decoded body; None does not read it.
    max_bytes: int | None
    follow_redirects: bool
    ca_file: str | None = None
    #: What errors call it; holds no secret.
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a service said."""

    status: int
    headers: httpx.Headers
    #: The decoded body; None if it was not read.
    content: bytes | None
    #: Where the answer came from, after all redirects.
    url: httpx.URL


def send(call: Call, resolve: net.Resolve = net.resolve) -> Answer:
    """Make the call and follow redirects.

    Raises:
        BusinessError: AddressRefused, HttpStatus (unexpected, and another attempt would get the same), HttpBody,
            ResponseTooLarge, TooManyRedirects.
        TransientError: HttpStatus (408, 425, 429, 5xx; with the seconds of Retry-After), HttpTimeout, HttpConnection,
            NameNotResolved.
        InvalidInput: the url or a header cannot be sent.
    """
    deadline = clock.elapsed() + call.timeout
    request = _first(call)
    for _ in range(MAX_REDIRECTS + 1):
        home = _origin(request.url) == _origin(call.url)
        allow = call.networks + (call.origin_networks if home else ())
        with (
            _told(call),
            CheckedTransport(allow=allow, deadline=deadline, ca_file=call.ca_file, resolve=resolve) as transport,
        ):
            response = transport.handle_request(request)
            try:
                if not (call.follow_redirects and response.has_redirect_location):
                    return _answer(call, response)
                request = _redirected(request, response)
            finally:
                response.close()
    raise BusinessError(f"{call.label}: redirected more than {MAX_REDIRECTS} times", name="TooManyRedirects")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer's Retry-After asks for, at most a day; None when there is none that can be read."""
    given = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", given):
        return min(float(given), MAX_RETRY_AFTER)
    until = _date(given)
    if until is None:
        return None
    # By the server's own clock, if it tells it: ours may differ.
    now = _date(headers.get("date", "")) or clock.now()
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _first(call: Call) -> httpx.Request:
    headers = {name.lower(): value for name, value in call.headers.items()}
    headers |= {name.lower(): value for name, value in call.secret_headers.items()}
    headers["accept-encoding"] = "gzip"
    headers.setdefault("accept", "*/*")
    headers.setdefault("user-agent", "orchestrator")
    return httpx.Request(call.method, call.url, headers=headers, content=call.content or None)


def _redirected(request: httpx.Request, response: httpx.Response) -> httpx.Request:
    """The next hop. Off the origin only harmless headers go along; what RFC 9110 turns into a GET loses its body."""
    url = _target(request, response)
    method, content = request.method, request.content
    turned = response.status_code == _SEE_OTHER and method != "HEAD"
    if turned or (response.status_code in _MOVED and method == "POST"):
        method, content = "GET", b""
    headers = {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}}
    if _origin(url) != _origin(request.url):
        headers = {name: value for name, value in headers.items() if name in _HARMLESS}
    if not content:
        headers.pop("content-type", None)
    return httpx.Request(method, url, headers=headers, content=content or None)


def _target(request: httpx.Request, response: httpx.Response) -> httpx.URL:
    try:
        url = request.url.join(response.headers["location"])
    except httpx.InvalidURL:
        raise BusinessError("redirected to what is no URL", name="HttpStatus") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise BusinessError(f"redirected to a URL of scheme {url.scheme!r}, which is not followed", name="HttpStatus")
    return url.copy_with(userinfo=b"", fragment=None)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"https": 443}.get(url.scheme, 80)


def _answer(call: Call, response: httpx.Response) -> Answer:
    status = response.status_code
    if not is_expected(status, call.expect):
        _unexpected(call, response)
    content = None
    if call.max_bytes is not None:
        content, whole = body(response, call.max_bytes)
        if not whole:
            raise BusinessError(
                f"{call.label}: the answer has more than {call.max_bytes:,} bytes; raise max_bytes or capture none",
                name="ResponseTooLarge",
            )
    return Answer(status=status, headers=response.headers, content=content, url=response.request.url)


def is_expected(status: int, expect: Sequence[int | str]) -> bool:
    """Whether a status is one of those expected, given as numbers (200, "200") or classes ("2xx")."""
    return any(str(each).lower() in {str(status), f"{status // 100}xx"} for each in expect)


def _unexpected(call: Call, response: httpx.Response) -> None:
    status = response.status_code
    told = f"{call.label}: answered {status}{_excerpt(response)}"
    if status in TRANSIENT:
        raise TransientError(told, name="HttpStatus", retry_after=retry_after(response.headers))
    raise BusinessError(told, name="HttpStatus")


def _excerpt(response: httpx.Response) -> str:
    """The beginning of the body for people; what cannot be read says nothing."""
    try:
        content, _ = body(response, _EXCERPT_BYTES)
    except (BusinessError, TransientError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        return ""
    # Masked while still whole: half a secret would not be known as one.
    words = " ".join(redact(content.decode("utf-8", "replace")).split())
    return f": {words[:_EXCERPT]}" if words.isprintable() and words else ""


@contextmanager
def _told(call: Call) -> Iterator[None]:
    """The libraries' errors as our own, the service named. Where they came from would tell no more."""
    try:
        yield
    except (BusinessError, TransientError, InvalidInput) as error:
        if not str(error).startswith(call.label):
            # Raised below, by those who do not know the call.
            raise _relabelled(error, call.label) from None
        raise
    except httpcore.TimeoutException:
        raise TransientError(f"{call.label}: no answer within {call.timeout:g} s", name="HttpTimeout") from None
    except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
        raise InvalidInput(f"{call.label}: the request cannot be sent; correct its url and headers") from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        reason = redact(str(error)) or type(error).__name__
        raise TransientError(f"{call.label}: the connection failed: {reason}", name="HttpConnection") from None


def _relabelled(error: BusinessError | TransientError | InvalidInput, label: str) -> Exception:
    message = f"{label}: {error}"
    if isinstance(error, InvalidInput):
        return InvalidInput(message)
    if isinstance(error, TransientError):
        return TransientError(message, name=error.name, retry_after=error.retry_after)
    return BusinessError(message, name=error.name)
