"""The ready-made activity `http_request`, against a web server of this process."""

from __future__ import annotations

import contextlib
import gzip
import json
import pickle
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from outside import LOOPBACK, Authority, Reply, Site, authority, site

from orchestrator.activities import http_exchange, net
from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import registry
from orchestrator.errors import BusinessError, ConfigurationError, InvalidInput, TransientError

PUBLIC = "93.184.215.14"


@pytest.fixture(name="web")
def _web() -> Iterator[Site]:
    with site() as running:
        running.replies["/echo"] = lambda seen: Reply(body=b"ok " + seen.body)
        yield running


@pytest.fixture(name="trusted", scope="module")
def _trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


def context(connectors: dict[str, Any] | None = None, *, allow: tuple[str, ...] = LOOPBACK) -> StepContext:
    source = Connectors(connectors or {}, environment={"TOKEN": "tok-0123456789"}.get, allow_networks=allow)
    return StepContext(
        tenant="acme",
        execution_id="0190",
        definition="order",
        version=1,
        path="charge",
        attempt=1,
        idempotency_key="0190/charge",
        connectors=source,
    )


def call(url: str, *, ctx: StepContext | None = None, **options: Any) -> dict[str, Any]:
    """Bound like a worker binds it: JSON in, JSON out."""
    given = ctx or context()
    activity = registry.get("http_request")
    answer: dict[str, Any] = activity.function(**activity.bind({"url": url, **options}, given))
    json.dumps(answer)
    return answer


def exchange(url: str, resolve: net.Resolve, **options: Any) -> http_exchange.Answer:
    settings: dict[str, Any] = {"method": "GET", "headers": {}, "timeout": 5, "max_bytes": 1000, "label": "call"}
    return http_exchange.send(
        http_exchange.Call(url=httpx.URL(url), **{"follow_redirects": True, **settings, **options}), resolve
    )


# --- requests -------------------------------------------------------------------------------------------------------


def test_method_headers_query_and_json_body_arrive_and_the_answer_is_captured(web: Site) -> None:
    web.replies["/orders"] = lambda _: Reply(
        status=201,
        headers={"Content-Type": "application/json", "X-Request-Id": "r1", "Set-Cookie": "sid=1", "X-Auth-Token": "t"},
        body=b'{"id": 7}',
    )
    answer = call(
        f"{web.url}/orders?a=1",
        method="POST",
        headers={"X-Region": "eu"},
        query={"b": [2, 3], "c": True},
        json={"sku": "tea", "note": "grün"},
        expect=201,
    )
    (seen,) = web.seen
    assert (seen.method, seen.path) == ("POST", "/orders?a=1&b=2&b=3&c=true")
    assert (seen.headers["x-region"], seen.headers["content-type"]) == ("eu", "application/json")
    assert json.loads(seen.body) == {"sku": "tea", "note": "grün"}
    assert (answer["status"], answer["body"], answer["headers"]["x-request-id"]) == (201, {"id": 7}, "r1")
    assert answer["url"] == f"{web.url}/orders?a=1&b=2&b=3&c=true"
    assert not {"set-cookie", "x-auth-token"} & set(answer["headers"])


def test_a_form_and_a_text_are_sent_with_their_content_types(web: Site) -> None:
    call(f"{web.url}/echo", method="POST", form={"a": "1 2", "b": ["x", "y"]})
    call(f"{web.url}/echo", method="PUT", body="grün")
    form, text = web.seen
    assert (form.body, form.headers["content-type"]) == (b"a=1+2&b=x&b=y", "application/x-www-form-urlencoded")
    assert (text.body, text.headers["content-type"]) == ("grün".encode(), "text/plain; charset=utf-8")


def test_two_bodies_are_refused(web: Site) -> None:
    with pytest.raises(InvalidInput, match="keep one"):
        call(f"{web.url}/echo", method="POST", json={}, body="x")
    assert web.seen == []


def test_every_request_carries_the_steps_idempotency_key_unless_a_header_gives_another(web: Site) -> None:
    call(f"{web.url}/echo", method="POST")
    call(f"{web.url}/echo", method="POST", headers={"idempotency-key": "mine"})
    assert [seen.headers["idempotency-key"] for seen in web.seen] == ["0190/charge", "mine"]


