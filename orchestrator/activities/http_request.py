"""The ready-made activity `http_request`: one call of a web service."""

from __future__ import annotations

import base64
import contextlib
import json as jsonlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote, unquote

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat

from orchestrator.activities import net
from orchestrator.activities.connectors.kinds import HttpConnector
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import activity
from orchestrator.errors import BusinessError, ConfigurationError, InvalidInput

if TYPE_CHECKING:
    import httpx

    from orchestrator.activities.http_exchange import Answer

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
Capture = Literal["auto", "json", "text", "base64", "none"]
Scalar = str | int | float | bool


def _status(value: int | str) -> int | str:
    if not re.fullmatch(r"[1-5]([0-9]{2}|xx)", str(value), re.IGNORECASE):
        raise ValueError("is no status; give one such as 200, or a class such as 2xx")
    return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, int | str) else value


Expected = Annotated[tuple[Annotated[int | str, AfterValidator(_status)], ...], BeforeValidator(_listed)]
MaxBytes = Annotated[int, Field(ge=1, le=67_108_864)]

Encoding = Literal["json", "form", "text"]

IDEMPOTENCY_KEY = "Idempotency-Key"
#: Seconds, for calls and connectors that say nothing.
TIMEOUT = 30.0

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: What the connection sets itself, or what would make a request mean two things to two readers.
_NOT_YOURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
#: Answers' headers that are not kept: they carry credentials.
_NOT_KEPT = re.compile(r"cookie|auth|token|secret|api-?key|session|credential", re.IGNORECASE)
_JSON = re.compile(r"application/json|[\w.+-]+/[\w.+-]+\+json", re.IGNORECASE)
_TEXT = re.compile(
    r"text/|application/(xml|x-www-form-urlencoded|yaml|javascript)|[\w.+-]+/[\w.+-]+\+xml", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a request carries."""

    data: bytes = b""
    #: Its content type; empty for no body.
    type: str = ""


def _safe(given: Mapping[str, Any]) -> bool:
    """RFC 9110, section 9.2.1: such a request asks for no change."""
    return given.get("method", "GET") in {"GET", "HEAD"}


@activity(idempotent=_safe)
def http_request(
    ctx: StepContext,
    *,
    url: str,
    method: Method = "GET",
    headers: dict[str, str] | None = None,
    query: dict[str, Scalar | list[Scalar]] | None = None,
    json: Any = None,
    form: dict[str, Scalar | list[Scalar]] | None = None,
    body: str | None = None,
    timeout: PositiveFloat | None = None,
    expect: Expected = ("2xx",),
    capture: Capture = "auto",
    max_bytes: MaxBytes = 1_048_576,
    connector: str | None = None,
    follow_redirects: bool = True,
) -> dict[str, Any]:
    """Call a web service once; the step's retry policy makes further attempts.

    Every attempt carries the step's idempotency key as `Idempotency-Key`, unless `headers` has one. Private addresses
    are refused unless settings or connector allow their network, also behind a redirect or a name.

    Args:
        url: where; with a connector a path below its base_url.
        headers: sent along; a connector's own win. They stay behind where a redirect leaves the origin.
        query: added to the url's own.
        json, form, body: what is sent; one of them at most.
        timeout: seconds for everything together; by default the connector's, else 30.
        expect: the status that is a success, or a list of them, such as 200 or "2xx".
        capture: how the body is returned; auto: JSON or text by its content type, anything else as base64.
        max_bytes: of the decoded body.
        connector: the name of a connector of kind http.

    Returns:
        status; headers, lower-cased, without those that carry credentials; body; url, after redirects.

    Raises:
        BusinessError, TransientError: as `http_exchange.send`.
        InvalidInput, ConfigurationError: the step's input or the connector is wrong.
    """
    # httpx takes an eighth of a second to import, and many processes never call it.
    from orchestrator.activities import http_exchange  # noqa: PLC0415

    service = _service(ctx, connector) if connector is not None else None
    target = _below(service, url) if service is not None else _absolute(url)
    if query:
        target = target.copy_merge_params(query)
    content = _content(json, form, body)
    answer = http_exchange.send(
        http_exchange.Call(
            method=method,
            url=target,
            headers=_headers(headers or {}, ctx, content.type),
            content=content.data,
            secret_headers=service.secret_headers() if service else {},
            networks=tuple(ctx.connectors.networks) if ctx.connectors else (),
            origin_networks=net.networks(service.allow_networks) if service else (),
            expect=expect,
            timeout=timeout or (service.timeout if service else TIMEOUT),
            max_bytes=None if capture == "none" else max_bytes,
            follow_redirects=follow_redirects,
            ca_file=service.ca_file if service else None,
            label=f"{method} {target.copy_with(query=None, fragment=None)}",
        )
    )
    return _result(answer, capture)


def _result(answer: Answer, capture: Capture) -> dict[str, Any]:
    return {
        "status": answer.status,
        "headers": kept(answer.headers),
        "body": captured(answer.content, answer.headers.get("content-type", ""), capture),
        "url": str(answer.url),
    }


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """An answer's headers by lower-case name, without those that carry credentials."""
    return {name.lower(): value for name, value in headers.items() if not _NOT_KEPT.search(name)}


def captured(content: bytes | None, content_type: str, capture: Capture) -> Any:
    """A body as data; BusinessError HttpBody when it is not the JSON that was asked for."""
    if content is None:
        return None
    if capture == "json":
        return _parsed(content)
    if capture == "auto":
        capture = _shape(content, content_type)
        if capture == "json":
            with contextlib.suppress(BusinessError):
                return _parsed(content)
    return base64.b64encode(content).decode() if capture == "base64" else _text(content, content_type)


def _shape(content: bytes, content_type: str) -> Capture:
    if _JSON.match(content_type):
        return "json"
    return "base64" if content and content_type and not _TEXT.match(content_type) else "text"


def key_header(key: str) -> str:
    """An idempotency key as a header's value; what is not ASCII is percent-encoded."""
    return quote(key, safe="!#$&'()*+,/:;=?@[]-._~ ")


def _service(ctx: StepContext, name: str) -> HttpConnector:
    found = ctx.connector(name)
    if not isinstance(found, HttpConnector):
        raise ConfigurationError(f'connector "{name}" is of kind {found.kind}; http_request needs one of kind http')
    return found


def _absolute(url: str) -> httpx.URL:
    target = _url(url)
    if target.scheme not in {"http", "https"} or not target.host:
        raise InvalidInput(f"{_shown(url)} is no URL; it begins with https://, or is a path with a connector")
    if target.userinfo:
        raise InvalidInput("the url holds a user name or password, which the ledger would keep; use a connector")
    return target


def _below(service: HttpConnector, url: str) -> httpx.URL:
    """The connector's secrets go nowhere but below its base_url, whatever the step's input says."""
    base = service.base_url.rstrip("/")
    if url == base or url.startswith((f"{base}/", f"{base}?")):
        # As services write it in the links that they return.
        url = url[len(base) :]
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//|\\", url):
        raise InvalidInput(f"{_shown(url)} is not below the connector's base_url; give a path")
    path, _, rest = url.partition("?")
    if any(part in {".", ".."} for part in re.split(r"[/\\]", unquote(unquote(path)))):
        raise InvalidInput(f"{_shown(url)} leaves the connector's base_url; give a path without . and ..")
    return _url(base + ("/" + path.lstrip("/") if path else "") + (f"?{rest}" if rest else ""))


def _url(text: str) -> httpx.URL:
    import httpx  # noqa: PLC0415 - as above

    try:
        return httpx.URL(text).copy_with(fragment=None)
    except (httpx.InvalidURL, UnicodeError):
        raise InvalidInput(f"{_shown(text)} is no URL; correct it in the step's input") from None


def _shown(url: str) -> str:
    """Without the query, which may hold credentials."""
    return repr(re.sub(r"//[^/@]*@", "//", url.partition("?")[0])[:200])


def _headers(given: Mapping[str, str], ctx: StepContext, content_type: str) -> dict[str, str]:
    for name, value in given.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _NOT_YOURS or name.lower().startswith("proxy-"):
            raise InvalidInput(f"{name!r} cannot be set as a header; remove it from the step's input")
        if not value.isprintable():
            raise InvalidInput(f"the header {name} has a line's end or control character; remove it")
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise InvalidInput(f"the header {name} has characters that headers cannot hold; encode them") from None
    headers = {name.lower(): value for name, value in given.items()}
    headers.setdefault(IDEMPOTENCY_KEY.lower(), key_header(ctx.idempotency_key))
    if content_type:
        headers.setdefault("content-type", content_type)
    return headers


def _content(json: Any, form: Any, body: str | None) -> Content:
    given: list[tuple[Encoding, Any]] = [("json", json), ("form", form), ("text", body)]
    present = [(encoding, value) for encoding, value in given if value is not None]
    if len(present) > 1:
        raise InvalidInput("json, form and body are given together; keep one of them")
    return encoded(*present[0]) if present else Content()


def encoded(encoding: Encoding, value: Any) -> Content:
    """A body's bytes and content type; lists in a form repeat their field."""
    if encoding == "json":
        text = jsonlib.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return Content(data=text.encode(), type="application/json")
    if encoding == "form":
        import httpx  # noqa: PLC0415 - as above

        return Content(data=str(httpx.QueryParams(value)).encode(), type="application/x-www-form-urlencoded")
    return Content(data=str(value).encode(), type="text/plain; charset=utf-8")


def _parsed(content: bytes) -> Any:
    try:
        return jsonlib.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BusinessError(f"the answer's body is not JSON: {error}", name="HttpBody") from None


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _text(content: bytes, content_type: str) -> str:
    charset = re.search(r"charset=\"?([\w.:-]+)", content_type, re.IGNORECASE)
    try:
        text = content.decode(charset[1] if charset else "utf-8", "replace")
    except LookupError:
        text = content.decode("utf-8", "replace")
    # PostgreSQL's jsonb cannot hold it.
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
