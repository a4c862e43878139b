"""Secrets in the ledger, from the command line to a worker's request, and nowhere in the clear."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from app_support import Place, place
from outside import LOOPBACK, Reply, Site, site
from pydantic import SecretStr
from sqlalchemy import Engine, text

from orchestrator import ExecutionFailed, Orchestrator
from orchestrator.activities.connectors.kinds import HttpConnector
from orchestrator.cli import call
from orchestrator.embedded import Servers
from orchestrator.errors import ConfigurationError
from orchestrator.ledger import secrets
from orchestrator.ledger.database import connect

SECRET = "tok-&-0123456789"
SOON = 30.0
#: `ask` returns what the service answers; `refused` fails with it; `busy` is told to come later; `leak` is careless.
WORKFLOWS = """
import logging
from orchestrator import RetryPolicy, StepContext, activity, step, workflow
@activity
def careless(ctx: StepContext) -> None:
    header = ctx.connector("shop").secret_headers()["Authorization"]
    logging.getLogger("shop").warning("sending %s", header, extra={"header": header})
    raise ValueError(f"could not send {header}")
def ask(path):
    return {"url": path, "connector": "shop", "method": "POST", "json": {"item": "{{ input.item }}"}}
once = RetryPolicy(max_attempts=1)
ask_shop = workflow("ask-shop", step("ask", "http_request", input=ask("/echo"), retry=once))
refused = workflow("refused", step("ask", "http_request", input=ask("/refuse"), retry=once))
busy = workflow("busy", step("ask", "http_request", input=ask("/busy"), retry=RetryPolicy(max_attempts=2, backoff=0)))
leak = workflow("leak", step("leak", careless, retry=once))
"""


def keys(*texts: str) -> secrets.Keys:
    return secrets.Keys([SecretStr(each) for each in texts])


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as running:
        plain = {"Content-Type": "text/plain"}
        running.replies["/echo"] = lambda seen: Reply(headers=plain, body=json.dumps(dict(seen.headers)).encode())
        running.replies["/refuse"] = lambda seen: Reply(status=403, body=seen.headers["authorization"].encode())
        running.replies["/busy"] = lambda seen: _busy_once(running, seen.headers["idempotency-key"])
        yield running


def _busy_once(web: Site, key: str) -> Reply:
    tries = [seen for seen in web.seen if seen.path == "/busy" and seen.headers["idempotency-key"] == key]
    return Reply(status=503, headers={"Retry-After": "2"}) if len(tries) == 1 else Reply(body=b"thanks")


@pytest.fixture(scope="module")
def home(servers: Servers, web: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A migrated database and the settings of a shop whose token is in the ledger."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "secret_workflows.py").write_text(WORKFLOWS)
    (folder / "secret_app.py").write_text("from orchestrator import Orchestrator\napp = Orchestrator().app\n")
    (folder / "connectors.yaml").write_text(
        f"shop: {{kind: http, base_url: {web.url}, bearer: {{secret: SHOP_TOKEN}}}}\n"
    )
    settings = {
        "ORCHESTRATOR_SECRET_KEYS": secrets.new_key(),
        "ORCHESTRATOR_CONNECTORS": str(folder / "connectors.yaml"),
        "ORCHESTRATOR_HTTP_ALLOW_NETWORKS": ",".join(LOOPBACK),
        "ORCHESTRATOR_MODULES": "secret_workflows",
    }
    with place(servers, folder, "secrets", number=14, env=settings) as found:
        found.env["PYTHONPATH"] = str(folder)
        yield found


@pytest.fixture(name="ledger")
def _ledger(home: Place) -> Iterator[Engine]:
    engine = connect(home.database_url, pool_size=2, lock_timeout=10)
    yield engine
    engine.dispose()


@pytest.fixture
def cli(home: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command line with this ledger's settings; code, standard output, standard error."""
    for name, value in home.env.items():
        if name.startswith("ORCHESTRATOR_"):
            monkeypatch.setenv(name, value)

    def carry_out(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = call(arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    return carry_out


def everything(engine: Engine) -> str:
    """Every row of every table of the ledger, as text."""
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'orchestrator'")).scalars()
        return "\n".join(
            str(row)
            for table in tables.all()
            for row in connection.execute(text(f'SELECT to_jsonb(t)::text FROM orchestrator."{table}" t')).scalars()
        )


def test_a_secret_is_kept_encrypted_read_by_its_name_and_replaced(ledger: Engine) -> None:
    usable = keys(secrets.new_key())
    with ledger.connect() as connection:
        assert secrets.put(connection, usable, "acme", "A", SECRET)
        assert not secrets.put(connection, usable, "acme", "A", SECRET + "2")
        assert secrets.get(connection, usable, "acme", "A") == SECRET + "2"
        assert secrets.get(connection, usable, "other", "A") is None
        assert [row["name"] for row in secrets.listed(connection, "acme")] == ["A"]
        assert secrets.listed(connection, "other") == []
        assert SECRET not in everything(ledger)
        assert secrets.remove(connection, "acme", "A")
        assert not secrets.remove(connection, "acme", "A")
        with pytest.raises(ConfigurationError, match="cannot be a secret's name"):
            secrets.put(connection, usable, "acme", "a b", SECRET)


def test_rotation_leaves_the_new_key_alone_enough(ledger: Engine) -> None:
    old, new = secrets.new_key(), secrets.new_key()
    with ledger.connect() as connection:
        secrets.put(connection, keys(old), "rotating", "A", "one-secret")
        secrets.put(connection, keys(new, old), "rotating", "B", "two-secret")
        with pytest.raises(ConfigurationError, match="encrypted with none of ORCHESTRATOR_SECRET_KEYS"):
            secrets.get(connection, keys(new), "rotating", "A")
        assert secrets.get(connection, keys(new, old), "rotating", "A") == "one-secret"
        assert secrets.rotate(connection, keys(new, old), "rotating") == 2
        found = [secrets.get(connection, keys(new), "rotating", name) for name in ("A", "B")]
    assert found == ["one-secret", "two-secret"]


def test_a_row_that_was_given_anothers_token_is_refused(ledger: Engine) -> None:
    usable = keys(secrets.new_key())
    with ledger.connect() as connection:
        secrets.put(connection, usable, "swap", "A", "one-secret")
        secrets.put(connection, usable, "swap", "B", "two-secret")
        connection.execute(
            text(
                "UPDATE orchestrator.secret SET token = (SELECT token FROM orchestrator.secret "
                "WHERE tenant = 'swap' AND name = 'A') WHERE tenant = 'swap' AND name = 'B'"
            )
        )
        with pytest.raises(ConfigurationError, match="the token of another"):
            secrets.get(connection, usable, "swap", "B")


@pytest.mark.parametrize(("given", "told"), [((), "secrets key"), (("no-key-at-all",), "key 1 of")])
def test_keys_that_are_missing_or_none_are_told_and_not_shown(given: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        keys(*given)
    assert "no-key-at-all" not in str(refused.value)


def test_the_command_line_keeps_lists_and_removes_secrets_without_ever_showing_one(cli: Any) -> None:
    outputs = [
        cli("secrets", "set", "CLI_TOKEN", stdin=f"{SECRET}\n"),
        cli("secrets", "set", "CLI_TOKEN", stdin=SECRET),
        cli("secrets", "list"),
        cli("secrets", "list", "--json"),
        cli("secrets", "rotate"),
        cli("secrets", "remove", "CLI_TOKEN"),
    ]
    assert [code for code, _, _ in outputs] == [0] * len(outputs)
    assert [outputs[0][1].split(";")[0], outputs[1][1].split(";")[0]] == ["CLI_TOKEN is set", "CLI_TOKEN is replaced"]
    assert "CLI_TOKEN" in outputs[2][1]
    assert [row["name"] for row in json.loads(outputs[3][1])] == ["CLI_TOKEN"]
    assert not [each for each in outputs if SECRET in each[1] + each[2]]
    code, _, told = cli("secrets", "remove", "CLI_TOKEN")
    assert (code, "there is no secret CLI_TOKEN" in told) == (1, True)
    code, _, told = cli("secrets", "set", "CLI_TOKEN", stdin="abc\n")
    assert (code, "fewer than 4" in told, "abc" in told) == (1, True, False)


def test_the_command_line_makes_keys_that_work(cli: Any) -> None:
    code, key, _ = cli("secrets", "key")
    assert code == 0
    assert keys(key.strip()).decrypt("t", "n", keys(key.strip()).encrypt("t", "n", "v")) == "v"


def test_the_command_line_lists_connectors_and_checks_one(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(cli("connectors", "list", "--json")[1]) == [{"name": "shop", "kind": "http"}]
    code, out, _ = cli("connectors", "check", "shop", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)
    assert "orchestrator secrets set SHOP_TOKEN" in json.loads(out)["message"]
    cli("secrets", "set", "SHOP_TOKEN", stdin=SECRET)
    code, out, _ = cli("connectors", "check", "shop")
    assert (code, "takes connections" in out) == (0, True)
    cli("secrets", "remove", "SHOP_TOKEN")
    monkeypatch.setenv("ORCHESTRATOR_CONNECTORS", json.dumps({"db": {"kind": "postgresql", "url": {"env": "DB"}}}))
    monkeypatch.setenv("DB", "postgresql://nobody:very-secret@127.0.0.1:1/x")
    code, _, told = cli("connectors", "check", "db")
    assert (code, "very-secret" in told) == (1, False)


def test_databases_and_caches_are_checked_by_a_login(cli: Any, home: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"db": {"kind": "postgresql", "url": {"env": "DB"}}, "cache": {"kind": "redis", "url": {"env": "CACHE"}}}
    monkeypatch.setenv("ORCHESTRATOR_CONNECTORS", json.dumps(given))
    monkeypatch.setenv("DB", home.database_url.replace("+psycopg", ""))
    monkeypatch.setenv("CACHE", home.redis_url)
    code, out, err = cli("connectors", "check", "db")
    assert (code, "accepts the login to secrets" in out) == (0, True), err
    code, out, err = cli("connectors", "check", "cache")
    assert (code, "answers PING" in out) == (0, True), err


def test_a_step_that_holds_its_connection_still_gets_its_secret(home: Place, ledger: Engine) -> None:
    key = secrets.new_key()
    with ledger.connect() as connection:
        secrets.put(connection, keys(key), "default", "POOL", SECRET)
    shop = {"kind": "http", "base_url": "https://shop.test", "bearer": {"secret": "POOL"}}
    made = Orchestrator(
        database_url=home.database_url, broker_url=home.broker_url, pool_size=1, secret_keys=key, connectors={"s": shop}
    )
    with made.worker.steps.connect():
        found = made.connectors.get("s")
    made.worker.forget_connections()
    assert isinstance(found, HttpConnector)
    assert found.secret_headers() == {"Authorization": f"Bearer {SECRET}"}


def test_a_worker_uses_a_secret_and_neither_ledger_nor_log_ever_shows_it(
    cli: Any, home: Place, web: Site, ledger: Engine
) -> None:
    cli("secrets", "set", "SHOP_TOKEN", stdin=SECRET)
    home.worker("secret_app")
    home.beat("secret_app")
    made = Orchestrator(database_url=home.database_url, broker_url=home.broker_url, modules=())
    # The service sends our own headers back: in a result the secret is masked too.
    answer = made.start("ask-shop", {"item": "tea"}).result(timeout=SOON)
    assert json.loads(answer["body"])["authorization"] == "Bearer ***"
    assert web.seen[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert json.loads(web.seen[-1].body) == {"item": "tea"}
    for name, told in (("refused", "answered 403: Bearer ***"), ("leak", "could not send Bearer ***")):
        with pytest.raises(ExecutionFailed) as failed:
            made.start(name, {"item": "tea"}).result(timeout=SOON)
        assert told in str(failed.value)
    made.core.database.dispose()
    log = home.processes.log_tail("worker", 1000)
    assert "sending Bearer ***" in log
    assert SECRET not in log + home.processes.log_tail("beat", 1000) + everything(ledger)


def test_a_service_that_asks_to_be_left_alone_is_asked_again_no_sooner_and_under_the_same_key(
    cli: Any, home: Place, web: Site, ledger: Engine
) -> None:
    made = Orchestrator(database_url=home.database_url, broker_url=home.broker_url, modules=())
    handle = made.start("busy", {"item": "tea"})
    assert handle.result(timeout=SOON)["body"] == "thanks"
    made.core.database.dispose()
    first, second = [seen for seen in web.seen if seen.path == "/busy"]
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == f"{handle.id}/ask"
    with ledger.connect() as connection:
        waited = connection.execute(
            text(
                "SELECT extract(epoch FROM max(at) - min(at)) FROM orchestrator.event "
                "WHERE execution_id = :id AND type IN ('step_started', 'step_retrying') AND path = 'ask'"
            ),
            {"id": handle.id},
        ).scalar_one()
    assert waited >= 2
