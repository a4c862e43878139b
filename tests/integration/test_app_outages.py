"""What application code meets when a server is away, or not ready."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from app_support import Place, place
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from orchestrator import Orchestrator
from orchestrator.embedded import Broker, Postgres, Servers
from orchestrator.errors import DatabaseUnavailable, SchemaNotMigrated
from orchestrator.ledger.database import connect
from orchestrator.ledger.migrate import migrate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Servers that gave up root must get through."""
    made = tmp_path_factory.mktemp("outages")
    for parent in (made, *made.parents[:2]):
        parent.chmod(0o711)
    return made


@pytest.fixture(scope="module")
def home(servers: Servers, folder: Path) -> Iterator[Place]:
    with place(servers, folder, "app_outages", number=10) as found:
        yield found


def test_a_database_that_is_away_is_named_with_the_remedy_and_is_used_when_it_is_back(
    home: Place, folder: Path
) -> None:
    with Postgres(folder / "postgres") as postgres:
        ledger = connect(postgres.url, pool_size=1, lock_timeout=10)
        migrate(ledger)
        ledger.dispose()
        orchestrator = Orchestrator(database_url=postgres.url, broker_url=home.broker_url, modules=("app_workflows",))
        handle = orchestrator.start("app-echo", 1, idempotency_key="k")
        postgres.stop()
        begun = monotonic()
        with pytest.raises(
            DatabaseUnavailable, match=rf"127\.0\.0\.1:{postgres.port}/.*ORCHESTRATOR_DATABASE_URL and that the server"
        ) as refusal:
            orchestrator.start("app-echo", 1)
        assert monotonic() - begun < 10
        assert postgres.password not in str(refusal.value)
        postgres.start()
        assert orchestrator.start("app-echo", 1, idempotency_key="k").id == handle.id
        orchestrator.core.database.dispose()


def test_a_database_without_the_schema_says_how_to_get_it(servers: Servers, home: Place) -> None:
    url = make_url(servers.database_url).set(database="postgres").render_as_string(hide_password=False)
    empty = Orchestrator(database_url=url, broker_url=home.broker_url, modules=("app_workflows",))
    with pytest.raises(SchemaNotMigrated, match="orchestrator migrate"):
        empty.start("app-echo", 1)
    empty.core.database.dispose()
    # The ledger is well, but the caller's transaction is in another database.
    well = Orchestrator(database_url=home.database_url, broker_url=home.broker_url, modules=("app_workflows",))
    elsewhere = create_engine(url)
    with Session(elsewhere) as session, pytest.raises(SchemaNotMigrated):
        well.start("app-echo", 1, session=session)
    elsewhere.dispose()
    well.core.database.dispose()


def test_a_start_without_a_broker_is_durable_warned_of_once_and_carried_out_when_the_broker_is_back(
    home: Place, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker(folder / "broker") as broker:
        env = home.env | {"ORCHESTRATOR_BROKER_URL": broker.url}
        away = replace(home, broker_url=broker.url, env=env)
        away.beat("app_workflows")
        away.worker("app_workflows")
        orchestrator = Orchestrator(database_url=home.database_url, broker_url=broker.url, modules=("app_workflows",))
        assert orchestrator.start("app-echo", "before").result(timeout=20) == "before"
        broker.stop()
        for _ in range(2):  # over a connection that has just broken, and over none
            caplog.clear()
            begun = monotonic()
            with caplog.at_level(logging.WARNING):
                handle = orchestrator.start("app-echo", "after")
            assert monotonic() - begun < 2
            assert [record.message for record in caplog.records] == [
                "broker did not take messages; sweeps publish them when it is back"
            ]
        broker.start()
        assert handle.result(timeout=60) == "after"
        orchestrator.core.database.dispose()
