"""The ready-made activity `sql`, and transactions on a connector's own database whose effect happens once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Any, Literal

import psycopg
from psycopg.types.json import Jsonb
from pydantic import Field, SecretStr
from pydantic_core import to_json
from sqlalchemy import Connection, CursorResult, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, ResourceClosedError
from sqlalchemy.pool import NullPool

from orchestrator import clock
from orchestrator.activities.connectors.kinds import PostgresqlConnector
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import Isolation, activity
from orchestrator.errors import ConfigurationError, PayloadError, TransientError

Fetch = Literal["all", "one", "none"]

#: How often a transaction is begun anew after the database undid it for the sake of another.
RETRIES = 8

_UNDONE = frozenset({"40001", "40P01"})
#: Undefined table.
_NO_TABLE = "42P01"

#: In the other database, where its user creates it at the first need. One at a time: IF NOT EXISTS looks before it
#: creates, and of two at the same moment one may get any of three errors from the catalogue. The key is "orchestr".
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(8030590385584829554)")
_TABLE = text("""
CREATE TABLE IF NOT EXISTS orchestrator_effect (
    key text PRIMARY KEY,
    result jsonb,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
""")
#: Waits for another attempt that is at it: the unique key decides which of them has the effect.
_RESERVE = text("INSERT INTO orchestrator_effect (key) VALUES (:key) ON CONFLICT DO NOTHING")
_RECORDED = text("SELECT result, result IS NULL AS is_unknown FROM orchestrator_effect WHERE key = :key")
#: Only in the transaction that reserved the key: a statement that ended it would separate effect and record.
_RECORD = text("""
UPDATE orchestrator_effect SET result = CAST(:result AS jsonb)
WHERE key = :key AND CAST(xmin AS text) = CAST(CAST(pg_current_xact_id() AS xid) AS text)
""")
_ENDED = (
    "the statement ended its own transaction, so that its result is not recorded; remove COMMIT, ROLLBACK and whatever "
    "else ends a transaction"
)
_STATEMENT_TIMEOUT = text("SELECT set_config('statement_timeout', :limit, true)")


@activity(timeout=60.0, idempotent=lambda given: given.get("exactly_once", True) is True)
def sql(  # noqa: PLR0917 - all are given by name
    ctx: StepContext,
    connector: str,
    statement: str,
    parameters: dict[str, Any] | None = None,
    fetch: Fetch = "all",
    isolation: Isolation = "read committed",
    exactly_once: bool = True,
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000,
) -> Any:
    """Execute one statement on a connector's database, in a transaction of its own.

    Args:
        connector: the name of a connector of kind postgresql.
        statement: SQL, with `:name` where a parameter belongs. Parameters are always bound, never put into the text.
        parameters: their values; lists are PostgreSQL arrays, and objects jsonb.
        fetch: `all` gives the rows as a list of objects, `one` the first row or null, `none` the number of rows that
            were changed.
        isolation: the transaction's isolation level.
        exactly_once: record the step's key and the result in the same transaction, so that another attempt, after a
            reply was lost or a worker died, returns the recorded result instead of doing it again. False for
            statements that only read: it needs the table `orchestrator_effect` there, which is created at first.
        max_rows: more rows are an error.

    Raises:
        ConfigurationError: no such connector, or of another kind; the statement ends its transaction.
        PayloadError: too many rows, or a result that is not JSON.
        TransientError: the database undid the transaction for the sake of others too often.
    """

    database = _database(ctx, connector)

    def effect(connection: Connection) -> Any:
        if database.pooler:
            _refuse_several(connection, statement)
        result = connection.execute(text(statement), _bound(parameters or {}))
        return _fetched(result, fetch, max_rows)

    if exactly_once:
        return once(database, ctx.idempotency_key, effect, isolation=isolation, timeout=ctx.timeout)
    return _retried(lambda: _carry_out(database, effect, isolation, ctx.timeout))


def once(
    connector: PostgresqlConnector,
    key: str,
    effect: Callable[[Connection], Any],
    *,
    isolation: Isolation = "read committed",
    timeout: float | None = None,
) -> Any:
    """Do something in a connector's database exactly once for a key; for activities of your own, too.

    Effect, key and result commit together. Whoever comes later with the same key, or waited meanwhile, gets the
    recorded result.

    Args:
        key: usually the context's `idempotency_key`.
        effect: works through the connection that it gets, leaves commit and rollback alone, and returns JSON data. It
            may be called several times, of which one commits.
        timeout: seconds that one statement may take.

    Raises:
        ConfigurationError: the effect ended the transaction.
        TransientError: the database undid the transaction for the sake of others too often.
    """

    def reserve_and_do(connection: Connection) -> Any:
        if connection.execute(_RESERVE, {"key": key}).rowcount == 0:
            return _recorded(connection, key)
        result = to_json(effect(connection)).decode()
        if connection.execute(_RECORD, {"key": key, "result": result}).rowcount != 1:
            raise ConfigurationError(_ENDED)
        return _recorded(connection, key)

    def attempt() -> Any:
        try:
            return _carry_out(connector, reserve_and_do, isolation, timeout)
        except DBAPIError as error:
            if _sqlstate(error) != _NO_TABLE or "orchestrator_effect" not in str(error.orig):
                raise
        _create_table(connector)
        return _carry_out(connector, reserve_and_do, isolation, timeout)

    return _retried(attempt)


def _recorded(connection: Connection, key: str) -> Any:
    result, is_unknown = connection.execute(_RECORDED, {"key": key}).one()
    if is_unknown:
        raise ConfigurationError(_ENDED)
    return result


@contextmanager
def transaction(connector: PostgresqlConnector, isolation: Isolation = "read committed") -> Iterator[Connection]:
    """A connection to a connector's database inside one transaction: committed at the end, rolled back on any error."""
    engine = _engine(connector.conninfo(), connector.pooler)
    with engine.connect().execution_options(isolation_level=isolation.upper()) as connection, connection.begin():
        yield connection


def _database(ctx: StepContext, name: str) -> PostgresqlConnector:
    connector = ctx.connector(name)
    if not isinstance(connector, PostgresqlConnector):
        raise ConfigurationError(f'connector "{name}" is of kind {connector.kind}; sql needs one of kind postgresql')
    return connector


def _carry_out(
    connector: PostgresqlConnector, effect: Callable[[Connection], Any], isolation: Isolation, timeout: float | None
) -> Any:
    with transaction(connector, isolation) as connection:
        if timeout is not None:
            connection.execute(_STATEMENT_TIMEOUT, {"limit": f"{timeout * 1000:.0f}ms"})
        return effect(connection)


def _retried(attempt: Callable[[], Any]) -> Any:
    """The result of the first attempt that the database does not undo for the sake of another."""
    for retry in range(RETRIES):
        try:
            return attempt()
        except DBAPIError as error:
            if _sqlstate(error) not in _UNDONE:
                raise
            reason = str(error.orig).partition("\n")[0]
        clock.pause(0.01 * 2**retry * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
    raise TransientError(f"the database undid the transaction {RETRIES} times: {reason}", name="SerializationFailure")


def _create_table(connector: PostgresqlConnector) -> None:
    with transaction(connector) as connection:
        connection.execute(_ONE_AT_A_TIME)
        connection.execute(_TABLE)


@lru_cache(maxsize=32)
def _engine(conninfo: SecretStr, pooler: bool) -> Engine:
    """No pool: another database's connections are not ours to hold. Prepared statements are one command each; behind a
    pooler they would stay in a session that others get."""
    prepare_at = None if pooler else 0
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(conninfo.get_secret_value(), prepare_threshold=prepare_at),
        poolclass=NullPool,
    )


def _refuse_several(connection: Connection, statement: str) -> None:
    """Refuse what a named prepared statement would: several commands. One without a name leaves nothing behind, and
    with parameters every statement is one."""
    compiled = text(statement).compile(dialect=connection.dialect)
    raw = connection.connection.driver_connection
    if compiled.params or not isinstance(raw, psycopg.Connection):
        return
    parsed = raw.pgconn.prepare(b"", str(compiled).replace("%%", "%").encode())
    if parsed.status != psycopg.pq.ExecStatus.COMMAND_OK:
        error = psycopg.errors.error_from_result(parsed)
        raise DBAPIError.instance(statement, None, error, psycopg.Error, hide_parameters=True) from error


def _bound(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: Jsonb(value) if isinstance(value, dict) else value for name, value in parameters.items()}


def _fetched(result: CursorResult[Any], fetch: Fetch, max_rows: int) -> Any:
    if fetch == "none":
        return max(result.rowcount, 0)
    try:
        rows = result.mappings().fetchmany(max_rows + 1)
    except ResourceClosedError:
        raise ConfigurationError(
            f'the statement gives no rows to fetch; add RETURNING, or say fetch: none instead of "{fetch}"'
        ) from None
    if len(rows) > max_rows:
        raise PayloadError(f"the statement gives more than {max_rows:,} rows; narrow it, or raise max_rows")
    found = [dict(row) for row in rows]
    if fetch == "all":
        return found
    return found[0] if found else None


def _sqlstate(error: DBAPIError) -> str | None:
    return error.orig.sqlstate if isinstance(error.orig, psycopg.Error) else None
