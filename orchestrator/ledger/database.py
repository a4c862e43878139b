"""Connections to the ledger: engines, what counts as lost, and how statements survive it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as AllTaken

from orchestrator import clock
from orchestrator.errors import DatabaseUnavailable, SchemaNotMigrated
from orchestrator.ledger import fellows

R = TypeVar("R")

#: Deadlock and serialization failures: the server has undone everything, and every statement carries its guard.
RETRYABLE_SQLSTATES = frozenset({"40P01", "40001"})
#: Somebody's lock was not given up within the lock timeout; nothing was written.
LOCK_TIMEOUT = "55P03"
#: Nothing was written, but the same statement may be later: that, or somebody cancelled it.
NOT_NOW = frozenset({LOCK_TIMEOUT, "57014"})
#: The server takes no writes: it is a standby, or was made one under our connections by a failover.
READ_ONLY = "25006"
#: How the codes begin with which a server says that it cannot answer at all: the connection failed; it has no disk,
#: memory or connections left; it shuts down, crashed or ended this backend; its own files fail it.
_NO_ANSWER = ("08", "53100", "53200", "53300", "57P", "58")
#: The engine's option that says how long locks are waited for, where no session can be told.
_LOCK_TIMEOUT = "orchestrator_lock_timeout"
_LIMIT_LOCKS = text("SELECT set_config('lock_timeout', :limit, true)")
_STATELESS: dict[str, Any] = {"prepare_threshold": None}
#: Undefined table and invalid schema name.
NOT_MIGRATED = frozenset({"42P01", "3F000"})
#: By which both ends notice in about 10 s that the other vanished without a word (seconds, and milliseconds).
_KEEPALIVES = {"keepalives_idle": 4, "keepalives_interval": 2, "keepalives_count": 3}
_USER_TIMEOUT = {"tcp_user_timeout": 10000}


def connect(url: str, *, pool_size: int, lock_timeout: float, pooler: bool = False) -> Engine:
    """An engine on the ledger whose connections commit each statement by itself.

    Single autocommit statements cost a third less than BEGIN .. COMMIT; `transaction` gives a real one.
    PostgreSQL prepares a statement at its third use: hot statements never vary.

    Args:
        lock_timeout: seconds that a statement waits for a lock.
        pooler: a pooler gives each transaction whichever session is free, so nothing is left in one: no prepared
            statement, no setting. Then locks are waited for so long within `transaction` and `limited`, and elsewhere
            as long as the role's own setting says.
    """
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=False,
        execution_options={_LOCK_TIMEOUT: f"{int(lock_timeout * 1000)}ms" if pooler else None},
        connect_args={
            **(_STATELESS if pooler else _of_session(url, lock_timeout)),
            "connect_timeout": 5,
            "application_name": "orchestrator",
            **_KEEPALIVES,
            **_USER_TIMEOUT,
        },
    )
    event.listen(engine, "handle_error", _leave_read_only)
    fellows.join(engine)
    return engine


def _of_session(url: str, lock_timeout: float) -> dict[str, Any]:
    """What a session of our own is told when it begins, and keeps.

    The server too must notice a peer that vanished: until then it keeps an open transaction, and the locks in it. By
    itself it would after two hours.
    """
    noticed = {f"tcp_{name}": value for name, value in _KEEPALIVES.items()} | _USER_TIMEOUT
    vanished = "".join(f" -c {name}={value}" for name, value in noticed.items())
    options = f"-c lock_timeout={int(lock_timeout * 1000)} -c timezone=UTC{vanished}"
    given = make_url(url).query.get("options")
    return {"prepare_threshold": 2, "options": f"{given} {options}" if given else options}


def _leave_read_only(context: ExceptionContext) -> None:
    """Connections to a server that takes no writes are worth nothing: new ones may reach the one that does."""
    if sqlstate(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


@contextmanager
def transaction(engine: Engine, isolation: str = "READ COMMITTED") -> Iterator[Connection]:
    """A connection inside one transaction: committed at the end, rolled back on any error."""
    with engine.connect().execution_options(isolation_level=isolation) as connection, connection.begin():
        if limit := engine.get_execution_options().get(_LOCK_TIMEOUT):
            connection.execute(_LIMIT_LOCKS, {"limit": limit})
        yield connection


@contextmanager
def limited(engine: Engine) -> Iterator[Connection]:
    """A connection for one statement, or several that are safe to send twice, which waits for locks no longer than the
    lock timeout: somebody else's open transaction may hold what it wants. Behind a pooler, in one transaction."""
    if engine.get_execution_options().get(_LOCK_TIMEOUT):
        with transaction(engine) as connection:
            yield connection
    else:
        with engine.connect() as connection:
            yield connection


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that the statement may or may not have been carried out; or there was none to be
    had, as those who have one get no answer."""
    if isinstance(error, AllTaken):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = sqlstate(error) or ""
    if state == READ_ONLY or state.startswith(_NO_ANSWER):
        return True
    return isinstance(error, OperationalError) and not state


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code for the error, such as 40001; None when the server gave none."""
    cause = getattr(error, "orig", error)
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None


def is_retryable(error: BaseException) -> bool:
    """Whether the server undid the statement for the sake of another, so that it may simply be sent again."""
    return sqlstate(error) in RETRYABLE_SQLSTATES


def persist(attempt: Callable[[], R], *, give_up_after: float | None = None, at: Engine | None = None) -> R:
    """Call `attempt` until the database answers.

    For statements that are safe to send twice: each carries its guard, so a repetition writes nothing. Waits grow from
    50 ms to 2 s, with jitter. None never gives up, nor does it take a lock's timeout or a cancelled statement for an
    answer: a guard's settle is retried until answered, or the process dies.

    Raises:
        DatabaseUnavailable: no answer within `give_up_after` seconds.
        SchemaNotMigrated: the ledger's tables are missing.
    """
    started, wait = clock.elapsed(), 0.05
    while True:
        try:
            return attempt()
        except AllTaken:
            if give_up_after is not None:
                raise
        except DBAPIError as error:
            if sqlstate(error) in NOT_MIGRATED:
                raise SchemaNotMigrated() from error
            patient = give_up_after is None and sqlstate(error) in NOT_NOW
            if not (is_lost(error) or is_retryable(error) or patient):
                raise
            if give_up_after is not None and is_lost(error) and clock.elapsed() - started > give_up_after:
                raise _unavailable(error, at) from error
        clock.pause(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
        wait = min(wait * 2, 2.0)


def ping(engine: Engine) -> None:
    """One round trip; DatabaseUnavailable names the host when there is no answer."""
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except DBAPIError as error:
        raise _unavailable(error, engine) from None


def _unavailable(error: DBAPIError, engine: Engine | None) -> DatabaseUnavailable:
    place = f" at {engine.url.host}:{engine.url.port or 5432}/{engine.url.database}" if engine is not None else ""
    reason = " ".join(str(error.orig or error).split())
    return DatabaseUnavailable(
        f"no database{place}: {reason}; check ORCHESTRATOR_DATABASE_URL and that the server is up"
    )