@pytest.mark.parametrize("name", ["Host", "Content-Length", "transfer-encoding", "Proxy-Authorization", "a b"])
def test_headers_that_belong_to_the_connection_are_refused(web: Site, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be set"):
        call(f"{web.url}/echo", headers={name: "x"})


def test_a_header_with_a_lines_end_is_refused(web: Site) -> None:
    with pytest.raises(InvalidInput, match="line's end"):
        call(f"{web.url}/echo", headers={"X-A": "1\r\nX-B: 2"})


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "/path", "https://", "https://user:pw@example.org/", "http://[::"]
)
def test_what_is_no_plain_web_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        call(url)
    assert "pw" not in str(refused.value)


def test_parameters_are_checked_when_a_definition_is_loaded() -> None:
    problems = registry.get("http_request").check(
        {"url": 5, "method": "FETCH", "tiemout": 3, "expect": ["2xx", 700], "timeout": -1, "query": "{{ input.q }}"}
    )
    told = "\n".join(problems)
    assert len(problems) == 5, told
    for word in ('did you mean "timeout"', '"url"', "'GET'", "expect[1]", "greater than 0"):
        assert word in told


def test_the_environments_proxies_are_not_used(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert call(f"{web.url}/echo")["status"] == 200


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "capture", "captured"),
    [
        ("application/problem+json", b'{"a": [1]}', "auto", {"a": [1]}),
        ("application/json", b"not json", "auto", "not json"),
        ("text/plain; charset=latin-1", "grün".encode("latin-1"), "auto", "grün"),
        ("image/png", b"\x89PNG", "auto", "iVBORw=="),
        ("text/plain", b'{"a": 1}', "json", {"a": 1}),
        ("application/json", b"[1]", "text", "[1]"),
        ("text/plain", b"abc", "base64", "YWJj"),
        ("text/plain", b"a\x00b", "auto", "a\ufffdb"),
        ("text/plain", b"abc", "none", None),
        ("", b"", "auto", ""),
    ],
)
def test_a_body_is_captured_as_asked(web: Site, content_type: str, body: bytes, capture: str, captured: Any) -> None:
    web.replies["/x"] = lambda _: Reply(headers={"Content-Type": content_type}, body=body)
    assert call(f"{web.url}/x", capture=capture)["body"] == captured


def test_a_body_that_is_not_the_json_asked_for_is_a_business_error(web: Site) -> None:
    for body in (b"<html>", b"NaN", b"[" * 100_000):
        web.replies["/x"] = lambda _, body=body: Reply(body=body)  # type: ignore[misc]
        with pytest.raises(BusinessError, match="not JSON") as error:
            call(f"{web.url}/x", capture="json")
        assert error.value.name == "HttpBody"


def test_an_answer_larger_than_the_limit_is_refused_before_it_is_taken_in(web: Site) -> None:
    web.replies["/x"] = lambda _: Reply(body=b"x" * 1001)
    with pytest.raises(BusinessError, match="more than 1,000 bytes") as error:
        call(f"{web.url}/x", max_bytes=1000)
    assert error.value.name == "ResponseTooLarge"
    assert len(call(f"{web.url}/x", max_bytes=1001)["body"]) == 1001


