"""Publishing after somebody else's commit.

A start inside the caller's transaction may be published only once that has committed, or a worker would look for a row
that it cannot see. If nobody publishes, the sweep does: what is here saves seconds, not executions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from orchestrator import clock

#: How long a plain connection's commit is watched for, in seconds; later commits are left to the sweep.
WATCH = 30.0

_VISIBLE = text("SELECT FROM orchestrator.execution WHERE id = :execution")


def connection_of(session: Session | Connection) -> Connection:
    """The connection behind a Session, or the connection itself."""
    return session.connection() if isinstance(session, Session) else session


def publish_after_commit(
    session: Session | Connection, database: Engine, execution_id: str, publish: Callable[[], object]
) -> None:
    """Arrange for `publish` to be called once the caller's transaction, which started `execution_id`, has committed."""
    if isinstance(session, Session):
        _after_session_commit(session, publish)
    elif session.get_isolation_level() == "AUTOCOMMIT" or not session.in_transaction():
        publish()
    else:
        # SQLAlchemy tells of a connection's commit before it happens; so a thread waits until the row can be seen.
        watch = threading.Thread(
            target=_publish_when_visible,
            args=(database, execution_id, publish),
            name="publish-after-commit",
            daemon=True,
        )
        event.listen(session, "commit", lambda _: watch.start(), once=True)


def _after_session_commit(session: Session, publish: Callable[[], object]) -> None:
    """Only the outermost commit counts, and a rollback forgets."""

    def committed(_: Session) -> None:
        forget()
        publish()

    def rolled_back(_: Session) -> None:
        forget()

    def forget() -> None:
        event.remove(session, "after_commit", committed)
        event.remove(session, "after_rollback", rolled_back)

    event.listen(session, "after_commit", committed)
    event.listen(session, "after_rollback", rolled_back)


def _publish_when_visible(database: Engine, execution_id: str, publish: Callable[[], object]) -> None:
    begun, wait = clock.elapsed(), 0.002
    while clock.elapsed() - begun < WATCH:
        try:
            with database.connect() as connection:
                seen = connection.execute(_VISIBLE, {"execution": execution_id}).first() is not None
        except SQLAlchemyError:
            seen = False
        if seen:
            publish()
            return
        clock.pause(wait)
        wait = min(wait * 2, 0.5)
