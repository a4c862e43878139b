"""Publishing after somebody else's commit.

A start inside the caller's transaction may be published only once that has committed, or a worker would look for a row
that it cannot see. If nobody publishes, the sweep does: what is here saves seconds, not executions.

Who knows of the commit depends on what the caller gave:

    a Connection with an `on_commit` of its own   a framework (Django) that commits behind SQLAlchemy's back
    an autocommit connection                      the start is committed already
    a Session                                     its events; savepoints included
    a Connection                                  its events come before the commit, so a thread waits for the row
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import clock

if TYPE_CHECKING:
    # An eighth of what it takes to import the package (1.98 s of processor time with it, 1.74 s without, the medians of
    # nine); whoever has a Session has imported it.
    from typing import Any

    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

logger = logging.getLogger("orchestrator.publish")

#: What a start may be given to take part in the caller's transaction.
Transaction: TypeAlias = "Session | Connection | scoped_session[Any]"

#: Execution option of a Connection that SQLAlchemy does not commit: a function that takes what is to be called once
#: the transaction has committed, as Django's `transaction.on_commit` does.
ON_COMMIT = "orchestrator_on_commit"

#: How long a plain connection's commit is watched for, in seconds; later commits are left to the sweep.
WATCH = 30.0

_VISIBLE = text("SELECT CAST(id AS text) FROM orchestrator.execution WHERE id = ANY(CAST(:executions AS uuid[]))")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Publish:
    """What is to be published, and where its execution will be seen."""

    execution_id: str
    publish: Callable[[], object]
    database: Engine


@dataclass(slots=True)
class _Pending:
    """What a plain connection's transaction has started."""

    starts: list[_Publish] = field(default_factory=list)
    #: A savepoint was rolled back: not all of it may still be there.
    doubtful: bool = False

    def clear(self) -> None:
        self.starts, self.doubtful = [], False


#: Key of a Session's `info`: the transaction or savepoint that each start belongs to now, its connection, the start.
_STARTS = "orchestrator_starts"
_Starts: TypeAlias = "list[tuple[SessionTransaction, Connection, _Publish]]"

_connections: WeakKeyDictionary[Connection, _Pending] = WeakKeyDictionary()


def connection_of(session: Transaction) -> Connection:
    """The connection behind a Session, or the connection itself."""
    return session if isinstance(session, Connection) else session.connection()


def publish_after_commit(
    session: Transaction, database: Engine, execution_id: str, publish: Callable[[], object]
) -> None:
    """Arrange for `publish` to be called once the caller's transaction, which started `execution_id`, has committed.

    Args:
        database: the ledger's own connections, to see from outside whether a transaction has committed.
    """
    connection = connection_of(session)
    start = _Publish(execution_id=execution_id, publish=publish, database=database)
    on_commit = connection.get_execution_options().get(ON_COMMIT)
    if on_commit is not None:
        on_commit(publish)
    elif _is_autocommit(connection):
        publish()
    elif isinstance(session, Connection):
        _with_connection(connection, start)
    else:
        # A scoped one gives the Session of this thread.
        _with_session(session() if callable(session) else session, connection, start)


def _is_autocommit(connection: Connection) -> bool:
    """SQLAlchemy begins transactions of its own on such a connection, which mean nothing to the server."""
    raw = connection.connection.dbapi_connection
    return raw is not None and connection.dialect.detect_autocommit_setting(raw)


def _with_session(session: Session, connection: Connection, start: _Publish) -> None:
    if _STARTS not in session.info:
        session.info[_STARTS] = []
        # For as long as the session lives: listeners cannot be taken away while they are called.
        event.listen(session, "after_commit", _session_commits)
        event.listen(session, "after_transaction_end", _session_transaction_ends)
    current = session.get_nested_transaction() or session.get_transaction()
    if current is not None:
        session.info[_STARTS].append((current, connection, start))


def _session_commits(session: Session) -> None:
    """A savepoint hands its starts to the transaction around it; the outermost commit publishes."""
    starts: _Starts = session.info[_STARTS]
    savepoint = session.get_nested_transaction()
    if savepoint is not None:
        around = _around(savepoint)
        starts[:] = [(around if entry[0] is savepoint else entry[0], *entry[1:]) for entry in starts]
        return
    committed = starts[:]
    starts.clear()
    for _, connection, start in committed:
        # A session may have joined a transaction that was begun on its connection and goes on.
        if connection.in_transaction():
            _with_connection(connection, start)
        else:
            _publish_aside(start)


def _around(savepoint: SessionTransaction) -> SessionTransaction:
    """The savepoint or transaction that a savepoint is in; a flush between them has no commit of its own."""
    around = savepoint.parent
    while around is not None and around.parent is not None and not around.nested:
        around = around.parent
    return around or savepoint


def _session_transaction_ends(session: Session, ended: SessionTransaction) -> None:
    """What is left with a transaction after its end was rolled back."""
    starts: _Starts = session.info[_STARTS]
    starts[:] = [entry for entry in starts if entry[0] is not ended]


def _publish_aside(start: _Publish) -> None:
    """Publish; from a thread where an event loop would wait for the broker."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _publish(start)
    else:
        loop.run_in_executor(None, _publish, start)


def _publish(start: _Publish) -> None:
    """The caller's commit has succeeded, so nothing may raise."""
    try:
        start.publish()
    except Exception:
        facts = {"execution_id": start.execution_id}
        logger.exception("publish failed after the commit; sweeps repeat it", extra=facts)


def _with_connection(connection: Connection, start: _Publish) -> None:
    if connection not in _connections:
        _connections[connection] = _Pending()
        event.listen(connection, "commit", _connection_commits)
        event.listen(connection, "rollback", _connection_rolls_back)
        event.listen(connection, "rollback_savepoint", _connection_savepoint_rolls_back)
    _connections[connection].starts.append(start)


def _connection_commits(connection: Connection) -> None:
    """SQLAlchemy tells of a connection's commit before it happens; so a thread waits until the rows can be seen."""
    pending = _connections[connection]
    starts = pending.starts
    if starts and pending.doubtful:
        still = set(connection.execute(_VISIBLE, {"executions": [start.execution_id for start in starts]}).scalars())
        starts = [start for start in starts if start.execution_id in still]
    pending.clear()
    if starts:
        threading.Thread(target=_publish_when_visible, args=(starts,), name="publish-after-commit", daemon=True).start()


def _connection_rolls_back(connection: Connection) -> None:
    _connections[connection].clear()


def _connection_savepoint_rolls_back(connection: Connection, name: str, context: None) -> None:
    _connections[connection].doubtful = True


def _publish_when_visible(starts: list[_Publish]) -> None:
    """They were started in one transaction: once one can be seen, all can."""
    begun, wait = clock.elapsed(), 0.002
    executions = {"executions": [starts[-1].execution_id]}
    while clock.elapsed() - begun < WATCH:
        try:
            with starts[-1].database.connect() as connection:
                seen = connection.execute(_VISIBLE, executions).first() is not None
        except SQLAlchemyError:
            seen = False
        if seen:
            for start in starts:
                _publish(start)
            return
        clock.pause(wait)
        wait = min(wait * 2, 0.5)
