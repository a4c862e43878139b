"""The ledger through a pooler in transaction mode: nothing that a session would have to remember, and nothing left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from nodes.site import STARTED, Site
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from orchestrator import Orchestrator
from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.context import StepContext
from orchestrator.activities.sql import sql
from orchestrator.embedded import Servers
from orchestrator.errors import IdempotencyKeyHeld
from orchestrator.ledger import database
from orchestrator.ledger.migrate import migrate

pytest_plugins = ("nodes.fixtures",)

#: More transactions than the pooler has sessions, which it gives in turn.
ALL = 30


@pytest.fixture
def empty(servers: Servers) -> Iterator[Engine]:
    """A database of its own, through the pooler."""
    name = f"pooled_{uuid4().hex[:12]}"
    admin = create_engine(servers.database_url, isolation_level="AUTOCOMMIT", connect_args={"prepare_threshold": None})
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    url = make_url(servers.database_url).set(database=name).render_as_string(hide_password=False)
    engine = database.connect(url, pool_size=4, lock_timeout=10, pooler=True)
    yield engine
    engine.dispose()


def left_behind(engine: Engine) -> set[tuple[str, int]]:
    """The lock timeout, and the number of prepared statements, of the sessions that the pooler has."""
    found = set()
    asked = text("SELECT current_setting('lock_timeout'), (SELECT count(*) FROM pg_prepared_statements)")
    for _ in range(ALL):
        with engine.connect() as connection:
            found.add(tuple(connection.execute(asked).one()))
    return found


def test_migrations_at_once_make_one_and_leave_no_lock_in_a_session(empty: Engine) -> None:
    with ThreadPoolExecutor(3) as pool:
        revisions = {future.result(60) for future in [pool.submit(migrate, empty) for _ in range(3)]}
    assert len(revisions) == 1
    with empty.connect() as connection:
        held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert connection.execute(held).scalar_one() == 0
    assert {migrate(empty)} == revisions


def test_what_the_page_says_of_the_role_is_then_so_in_every_session(empty: Engine, servers: Servers) -> None:
    page = (Path(__file__).parents[2] / "docs/brokers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    admin = create_engine(servers.database_url, isolation_level="AUTOCOMMIT", connect_args={"prepare_threshold": None})
    with admin.connect() as connection:
        for statement in block.splitlines():
            said = statement.replace("orchestrator", "{}").format(empty.url.username, empty.url.database)
            connection.exec_driver_sql(said)
    admin.dispose()
    asked = text("SELECT current_setting('lock_timeout'), current_setting('timezone')")
    with empty.connect() as connection:
        assert tuple(connection.execute(asked).one()) == ("10s", "UTC")


def test_a_start_waits_for_a_key_no_longer_than_the_lock_timeout_and_leaves_no_setting(site: Site) -> None:
    impatient = Orchestrator(
        database_url=site.database_url, broker_url=site.broker_url, modules=STARTED, lock_timeout=0.3, pooler=True
    )
    with site._own.begin() as holder:
        first = site.start("quick", idempotency_key="held", session=holder)
        with pytest.raises(IdempotencyKeyHeld):
            impatient.start("quick", {}, idempotency_key="held")
        with pytest.raises(IdempotencyKeyHeld):
            impatient.start_many("quick", [("held", {})])
    assert impatient.start("quick", {}, idempotency_key="held").id == first.id
    assert left_behind(impatient.core.database) == {("0", 0)}
    impatient.core.database.dispose()
    impatient.app.close()


def test_statements_sent_again_and_again_are_not_prepared(site: Site) -> None:
    for number in range(ALL):
        assert site.start("quick", idempotency_key=f"again-{number % 10}").created == (number < 10)
    assert left_behind(site.orchestrator.core.database) == {("0", 0)}


def behind(servers: Servers, key: str) -> StepContext:
    """Of a step whose connector `pooled` is behind the pooler."""
    url = make_url(servers.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    given = {"pooled": {"kind": "postgresql", "url": {"env": "POOLED"}, "pooler": True}}
    return StepContext(
        tenant="default",
        execution_id=str(uuid4()),
        definition="test",
        version=1,
        path="pay",
        attempt=1,
        idempotency_key=key,
        timeout=30.0,
        connectors=Connectors(given, environment={"POOLED": url}.get),
    )


def test_sql_through_a_pooler_is_one_command_with_one_effect_and_leaves_nothing(
    servers: Servers, empty: Engine
) -> None:
    table = f"sale_{uuid4().hex[:8]}"
    sql(behind(servers, table), "pooled", f"CREATE TABLE {table} (item text)", fetch="none")
    insert = f"INSERT INTO {table} VALUES (:item) RETURNING item"
    for _ in range(ALL):
        assert sql(behind(servers, f"{table}-tea"), "pooled", insert, {"item": "tea"}) == [{"item": "tea"}]
    plain = f"INSERT INTO {table} VALUES ('100%') RETURNING item"
    assert sql(behind(servers, f"{table}-plain"), "pooled", plain) == [{"item": "100%"}]
    with pytest.raises(DBAPIError, match="cannot insert multiple commands"):
        sql(behind(servers, f"{table}-two"), "pooled", f"DELETE FROM {table}; COMMIT", fetch="none")
    assert sql(behind(servers, "look"), "pooled", f"SELECT count(*) AS n FROM {table}", exactly_once=False) == [
        {"n": 2}
    ]
    assert left_behind(empty) == {("0", 0)}
