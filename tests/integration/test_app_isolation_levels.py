"""Database activities on real PostgreSQL: isolation levels, and effects on another database.

No worker runs: the guard is called as a worker calls it, by as many threads as a race needs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from ledger.driver import Begun, Ledger
from ledger.races import race
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import Registry
from orchestrator.activities.sql import once, sql
from orchestrator.errors import BusinessError, ConfigurationError, PayloadError
from orchestrator.ledger import claims, database
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.migrate import migrate
from orchestrator.model.outcome import Failure
from orchestrator.runtime import guard
from orchestrator.runtime.guard import Attempt, Ended
from orchestrator.runtime.link import Link

NAME = "app_isolation_levels"
LEVELS = ["read uncommitted", "read committed", "repeatable read", "serializable"]


@pytest.fixture(scope="module")
def url(database_url: str) -> Iterator[str]:
    admin = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {NAME}")
    yield make_url(database_url).set(database=NAME).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {NAME} WITH (FORCE)")
    admin.dispose()


@pytest.fixture(scope="module")
def ledger(url: str) -> Iterator[Ledger]:
    engine = database.connect(url, pool_size=24, lock_timeout=10)
    migrate(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE doctor (name text PRIMARY KEY, on_call boolean NOT NULL)")
        connection.exec_driver_sql("CREATE TABLE counter (name text PRIMARY KEY, value int NOT NULL)")
    yield Ledger(engine)
    engine.dispose()


@pytest.fixture
def doctors(ledger: Ledger) -> None:
    """Two are on call, and the hospital needs one."""
    ledger.sql("DELETE FROM doctor")
    ledger.sql("INSERT INTO doctor VALUES ('ada', true), ('ben', true)")


def on_call(ledger: Ledger) -> int:
    return int(ledger.sql("SELECT count(*) FROM doctor WHERE on_call")[0][0])


class Hospital:
    """Doctors who go home if another stays. At their first call, both look before either goes."""

    def __init__(self, isolation: str | None) -> None:
        self.calls: Counter[str] = Counter()
        self.levels: set[str] = set()
        self._both_have_looked = threading.Barrier(2)
        self.registry = Registry()

        def leave(ctx: StepContext, name: str) -> str:
            return self.leave(ctx, name)

        self.registry.register(leave, name="do", transactional=True, isolation=isolation)

    def leave(self, ctx: StepContext, name: str) -> str:
        self.calls[name] += 1
        self.levels.add(ctx.connection.execute(text("SHOW transaction_isolation")).scalar_one())
        present = ctx.connection.execute(text("SELECT count(*) FROM doctor WHERE on_call")).scalar_one()
        if self.calls[name] == 1:
            self._both_have_looked.wait(10)
        if present < 2:
            return "stays"
        ctx.connection.execute(text("UPDATE doctor SET on_call = false WHERE name = :name"), {"name": name})
        return "left"


def attempt_of(held: Claim, **parameters: Any) -> Attempt:
    context = StepContext(
        tenant="default",
        execution_id=held.execution_id,
        definition="test",
        version=1,
        path=held.path,
        attempt=held.attempt,
        idempotency_key=f"{held.execution_id}:{held.path}",
    )
    return Attempt(
        held=held,
        activity="do",
        parameters=lambda: parameters,
        context=context,
        timeout=30,
        within=lambda _: nullcontext(),
        limit=10_000,
    )


def perform(ledger: Ledger, registry: Registry, held: Claim, **parameters: Any) -> Ended:
    """An attempt as a worker makes it, settled as the last step of its execution."""
    link = Link(ledger.engine, ledger.engine)

    def settle(connection: Connection, output: str) -> Settled | None:
        return claims.settle_and_finish(connection, held, output, result=output)

    try:
        return guard.perform(attempt_of(held, **parameters), registry, link, settle)
    finally:
        link.close()


def begin(ledger: Ledger) -> tuple[Begun, Claim]:
    begun = ledger.start({"do": ()})
    return begun, ledger.claim(begun, "do")


def go_home(ledger: Ledger, hospital: Hospital) -> list[Begun]:
    """Both at the same time, each in an execution of its own."""
    begun = {name: begin(ledger) for name in ("ada", "ben")}

    def leaving(name: str) -> Callable[[], Ended]:
        return lambda: perform(ledger, hospital.registry, begun[name][1], name=name)

    ended = race([leaving("ada"), leaving("ben")])
    assert all(isinstance(each, Settled) for each in ended), ended
    return [found for found, _ in begun.values()]


@pytest.mark.usefixtures("doctors")
def test_serializable_keeps_what_each_transaction_alone_would_keep_and_both_succeed(ledger: Ledger) -> None:
    hospital = Hospital("serializable")
    executions = go_home(ledger, hospital)
    assert on_call(ledger) == 1
    assert hospital.calls.total() == 3
    assert [ledger.status(each) for each in executions] == ["succeeded"] * 2
    assert sorted(ledger.step(each, "do").output for each in executions) == ["left", "stays"]


@pytest.mark.usefixtures("doctors")
@pytest.mark.parametrize("isolation", [None, "read uncommitted", "READ COMMITTED", "repeatable_read"])
def test_weaker_levels_let_two_transactions_together_break_what_each_alone_keeps(
    ledger: Ledger, isolation: str | None
) -> None:
    hospital = Hospital(isolation)
    executions = go_home(ledger, hospital)
    assert on_call(ledger) == 0
    assert hospital.calls.total() == 2
    assert [ledger.status(each) for each in executions] == ["succeeded"] * 2
    assert hospital.levels == {(isolation or "read committed").lower().replace("_", " ")}


@pytest.mark.usefixtures("doctors")
@pytest.mark.parametrize(("isolation", "seen"), list(zip(LEVELS, [[2, 1], [2, 1], [2, 2], [2, 2]], strict=True)))
def test_from_repeatable_read_on_a_transaction_sees_one_moment(ledger: Ledger, isolation: str, seen: list[int]) -> None:
    registry = Registry()

    def look_twice(ctx: StepContext) -> list[int]:
        count = text("SELECT count(*) FROM doctor WHERE on_call")
        first = ctx.connection.execute(count).scalar_one()
        ledger.sql("UPDATE doctor SET on_call = false WHERE name = 'ada'")
        return [first, ctx.connection.execute(count).scalar_one()]

    registry.register(look_twice, name="do", transactional=True, isolation=isolation)
    begun, held = begin(ledger)
    assert isinstance(perform(ledger, registry, held), Settled)
    assert ledger.step(begun, "do").output == seen


@pytest.mark.usefixtures("doctors")
@pytest.mark.parametrize("isolation", LEVELS)
def test_the_effect_goes_with_the_record_at_every_level(ledger: Ledger, isolation: str) -> None:
    registry = Registry()

    def refuse(ctx: StepContext) -> None:
        ctx.connection.execute(text("DELETE FROM doctor"))
        raise BusinessError("they are needed")

    registry.register(refuse, name="do", transactional=True, isolation=isolation)
    ended = perform(ledger, registry, begin(ledger)[1])
    assert isinstance(ended, Failure)
    assert ended.category == "business"
    assert on_call(ledger) == 2


@pytest.mark.usefixtures("doctors")
@pytest.mark.parametrize("isolation", LEVELS)
def test_a_claim_lost_on_the_way_is_told_from_a_serialization_failure(ledger: Ledger, isolation: str) -> None:
    registry, calls = Registry(), []
    begun, held = begin(ledger)

    def lose_the_claim(ctx: StepContext) -> None:
        calls.append(ctx.attempt)
        ctx.connection.execute(text("DELETE FROM doctor"))
        ledger.sql(
            "UPDATE orchestrator.step SET status = 'ready', owner = NULL, due_at = NULL, "
            "ready_xid = pg_current_xact_id() WHERE execution_id = :e",
            e=begun.id,
        )

    registry.register(lose_the_claim, name="do", transactional=True, isolation=isolation)
    assert perform(ledger, registry, held) is None
    assert calls == [1]
    assert on_call(ledger) == 2
    assert ledger.step(begun, "do").status == "ready"


@pytest.mark.parametrize("isolation", LEVELS)
def test_a_halt_on_the_way_costs_at_most_another_call(ledger: Ledger, isolation: str) -> None:
    registry, calls = Registry(), []
    begun, held = begin(ledger)

    def be_halted(ctx: StepContext) -> int:
        ctx.connection.execute(text("SELECT count(*) FROM doctor"))
        calls.append(ctx.attempt)
        if len(calls) == 1:
            ledger.sql("UPDATE orchestrator.step SET halt = true WHERE execution_id = :e", e=begun.id)
        return len(calls)

    registry.register(be_halted, name="do", transactional=True, isolation=isolation)
    ended = perform(ledger, registry, held)
    assert isinstance(ended, Settled)
    assert ended.halted
    assert len(calls) == (2 if isolation in {"repeatable read", "serializable"} else 1)


def test_a_serialization_failure_is_retried_even_if_the_activity_wraps_it(ledger: Ledger) -> None:
    registry, calls = Registry(), []

    def wrap(ctx: StepContext) -> int:
        calls.append(ctx.attempt)
        if len(calls) < 3:
            try:
                ctx.connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
            except DBAPIError as error:
                raise RuntimeError("the books are shut") from error
        return len(calls)

    registry.register(wrap, name="do", transactional=True, isolation="serializable")
    assert isinstance(perform(ledger, registry, begin(ledger)[1]), Settled)
    assert len(calls) == 3


@pytest.mark.parametrize("rows", [1, 6], ids=["one hot row", "a row each"])
def test_the_ledgers_own_settles_do_not_starve_serializable_activities(ledger: Ledger, rows: int) -> None:
    ledger.sql("DELETE FROM counter")
    ledger.sql("INSERT INTO counter SELECT CAST(n AS text), 0 FROM generate_series(0, :rows - 1) n", rows=rows)
    registry = Registry()

    def add(ctx: StepContext, name: str) -> None:
        value = ctx.connection.execute(text("SELECT value FROM counter WHERE name = :n"), {"n": name}).scalar_one()
        ctx.connection.execute(text("UPDATE counter SET value = :v WHERE name = :n"), {"v": value + 1, "n": name})

    registry.register(add, name="do", transactional=True, isolation="serializable")

    def many(name: str) -> Callable[[], list[Ended]]:
        held = [begin(ledger)[1] for _ in range(6)]
        return lambda: [perform(ledger, registry, each, name=name) for each in held]

    ended = [each for found in race([many(str(number % rows)) for number in range(6)]) for each in found]
    assert [each for each in ended if not isinstance(each, Settled)] == []
    assert ledger.sql("SELECT sum(value) FROM counter")[0][0] == 36


# --- another database, by a connector


@pytest.fixture
def ctx(url: str, ledger: Ledger) -> StepContext:
    """A step whose connector `shop` is a database; the ledger plays no part in it."""
    ledger.sql("DROP TABLE IF EXISTS orchestrator_effect, sale")
    ledger.sql("CREATE TABLE sale (id int GENERATED ALWAYS AS IDENTITY, item text, price numeric, facts jsonb)")
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    given = {
        "shop": {"kind": "postgresql", "url": {"env": "SHOP"}},
        "web": {"kind": "http", "base_url": "https://example.com"},
    }
    begun = ledger.start({"do": ()})
    return StepContext(
        tenant="default",
        execution_id=begun.id,
        definition="test",
        version=1,
        path="do",
        attempt=1,
        idempotency_key=f"{begun.id}:do",
        connectors=Connectors(given, environment={"SHOP": plain}.get),
    )


SELL = "INSERT INTO sale (item, price) VALUES (:item, :price) RETURNING id, item, price"


def sales(ledger: Ledger) -> int:
    return int(ledger.sql("SELECT count(*) FROM sale")[0][0])


def another(ctx: StepContext, key: str) -> StepContext:
    """Another step, with a key of its own."""
    return replace(ctx, idempotency_key=key)


def test_another_attempt_gets_the_recorded_result_and_sells_nothing_twice(ledger: Ledger, ctx: StepContext) -> None:
    first = sql(ctx, "shop", SELL, {"item": "tea", "price": 3})
    assert first == [{"id": 1, "item": "tea", "price": "3"}]
    assert sql(ctx, "shop", SELL, {"item": "tea", "price": 3}) == first
    assert sales(ledger) == 1
    sql(another(ctx, "other"), "shop", SELL, {"item": "tea", "price": 3})
    assert sales(ledger) == 2


@pytest.mark.parametrize("round_", range(10))
def test_attempts_at_the_same_time_create_the_table_once_and_have_one_effect_and_one_result(
    ledger: Ledger, ctx: StepContext, round_: int
) -> None:
    def sell() -> Any:
        return sql(ctx, "shop", SELL, {"item": "tea", "price": 3}, isolation="serializable")

    results = race([sell] * 5)
    assert sales(ledger) == 1
    assert all(each == results[0] for each in results)


def test_a_failed_statement_leaves_no_record_behind(ledger: Ledger, ctx: StepContext) -> None:
    with pytest.raises(DBAPIError, match="division by zero"):
        sql(ctx, "shop", "INSERT INTO sale (price) VALUES (1 / :zero)", {"zero": 0}, fetch="none")
    assert sql(ctx, "shop", SELL, {"item": "tea", "price": 3}, fetch="one")["item"] == "tea"
    assert sales(ledger) == 1


def test_parameters_are_bound_and_never_part_of_the_statement(ledger: Ledger, ctx: StepContext) -> None:
    evil = "'); DROP TABLE sale; --"
    assert sql(ctx, "shop", SELL, {"item": evil, "price": 1}, fetch="one")["item"] == evil
    found = sql(
        another(ctx, "typed"),
        "shop",
        "SELECT CAST(:facts AS jsonb) -> 'a' AS a, :many = ANY(CAST(:list AS int[])) AS among, "
        "CAST(:none AS text) AS n",
        {"facts": {"a": [1]}, "many": 2, "list": [1, 2], "none": None},
    )
    assert found == [{"a": [1], "among": True, "n": None}]
    assert sales(ledger) == 1


def test_rows_one_row_or_their_number(ctx: StepContext) -> None:
    some = "SELECT n FROM generate_series(1, :top) n"
    assert sql(ctx, "shop", some, {"top": 2}, exactly_once=False) == [{"n": 1}, {"n": 2}]
    assert sql(ctx, "shop", some, {"top": 2}, fetch="one", exactly_once=False) == {"n": 1}
    assert sql(ctx, "shop", some, {"top": 0}, fetch="one", exactly_once=False) is None
    assert sql(ctx, "shop", "INSERT INTO sale (item) VALUES ('a'), ('b')", fetch="none", exactly_once=False) == 2
    with pytest.raises(ConfigurationError, match="add RETURNING, or say fetch: none"):
        sql(ctx, "shop", "INSERT INTO sale (item) VALUES ('a')")
    with pytest.raises(PayloadError, match="more than 3 rows"):
        sql(ctx, "shop", some, {"top": 4}, max_rows=3)


def test_statements_that_only_read_leave_no_table_behind(ledger: Ledger, ctx: StepContext) -> None:
    sql(ctx, "shop", "SELECT 1 AS one", exactly_once=False)
    assert ledger.sql("SELECT to_regclass('orchestrator_effect')")[0][0] is None


@pytest.mark.parametrize("ending", ["COMMIT", "COMMIT AND CHAIN", "ROLLBACK", "ROLLBACK AND CHAIN"])
def test_a_statement_may_not_end_its_transaction(ctx: StepContext, ending: str) -> None:
    with pytest.raises(ConfigurationError, match="ended its own transaction"):
        sql(ctx, "shop", ending, fetch="none")


@pytest.mark.parametrize("exactly_once", [False, True])
def test_several_statements_in_one_are_refused(ledger: Ledger, ctx: StepContext, exactly_once: bool) -> None:
    with pytest.raises(DBAPIError, match="cannot insert multiple commands"):
        sql(ctx, "shop", "INSERT INTO sale (item) VALUES ('a'); COMMIT", fetch="none", exactly_once=exactly_once)
    assert sales(ledger) == 0


def test_connectors_of_another_kind_or_name_are_refused(ctx: StepContext) -> None:
    with pytest.raises(ConfigurationError, match="of kind http; sql needs one of kind postgresql"):
        sql(ctx, "web", "SELECT 1")
    with pytest.raises(ConfigurationError, match="shopp"):
        sql(ctx, "shopp", "SELECT 1")


@pytest.mark.usefixtures("doctors")
@pytest.mark.parametrize(("isolation", "remaining"), [("read committed", 0), ("serializable", 1)])
def test_activities_of_ones_own_have_effects_there_once_at_a_chosen_level(
    ledger: Ledger, ctx: StepContext, isolation: Any, remaining: int
) -> None:
    both_have_looked, calls = threading.Barrier(2), Counter[str]()
    connector: Any = ctx.connector("shop")
    once(connector, "warm", lambda connection: None)

    def leaving(name: str) -> Callable[[], Any]:
        def leave(connection: Connection) -> str:
            calls[name] += 1
            present = connection.execute(text("SELECT count(*) FROM doctor WHERE on_call")).scalar_one()
            if calls[name] == 1:
                both_have_looked.wait(10)
            if present < 2:
                return "stays"
            connection.execute(text("UPDATE doctor SET on_call = false WHERE name = :n"), {"n": name})
            return "left"

        return lambda: once(connector, name, leave, isolation=isolation)

    race([leaving("ada"), leaving("ben")])
    assert on_call(ledger) == remaining
