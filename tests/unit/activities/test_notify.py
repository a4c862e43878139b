"""The ready-made activity `notify`, against a mail server and a web server of this process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from outside import LOOPBACK, Authority, PostOffice, Reply, Site, authority, post_office, site

from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import registry
from orchestrator.errors import BusinessError, ConfigurationError, InvalidInput, TransientError

VALUES = {"PASSWORD": "pass-0123456789", "TOKEN": "tok-0123456789"}


@pytest.fixture(name="trusted", scope="module")
def _trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(name="office")
def _office(trusted: Authority) -> Iterator[PostOffice]:
    with post_office(trusted.server) as running:
        yield running


@pytest.fixture(name="gateway")
def _gateway() -> Iterator[Site]:
    with site() as running:
        running.replies["/send"] = lambda _: Reply(headers={"Content-Type": "application/json"}, body=b'{"id": "m1"}')
        yield running


def smtp(office: PostOffice, **settings: Any) -> dict[str, Any]:
    return {"kind": "smtp", "host": "localhost", "port": office.port, "sender": "Shop <shop@shop.test>", **settings}


def notify(connector: dict[str, Any], *, key: str = "0190/tell", **params: Any) -> dict[str, Any]:
    """Bound like a worker binds it."""
    values = {**VALUES, **({"HOOK": params.pop("hook")} if "hook" in params else {})}
    context = StepContext(
        tenant="acme",
        execution_id="0190",
        definition="order",
        version=1,
        path="tell",
        attempt=1,
        idempotency_key=key,
        connectors=Connectors({"it": connector}, environment=values.get, allow_networks=LOOPBACK),
    )
    activity = registry.get("notify")
    answer: dict[str, Any] = activity.function(**activity.bind({"connector": "it", "text": "hello", **params}, context))
    json.dumps(answer)
    return answer


# --- e-mail ---------------------------------------------------------------------------------------------------------


def test_an_e_mail_is_encrypted_logged_in_for_and_says_what_was_asked(office: PostOffice, trusted: Authority) -> None:
    server = smtp(office, username="me", password={"env": "PASSWORD"}, ca_file=trusted.file)
    answer = notify(
        server,
        to=["Ada <ada@a.test>", "bob@b.test"],
        cc=["cy@c.test"],
        bcc=["dan@d.test"],
        subject="Grüße",
        text="tea\n.\nmore",
        html="<b>tea</b>",
        reply_to="desk@shop.test",
    )
    (letter,) = office.letters
    assert letter.encrypted
    assert office.logins == [("me", VALUES["PASSWORD"])]
    assert letter.sender == "shop@shop.test"
    assert letter.recipients == ["ada@a.test", "bob@b.test", "cy@c.test", "dan@d.test"]
    mail = letter.message
    assert (mail["Subject"], mail["From"], mail["Reply-To"]) == ("Grüße", "Shop <shop@shop.test>", "desk@shop.test")
    assert mail["To"] == "Ada <ada@a.test>, bob@b.test"
    assert "dan@d.test" not in mail.as_string()
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().splitlines() == ["tea", ".", "more"]
    assert "<b>tea</b>" in rich.get_content()
    assert answer == {"message_id": mail["Message-ID"], "accepted": letter.recipients, "refused": {}}


def test_every_attempt_at_a_step_sends_the_same_message_id_and_another_step_another(office: PostOffice) -> None:
    server = smtp(office, tls="none")
    ids = [notify(server, to="a@a.test", key=key)["message_id"] for key in ("one", "one", "two")]
    assert ids[0] == ids[1] != ids[2]
    assert [letter.message["Message-ID"] for letter in office.letters] == ids
    assert ids[0].endswith("@shop.test>")


def test_a_server_that_encrypts_from_the_first_byte_is_spoken_to_so(trusted: Authority) -> None:
    """The connection arrives encrypted, or the server's first words would be no answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        shaken: list[bool] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with trusted.server.wrap_socket(connection, server_side=True) as secured:
                shaken.append(secured.version() is not None)
                secured.sendall(b"421 later\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        server = {"kind": "smtp", "host": "localhost", "port": listener.getsockname()[1], "sender": "a@b.c"}
        with pytest.raises(TransientError, match="421 later"):
            notify(server | {"tls": "tls", "ca_file": trusted.file}, to="a@a.test")
        thread.join(5)
    assert shaken == [True]


def test_a_server_with_a_certificate_of_nobody_we_trust_gets_neither_login_nor_mail(office: PostOffice) -> None:
    server = smtp(office, username="me", password={"env": "PASSWORD"})
    with pytest.raises(TransientError, match="certificate verify failed"):
        notify(server, to="a@a.test")
    assert (office.logins, office.letters) == ([], [])


def test_a_server_without_encryption_gets_nothing_when_it_is_wanted() -> None:
    with post_office() as plain, pytest.raises(ConfigurationError, match="STARTTLS"):
        notify(smtp(plain), to="a@a.test")
    assert plain.letters == []


@pytest.mark.parametrize(
    ("at", "answer", "error"),
    [
        ("AUTH", "535 no such user", ConfigurationError),
        ("AUTH", "454 later", TransientError),
        ("MAIL", "550 not from here", BusinessError),
        ("MAIL", "451 later", TransientError),
        ("a@a.test", "550 unknown", BusinessError),
        ("a@a.test", "450 mailbox busy", TransientError),
    ],
)
def test_the_servers_no_is_final_and_its_later_is_not(
    office: PostOffice, trusted: Authority, at: str, answer: str, error: type[Exception]
) -> None:
    office.answers[at] = answer
    server = smtp(office, username="me", password={"env": "PASSWORD"}, ca_file=trusted.file)
    with pytest.raises(error, match=answer) as failed:
        notify(server, to="a@a.test")
    assert VALUES["PASSWORD"] not in str(failed.value)
    assert office.letters == []


def test_recipients_that_are_refused_among_others_are_told_in_the_result(office: PostOffice) -> None:
    office.answers["bob@b.test"] = "550 unknown"
    answer = notify(smtp(office, tls="none"), to=["a@a.test", "bob@b.test"])
    assert (answer["accepted"], answer["refused"]) == (["a@a.test"], {"bob@b.test": "550 unknown"})


@pytest.mark.parametrize(
    "params",
    [
        {"to": "nobody"},
        {"to": []},
        {},
        {"to": "a@a.test\r\nBcc: x@x.test"},
        {"to": "a@a.test, b@b.test <c@c.test>\n"},
        {"to": "a@a.test", "subject": "x\r\nBcc: x@x.test"},
        {"to": "a@a.test", "reply_to": "x\nBcc: x@x.test"},
        {"to": ["a@a.test"] * 101},
    ],
)
def test_addresses_and_headers_that_are_none_are_refused_before_anything_is_sent(
    office: PostOffice, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        notify(smtp(office, tls="none"), **params)
    assert office.letters == []


def test_a_mail_server_that_is_not_there_is_transient() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = {"kind": "smtp", "host": "127.0.0.1", "port": unused.getsockname()[1], "sender": "a@b.c"}
        with pytest.raises(TransientError, match="no connection with 127"):
            notify(server, to="a@a.test")


# --- SMS and chat ---------------------------------------------------------------------------------------------------


def test_an_sms_fills_the_gateways_body_once_and_carries_key_and_login(gateway: Site) -> None:
    service: dict[str, Any] = {
        "kind": "sms",
        "base_url": f"{gateway.url}/send",
        "sender": "Shop",
        "basic": {"username": "me", "password": {"env": "PASSWORD"}},
        "body": {"messages": [{"to": "{to}", "from": "{sender}", "text": "{text}"}], "ref": "{key}", "n": 1},
    }
    answer = notify(service, to="+4912345", text="your {to} is {0.__class__}")
    assert answer == {"status": 200, "body": {"id": "m1"}}
    (seen,) = gateway.seen
    assert json.loads(seen.body) == {
        "messages": [{"to": "+4912345", "from": "Shop", "text": "your {to} is {0.__class__}"}],
        "ref": "0190/tell",
        "n": 1,
    }
    assert (seen.method, seen.headers["idempotency-key"]) == ("POST", "0190/tell")
    assert seen.headers["authorization"].startswith("Basic ")


def test_an_sms_gateway_may_want_a_form(gateway: Site) -> None:
    service = {
        "kind": "sms",
        "base_url": f"{gateway.url}/send",
        "encoding": "form",
        "body": {"To": "{to}", "B": "{text}"},
    }
    notify(service, to="+49 1", subject="Tea", text="a&b")
    (seen,) = gateway.seen
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(seen.body.decode()) == {"To": ["+49 1"], "B": ["Tea\na&b"]}


def test_a_chat_gets_its_text_in_its_own_field_and_its_channel(gateway: Site) -> None:
    service: dict[str, Any] = {
        "kind": "chat",
        "url": {"env": "HOOK"},
        "text_field": "content",
        "fields": {"user": "bot"},
    }
    notify(service, hook=f"{gateway.url}/send")
    notify(service | {"to_field": "channel"}, hook=f"{gateway.url}/send", to="#ops", subject="Alert")
    assert [json.loads(seen.body) for seen in gateway.seen] == [
        {"user": "bot", "content": "hello"},
        {"user": "bot", "content": "Alert\nhello", "channel": "#ops"},
    ]


def test_a_failing_gateway_is_told_without_its_secret_address(gateway: Site) -> None:
    path = "/hooks/T0123-B0123-very-secret"
    service = {"kind": "chat", "url": {"env": "HOOK"}}
    gateway.replies[path] = lambda seen: Reply(status=429, headers={"Retry-After": "9"}, body=seen.path.encode())
    with pytest.raises(TransientError, match='connector "it": answered 429') as busy:
        notify(service, hook=gateway.url + path)
    assert busy.value.retry_after == 9.0
    gateway.replies[path] = lambda _: Reply(status=302, headers={"Location": "/send"})
    with pytest.raises(BusinessError, match="answered 302") as moved:
        notify(service, hook=gateway.url + path)
    assert len(gateway.seen) == 2  # the message went nowhere else
    assert not [error for error in (busy, moved) if "very-secret" in str(error.value)]


def test_what_a_connector_cannot_do_is_refused(gateway: Site, tmp_path: Path) -> None:
    sms = {"kind": "sms", "base_url": f"{gateway.url}/send"}
    chat = {"kind": "chat", "url": {"env": "HOOK"}}
    for connector, params, told in (
        (sms, {}, "one recipient"),
        (sms, {"to": ["1", "2"]}, "one recipient"),
        (sms, {"to": "1", "html": "<b>"}, "sends no e-mail"),
        (chat, {"to": "#ops", "hook": f"{gateway.url}/send"}, "set to_field"),
    ):
        with pytest.raises(InvalidInput, match=told):
            notify(connector, **params)
    with pytest.raises(ConfigurationError, match="notify needs smtp, sms or chat"):
        notify({"kind": "redis", "url": "redis://x/0"})
    assert gateway.seen == []