def test_gzip_is_unpacked_and_a_bomb_is_not(web: Site) -> None:
    packed = {"Content-Encoding": "gzip"}
    web.replies["/two"] = lambda _: Reply(headers=packed, body=gzip.compress(b"a" * 99_999) + gzip.compress(b"bc"))
    bomb = gzip.compress(b"\0" * 50_000_000)
    web.replies["/bomb"] = lambda _: Reply(headers=packed, body=bomb)
    web.replies["/cut"] = lambda _: Reply(headers=packed, body=gzip.compress(b"abc")[:-9])
    web.replies["/br"] = lambda _: Reply(headers={"Content-Encoding": "br"}, body=b"x")
    assert call(f"{web.url}/two")["body"] == "a" * 99_999 + "bc"
    tracemalloc.start()
    with pytest.raises(BusinessError, match="more than"):
        call(f"{web.url}/bomb")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    with pytest.raises(TransientError, match="before its gzip"):
        call(f"{web.url}/cut")
    with pytest.raises(BusinessError, match="encoded as br"):
        call(f"{web.url}/br")


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 304])
def test_an_unexpected_status_that_would_come_again_is_a_business_error(web: Site, status: int) -> None:
    web.replies["/x"] = lambda _: Reply(status=status, body=b"" if status == 304 else b"card  declined")
    with pytest.raises(BusinessError, match=f"GET {web.url}/x: answered {status}") as error:
        call(f"{web.url}/x?token=hidden")
    assert error.value.name == "HttpStatus"
    assert "hidden" not in str(error.value)
    assert status == 304 or "card declined" in str(error.value)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_transient(web: Site, status: int) -> None:
    web.replies["/x"] = lambda _: Reply(status=status)
    with pytest.raises(TransientError, match=f"answered {status}") as error:
        call(f"{web.url}/x")
    assert error.value.retry_after is None


def test_expected_statuses_may_be_any(web: Site) -> None:
    assert call(f"{web.url}/missing", expect=["2xx", 404])["status"] == 404
    with pytest.raises(BusinessError, match="answered 200"):
        call(f"{web.url}/echo", expect="204")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Fri, 20 Nov 2026 10:00:30 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"Retry-After": "Fri, 20 Nov 2026 09:00:00 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"Retry-After": "999999999"}, 86_400.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
    ],
)
def test_retry_after_is_told_in_seconds(web: Site, status: int, headers: dict[str, str], seconds: float | None) -> None:
    # The server's own Date comes first; a second one is added behind it.
    assert http_exchange.retry_after(httpx.Headers(headers)) == seconds
    web.replies["/x"] = lambda _: Reply(status=status, headers={"Retry-After": "7"})
    with pytest.raises(TransientError) as error:
        call(f"{web.url}/x")
    assert error.value.retry_after == 7.0
    assert pickle.loads(pickle.dumps(error.value)).retry_after == 7.0


