"""A migrated database for each module of tests, watched by triggers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

from ledger.clients import Client
from ledger.driver import Ledger
from ledger.proxy import Proxy
from orchestrator.application import own_app
from orchestrator.config import Settings
from orchestrator.dispatch.publish import Publisher
from orchestrator.engine.core import Core
from orchestrator.ledger import database
from orchestrator.ledger.migrate import migrate
from orchestrator.model.state import EXECUTION_TRANSITIONS, STEP_TRANSITIONS

TEMPLATE = "ledger_template"

#: Whatever a test does, a status that model/state.py does not let follow is refused.
WATCH = """
CREATE FUNCTION public.only_lawful() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status AND NOT jsonb_exists(CAST(TG_ARGV[0] AS jsonb) -> OLD.status, NEW.status) THEN
        RAISE EXCEPTION USING MESSAGE = concat_ws(' ', 'unlawful', TG_TABLE_NAME, OLD.status, '->', NEW.status);
    END IF;
    IF (CAST(to_jsonb(NEW) ->> 'attempt' AS int)) < (CAST(to_jsonb(OLD) ->> 'attempt' AS int)) THEN
        RAISE EXCEPTION 'an attempt number went back';
    END IF;
    RETURN NULL;
END $$
"""


def _watch(connection: Connection) -> None:
    connection.exec_driver_sql(WATCH)
    for table, transitions in (("step", STEP_TRANSITIONS), ("execution", EXECUTION_TRANSITIONS)):
        connection.exec_driver_sql(
            f"CREATE TRIGGER lawful_{table} AFTER UPDATE ON orchestrator.{table} FOR EACH ROW "
            f"EXECUTE FUNCTION public.only_lawful('{_as_json(transitions)}')"
        )


def _as_json(transitions: Any) -> str:
    table: dict[StrEnum, frozenset[StrEnum]] = transitions
    return json.dumps({before: sorted(after) for before, after in table.items()})


Administer = Callable[[str], None]


@pytest.fixture(scope="session")
def administer(database_url: str) -> Administer:
    """Creates and drops databases, each time on a connection of its own: other tests restart the server."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def carry_out(statement: str) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    return carry_out


@pytest.fixture(scope="session")
def ledger_template(administer: Administer, database_url: str) -> Iterator[str]:
    """The name of a migrated and watched database that nobody is connected to."""
    administer(f"CREATE DATABASE {TEMPLATE}")
    engine = database.connect(_url(database_url, TEMPLATE), pool_size=1, lock_timeout=10)
    migrate(engine)
    with engine.connect() as connection:
        _watch(connection)
    engine.dispose()
    yield TEMPLATE
    administer(f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest.fixture(scope="module")
def ledger_url(
    request: pytest.FixtureRequest, administer: Administer, ledger_template: str, database_url: str
) -> Iterator[str]:
    """The URL of this module's own migrated database."""
    name = request.module.__name__.rpartition(".")[2]
    administer(f"CREATE DATABASE {name} TEMPLATE {ledger_template}")
    yield _url(database_url, name)
    administer(f"DROP DATABASE {name} WITH (FORCE)")


def _url(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """This module's own ledger."""
    engine = database.connect(f"{ledger_url}?options=-c deadlock_timeout=50ms", pool_size=16, lock_timeout=10)
    yield Ledger(engine)
    engine.dispose()


@pytest.fixture
def proxy(ledger_url: str) -> Iterator[Proxy]:
    """A way to the database that loses what it is told to lose."""
    with Proxy(ledger_url) as running:
        yield running


@pytest.fixture
def client(broker_url: str, ledger: Ledger) -> Iterator[Callable[[Engine], Client]]:
    """Makes application code on an engine; what it publishes goes where no worker consumes."""
    settings = Settings.model_validate({"broker_url": broker_url, "default_queue": "unconsumed"})
    app = own_app(settings)
    yield lambda engine: Client(Core(settings, engine, Publisher(app)))
    app.close()


@pytest.fixture
def distant(proxy: Proxy, client: Callable[[Engine], Client]) -> Iterator[Client]:
    """Application code whose connections go by way of the proxy."""
    engine = database.connect(proxy.url, pool_size=2, lock_timeout=10)
    # A new connection has a transaction of its own at first, which is not to be struck.
    engine.connect().close()
    yield client(engine)
    engine.dispose()
