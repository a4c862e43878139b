"""Connectors: what they accept, how their secrets are resolved, and that these are never written down."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from outside import LOOPBACK, authority, post_office, site

from orchestrator import redaction
from orchestrator.activities import builtin
from orchestrator.activities.connectors.check import check
from orchestrator.activities.connectors.kinds import (
    ChatConnector,
    HttpConnector,
    PostgresqlConnector,
    RedisConnector,
    SmsConnector,
    SmtpConnector,
)
from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import registry
from orchestrator.config import load
from orchestrator.errors import ConfigurationError, Unavailable
from orchestrator.telemetry import JsonFormatter

SECRET = "s3cr3t-&-quoted/"
KINDS: dict[str, dict[str, Any]] = {
    "shop": {"kind": "http", "base_url": "https://shop.test/v1", "bearer": {"env": "A"}, "headers": {"X-V": "1"}},
    "mail": {
        "kind": "smtp",
        "host": "mail.test",
        "username": "me",
        "password": {"secret": "A"},
        "sender": "Shop <shop@shop.test>",
    },
    "books": {"kind": "postgresql", "host": "db.test", "database": "books", "username": "me", "password": {"env": "A"}},
    "cache": {"kind": "redis", "url": "redis://cache.test/0"},
    "team": {"kind": "chat", "url": {"env": "HOOK"}},
    "phones": {
        "kind": "sms",
        "base_url": "https://sms.test/send",
        "basic": {"username": "me", "password": {"env": "A"}},
    },
}
VALUES = {"A": SECRET, "HOOK": "https://chat.test/hooks/T000-B000-XXXX"}


def connectors(given: Any, **options: Any) -> Connectors:
    return Connectors(given, environment=VALUES.get, **options)


def refusal(given: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        connectors({"it": given})
    told = str(refused.value)
    assert told.startswith('connector "it": ')
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None  # pydantic's own error would show what was given
    return told


def test_each_kind_is_typed_and_its_secrets_come_from_the_environment_and_the_ledger() -> None:
    found = connectors(KINDS, secret=VALUES.get)
    assert found.kinds == {name: given["kind"] for name, given in KINDS.items()}
    types = [HttpConnector, SmtpConnector, PostgresqlConnector, RedisConnector, ChatConnector, SmsConnector]
    got = {name: found.get(name) for name in KINDS}
    assert [type(each) for each in got.values()] == types
    shop, mail, books, team = got["shop"], got["mail"], got["books"], got["team"]
    assert isinstance(shop, HttpConnector)
    assert shop.secret_headers() == {"X-V": "1", "Authorization": f"Bearer {SECRET}"}
    assert isinstance(mail, SmtpConnector)
    assert (mail.server_port, mail.password and mail.password.get_secret_value()) == (587, SECRET)
    assert isinstance(books, PostgresqlConnector)
    assert books.conninfo().get_secret_value() == (
        f"host=db.test dbname=books user=me password={SECRET} connect_timeout=10"
    )
    assert isinstance(team, ChatConnector)
    assert team.url.get_secret_value() == VALUES["HOOK"]


@pytest.mark.parametrize("name", KINDS)
def test_no_way_of_showing_a_connector_shows_its_secrets(name: str) -> None:
    found = connectors(KINDS, secret=VALUES.get).get(name)
    shown = [repr(found), str(found), repr(found.model_dump()), found.model_dump_json(), f"{found:}"]
    assert not [text for text in shown for value in VALUES.values() if value in text]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (KINDS["shop"] | {"bearer": "plain-text-token"}, "bearer: is a secret and is not written here"),
        (KINDS["shop"] | {"headers": {"X-Api-Key": "plain-text-token"}}, "headers: X-Api-Key is a secret"),
        (KINDS["shop"] | {"bearer": {"file": "plain-text-token"}}, "bearer: is a secret"),
        (KINDS["shop"] | {"bearer": ["plain-text-token"]}, "bearer: is a secret"),
        (KINDS["shop"] | {"basic": {"username": "me", "password": {"env": "A"}}}, "both bearer and basic"),
        (KINDS["shop"] | {"base_url": "https://me:plain-text-token@shop.test"}, "base_url: "),
        (KINDS["shop"] | {"allow_networks": ["10.0.0.0/40"]}, "not a network"),
        (KINDS["shop"] | {"token": "plain-text-token"}, "token: there is no such setting"),
        (KINDS["cache"] | {"url": "redis://:plain-text-token@cache.test/0"}, "url: is a secret"),
        (KINDS["books"] | {"url": "postgresql://me:plain-text-token@db.test/b", "host": None}, "url: is a secret"),
        (KINDS["books"] | {"url": "postgresql://db.test/b"}, "either url or host"),
        (KINDS["mail"] | {"tls": "none"}, "in the clear"),
        (KINDS["mail"] | {"username": None}, "both username and password"),
        (KINDS["mail"] | {"sender": "a@b\r\nBcc: x@y"}, "sender: "),
        (KINDS["team"] | {"url": "https://chat.test/plain-text-token"}, "url: is a secret"),
        ({"kind": "ftp"}, "kind: must be one of http, smtp, postgresql, redis, chat, sms"),
        ({}, "kind: must be one of"),
        ("plain-text-token", ""),
    ],
)
def test_what_is_wrong_is_told_at_once_by_connector_and_field_and_shows_no_value(given: Any, told: str) -> None:
    message = refusal(given)
    assert told in message
    assert "plain-text-token" not in message


def test_connectors_are_read_from_a_file_or_from_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "connectors.yaml"
    file.write_text("cache:\n  kind: redis\n  url: redis://cache.test/0\n")
    for given in (str(file), '{"cache": {"kind": "redis", "url": "redis://cache.test/0"}}'):
        monkeypatch.setenv("ORCHESTRATOR_CONNECTORS", given)
        assert Connectors(load().connectors).kinds == {"cache": "redis"}
    assert Connectors(load(connectors={"cache": KINDS["cache"]}).connectors).kinds == {"cache": "redis"}
    assert Connectors(None).kinds == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [("[1]", "must map names"), ("a: b: plain-text-token", "not YAML in line 1"), ("1x: {}", "'1x' cannot be")],
)
def test_a_file_that_is_no_connectors_is_told_with_its_path(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "connectors.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=told) as refused:
        Connectors(str(file))
    assert str(file) in str(refused.value)
    assert "plain-text-token" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="cannot read"):
        Connectors(str(tmp_path / "none.yaml"))


def test_settings_of_networks_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HTTP_ALLOW_NETWORKS", "10.1.0.0/16, fd00::/8")
    assert load().http_allow_networks == ("10.1.0.0/16", "fd00::/8")
    monkeypatch.setenv("ORCHESTRATOR_HTTP_ALLOW_NETWORKS", "10.1.0.1/16")
    with pytest.raises(ConfigurationError, match="HTTP_ALLOW_NETWORKS"):
        load()


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ({"env": "NONE"}, "the variable NONE is not set; set NONE for every worker"),
        ({"secret": "NONE"}, "the secret NONE is not set; `orchestrator secrets set NONE`"),
        ({"env": "SHORT"}, "fewer than 4 characters"),
        ({"env": "LINE"}, "bearer: has characters that a header cannot hold"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_with_the_connector_and_the_fix(reference: Any, told: str) -> None:
    values = {"SHORT": "abc", "LINE": "abcdefgh\n"}
    found = Connectors({"shop": KINDS["shop"] | {"bearer": reference}}, environment=values.get, secret=values.get)
    with pytest.raises(ConfigurationError, match='connector "shop"') as refused:
        found.get("shop")
    assert told in str(refused.value)
    assert "abc" not in str(refused.value)


def test_without_a_ledger_its_secrets_cannot_be_had() -> None:
    with pytest.raises(ConfigurationError, match="kept in the ledger, and there is none here"):
        connectors(KINDS).get("mail")


def test_an_unknown_name_is_told_with_a_close_one_and_without_connectors_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match='did you mean "shop"'):
        connectors(KINDS).get("shp")
    bare = StepContext(
        tenant="a", execution_id="e", definition="d", version=1, path="p", attempt=1, idempotency_key="k"
    )
    with pytest.raises(ConfigurationError, match=r"StepContext\(connectors=Connectors"):
        bare.connector("shop")


def test_a_resolved_secret_is_kept_for_its_lifetime_and_then_asked_for_again() -> None:
    asked: list[str] = []

    def secret(name: str) -> str:
        asked.append(name)
        return f"value-{len(asked)}"

    def bearer(found: Connectors) -> str:
        shop = found.get("shop")
        assert isinstance(shop, HttpConnector)
        return shop.secret_headers()["Authorization"]

    given = {"shop": KINDS["shop"] | {"bearer": {"secret": "A"}}}
    kept = connectors(given, secret=secret)
    assert asked == []
    assert [bearer(kept), bearer(kept)] == ["Bearer value-1", "Bearer value-1"]
    fleeting = connectors(given, secret=secret, lifetime=0)
    assert [bearer(fleeting), bearer(fleeting)] == ["Bearer value-2", "Bearer value-3"]


def test_the_connectors_of_the_documentation_are_right() -> None:
    page = Path(__file__).resolve().parents[3] / "docs/connectors.md"
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    *definitions, shown = blocks
    kinds = Connectors(shown).kinds
    assert set(kinds.values()) == {"http", "chat", "sms", "smtp", "postgresql", "redis"}
    steps = [step for definition in definitions for step in definition["steps"]]
    assert len(steps) == 4
    assert {*builtin.__all__} <= {*registry.names}
    for step in steps:
        assert registry.get(step["activity"]).check(step["input"]) == []
        assert step["input"]["connector"] in kinds


# --- redaction ------------------------------------------------------------------------------------------------------


@pytest.fixture(name="logged")
def _logged() -> Iterator[Callable[[logging.Formatter], io.StringIO]]:
    """Gives a log of a logger of its own, in a format."""
    logger = logging.getLogger("test.redaction")
    before = logger.handlers[:]

    def attach(formatter: logging.Formatter) -> io.StringIO:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        return stream

    yield attach
    logger.handlers[:] = before


@pytest.mark.parametrize("formatter", [logging.Formatter("%(message)s %(detail)s"), JsonFormatter()])
def test_a_secret_once_resolved_is_masked_in_messages_fields_and_tracebacks_of_every_log(
    logged: Callable[[logging.Formatter], io.StringIO], formatter: logging.Formatter
) -> None:
    stream = logged(formatter)
    connectors(KINDS).get("shop")
    try:
        raise ValueError(f"inner {SECRET}")
    except ValueError:
        logging.getLogger("test.redaction").exception("sent %s", {"token": SECRET}, extra={"detail": [SECRET]})
    text = stream.getvalue()
    assert SECRET not in text
    assert text.count(redaction.MASK) == 3
    assert "Traceback" in text


def test_a_secret_is_masked_in_every_spelling() -> None:
    redaction.remember(SECRET)
    redaction.remember("postgresql://me:p%40ss-word@db.test/books")
    redaction.remember(VALUES["HOOK"])
    for text in (
        SECRET,
        json.dumps({"a": SECRET}),
        "https://x.test/?token=s3cr3t-%26-quoted%2F",
        "czNjcjN0LSYtcXVvdGVkLw==",
        "password=p@ss-word",
        "POST /hooks/T000-B000-XXXX HTTP/1.1",
    ):
        masked = redaction.redact(text)
        assert redaction.MASK in masked
        assert not [part for part in (SECRET, "%26-quoted", "czNjcjN0", "p@ss", "T000-B000") if part in masked]
    assert redaction.redact("nothing to hide") == "nothing to hide"


def test_in_json_strings_are_masked_and_what_is_not_a_string_stays() -> None:
    redaction.remember("12345678")
    redaction.remember("tiny")
    data = {"n": 12345678, "s": ["card 12345678"], "12345678": 1, "t": "tiny", "u": "grün"}
    masked = json.loads(redaction.redact_json(json.dumps(data)))
    assert masked == {"n": 12345678, "s": ["card ***"], "***": 1, "t": "tiny", "u": "grün"}
    untouched = '{"a": "b"}'
    assert redaction.redact_json(untouched) is untouched


# --- check ----------------------------------------------------------------------------------------------------------


def test_a_check_reaches_the_service_and_asks_it_for_nothing(tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    with site() as plain, site(trusted.server) as secure, post_office(trusted.server) as mail:
        given = {
            "plain": {"kind": "http", "base_url": plain.url, "allow_networks": list(LOOPBACK)},
            "secure": KINDS["phones"]
            | {"base_url": secure.url, "allow_networks": list(LOOPBACK), "ca_file": trusted.file},
            "mail": KINDS["mail"] | {"host": "localhost", "port": mail.port, "ca_file": trusted.file},
            "inside": {"kind": "http", "base_url": plain.url},
        }
        found = connectors(given, secret=VALUES.get)
        assert "without encryption" in check(found.get("plain"))
        assert "TLSv1.3" in check(found.get("secure"))
        assert "accepts the login" in check(found.get("mail"))
        assert mail.logins == [("me", SECRET)]
        assert [*mail.letters, *plain.seen, *secure.seen] == []
        with pytest.raises(Exception, match="no public address"):
            check(found.get("inside"))
    with pytest.raises(Unavailable):
        check(found.get("plain"))