def test_a_server_that_is_not_there_is_transient() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError, match="connection failed") as error:
            call(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert error.value.name == "HttpConnection"


@contextlib.contextmanager
def speaking(say: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that speaks no proper HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                say(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(10)


def test_a_server_that_sends_a_byte_now_and_then_does_not_outlast_the_timeout() -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    with speaking(trickle) as url:
        begun = time.monotonic()
        with pytest.raises(TransientError, match=r"within 0\.4 s") as error:
            call(url, timeout=0.4)
        assert 0.3 < time.monotonic() - begun < 3
    assert error.value.name == "HttpTimeout"


@pytest.mark.parametrize("said", [b"", b"SMTP ready\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_server_that_breaks_off_or_speaks_something_else_is_transient(said: bytes) -> None:
    with speaking(lambda connection: connection.sendall(said)) as url, pytest.raises(TransientError):
        call(url)


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.0.0.9", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
        "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "fec0::1", "100::1",
    ],
)  # fmt: skip
def test_no_private_or_special_address_is_allowed_by_itself(address: str) -> None:
    assert not net.is_allowed(address, ())
    with pytest.raises(BusinessError, match="no public address") as error:
        net.checked("host", 80, (), lambda *_: [PUBLIC, address])
    assert error.value.name == "AddressRefused"


@pytest.mark.parametrize("address", [PUBLIC, "2606:4700::6810:1", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert net.checked("host", 80, (), lambda *_: [address]) == [address]


def test_a_network_is_allowed_for_its_addresses_only_however_they_are_written() -> None:
    allow = net.networks(["10.1.0.0/16"])
    assert net.is_allowed("10.1.2.3", allow)
    assert net.is_allowed("::ffff:10.1.2.3", allow)
    assert not net.is_allowed("10.2.0.1", allow)
    with pytest.raises(ConfigurationError, match="not a network"):
        net.networks(["10.1.0.0/33"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"])
def test_loopback_is_refused_however_it_is_written(web: Site, host: str) -> None:
    with pytest.raises(BusinessError, match="ORCHESTRATOR_HTTP_ALLOW_NETWORKS"):
        call(f"http://{host}:{web.port}/echo", ctx=context(allow=()))
    assert web.seen == []


def test_without_connectors_nothing_private_is_reached(web: Site) -> None:
    bare = StepContext(
        tenant="a", execution_id="e", definition="d", version=1, path="p", attempt=1, idempotency_key="k"
    )
    with pytest.raises(BusinessError, match="no public address"):
        call(f"{web.url}/echo", ctx=bare)


def test_a_name_that_answers_otherwise_the_second_time_is_asked_only_once(web: Site) -> None:
    """Rebinding: the address that was judged is the one that is connected to."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    answer = exchange(f"http://rebinding.test:{web.port}/echo", rebinding, networks=net.networks(["127.0.0.1"]))
    assert (answer.status, asked) == (200, ["rebinding.test"])
    assert web.seen[0].headers["host"] == f"rebinding.test:{web.port}"
    with pytest.raises(BusinessError, match=r"127\.0\.0\.2, which is no public address"):
        exchange(f"http://rebinding.test:{web.port}/echo", rebinding, networks=net.networks(["127.0.0.1"]))
    assert len(web.seen) == 1


def test_the_next_address_of_a_name_is_tried_when_one_does_not_answer(web: Site) -> None:
    found = exchange(
        f"http://two.test:{web.port}/echo", lambda *_: ["127.0.0.9", "127.0.0.1"], networks=net.networks(LOOPBACK)
    )
    assert found.status == 200


def test_a_redirect_to_a_private_address_is_refused(web: Site) -> None:
    with site() as inside:
        inside.replies["/secret"] = lambda _: Reply(body=b"secret")
        web.replies["/go"] = lambda _: Reply(
            status=302, headers={"Location": f"http://inside.test:{inside.port}/secret"}
        )
        names = {"127.0.0.1": ["127.0.0.1"], "inside.test": ["127.0.0.2"]}
        with pytest.raises(BusinessError, match=r"inside\.test leads to 127\.0\.0\.2"):
            exchange(f"{web.url}/go", lambda host, _: names[host], networks=net.networks(["127.0.0.1"]))
        assert inside.seen == []


def test_what_a_connectors_own_service_may_reach_its_redirects_may_not(web: Site) -> None:
    with site() as inside:
        inside.replies["/secret"] = lambda _: Reply(body=b"secret")
        web.replies["/go"] = lambda _: Reply(status=307, headers={"Location": f"{inside.url}/secret"})
        web.replies["/home"] = lambda _: Reply(status=307, headers={"Location": "/echo"})
        ctx = context({"own": {"kind": "http", "base_url": web.url, "allow_networks": list(LOOPBACK)}}, allow=())
        assert call("/home", ctx=ctx, connector="own")["url"] == f"{web.url}/echo"
        with pytest.raises(BusinessError, match="no public address"):
            call("/go", ctx=ctx, connector="own")
        assert inside.seen == []


# --- redirects ------------------------------------------------------------------------------------------------------


def test_secrets_stay_behind_where_a_redirect_leaves_the_origin(web: Site) -> None:
    with site() as other:
        other.replies["/echo"] = lambda _: Reply()
        web.replies["/far"] = lambda _: Reply(status=307, headers={"Location": f"{other.url}/echo"})
        web.replies["/near"] = lambda _: Reply(status=307, headers={"Location": "/echo"})
        service = {"kind": "http", "base_url": web.url, "bearer": {"env": "TOKEN"}}
        service["headers"] = {"X-Api-Key": {"env": "TOKEN"}}
        options: dict[str, Any] = {"method": "POST", "json": [1], "headers": {"X-Mine": "1", "Cookie": "c=1"}}
        call("/near", ctx=context({"own": service}), connector="own", **options)
        call("/far", ctx=context({"own": service}), connector="own", **options)
        for near in web.seen:
            assert near.headers["authorization"] == "Bearer tok-0123456789"
            assert near.headers["x-api-key"] == "tok-0123456789"
            assert near.headers["x-mine"] == "1"
        (far,) = other.seen
        assert not {"authorization", "x-api-key", "x-mine", "cookie"} & set(far.headers)
        assert (far.method, far.body, far.headers["idempotency-key"]) == ("POST", b"[1]", "0190/charge")


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_a_redirect_keeps_or_turns_the_method_as_its_status_says(web: Site, status: int, method: str) -> None:
    web.replies["/go"] = lambda _: Reply(status=status, headers={"Location": "/echo"})
    call(f"{web.url}/go", method="POST", body="x")
    assert (web.seen[1].method, web.seen[1].body) == (method, b"x" if method == "POST" else b"")


def test_redirects_end_and_may_be_declined(web: Site) -> None:
    web.replies["/loop"] = lambda _: Reply(status=302, headers={"Location": "/loop"})
    web.replies["/file"] = lambda _: Reply(status=302, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(BusinessError, match="more than 10 times"):
        call(f"{web.url}/loop")
    with pytest.raises(BusinessError, match="scheme 'file'"):
        call(f"{web.url}/file")
    declined = call(f"{web.url}/loop", follow_redirects=False, expect=302)
    assert (declined["status"], declined["headers"]["location"]) == (302, "/loop")


# --- connectors and TLS ---------------------------------------------------------------------------------------------


def test_a_url_is_taken_below_the_connectors_base_and_its_headers_win(web: Site) -> None:
    web.replies["/v1/orders"] = lambda _: Reply()
    service = {"kind": "http", "base_url": f"{web.url}/v1/", "bearer": {"env": "TOKEN"}, "headers": {"X-Version": "3"}}
    ctx = context({"shop": service})
    for url in ("/orders", "orders", "orders?a=1", f"{web.url}/v1/orders"):
        call(url, ctx=ctx, connector="shop", headers={"Authorization": "Bearer other", "x-version": "4"})
    assert {seen.path for seen in web.seen} == {"/v1/orders", "/v1/orders?a=1"}
    assert {(seen.headers["authorization"], seen.headers["x-version"]) for seen in web.seen} == {
        ("Bearer tok-0123456789", "3")
    }


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/",
        "//evil.test/",
        "/../admin",
        "/a/%2e%2e/admin",
        "/%252e%252e/x",
        "\\evil",
        "{base}x/v1",
        "mailto:x",
    ],
)
def test_a_url_that_leaves_the_connectors_base_is_refused(web: Site, url: str) -> None:
    ctx = context({"shop": {"kind": "http", "base_url": f"{web.url}/v1", "bearer": {"env": "TOKEN"}}})
    with pytest.raises(InvalidInput, match="base_url"):
        call(url.format(base=f"{web.url}/v1"), ctx=ctx, connector="shop")
    assert web.seen == []


def test_a_user_name_in_a_path_does_not_become_a_host(web: Site) -> None:
    ctx = context({"shop": {"kind": "http", "base_url": web.url, "bearer": {"env": "TOKEN"}}})
    call("@evil.test/x", ctx=ctx, connector="shop", expect=404)
    assert web.seen[0].path == "/@evil.test/x"


def test_certificates_are_checked_against_the_name_though_the_address_is_connected_to(trusted: Authority) -> None:
    with site(trusted.server) as secure:
        secure.replies["/"] = lambda _: Reply(body=b"safe")
        options: dict[str, Any] = {"networks": net.networks(LOOPBACK), "ca_file": trusted.file}
        answer = exchange(f"https://service.test:{secure.port}/", lambda *_: ["127.0.0.1"], **options)
        assert answer.content == b"safe"
        with pytest.raises(TransientError, match="Hostname mismatch"):
            exchange(f"https://evil.test:{secure.port}/", lambda *_: ["127.0.0.1"], **options)
        with pytest.raises(TransientError, match="certificate verify failed"):
            call(f"https://localhost:{secure.port}/")


def test_a_connector_of_another_kind_and_one_that_is_missing_are_told() -> None:
    ctx = context({"mail": {"kind": "smtp", "host": "h", "sender": "a@b.c"}})
    with pytest.raises(ConfigurationError, match="is of kind smtp"):
        call("/x", ctx=ctx, connector="mail")
    with pytest.raises(ConfigurationError, match='did you mean "mail"'):
        call("/x", ctx=ctx, connector="mial")
