"""The guard of plain Celery tasks: one row a key decides who runs, and keeps what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

#: The insert or the take-over of a released row decides; a row that runs or has succeeded is left alone.
TAKE = text("""
INSERT INTO orchestrator.idempotency_record AS r (tenant, scope, key, status, input_hash, owner)
VALUES (:tenant, :scope, :key, 'running', :hash, :owner)
ON CONFLICT (tenant, scope, key) DO UPDATE SET status = 'running', owner = :owner, attempt = r.attempt + 1,
   started_at = clock_timestamp()
   WHERE r.status = 'ready' AND r.input_hash = :hash
RETURNING attempt
""")

READ = text("""
SELECT status, input_hash, output, owner, attempt FROM orchestrator.idempotency_record
WHERE tenant = :tenant AND scope = :scope AND key = :key
""")

SETTLE = text("""
UPDATE orchestrator.idempotency_record SET status = 'succeeded', owner = NULL, output = CAST(:output AS jsonb),
   settled_at = clock_timestamp()
WHERE tenant = :tenant AND scope = :scope AND key = :key AND status = 'running'
  AND attempt = :attempt AND owner = :owner
""")

GIVE_BACK = text("""
UPDATE orchestrator.idempotency_record SET status = 'ready', owner = NULL
WHERE tenant = :tenant AND scope = :scope AND key = :key AND status = 'running'
  AND attempt = :attempt AND owner = :owner
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """What identifies a guarded call."""

    tenant: str
    #: The task's name.
    scope: str
    key: str

    def columns(self) -> dict[str, str]:
        return {"tenant": self.tenant, "scope": self.scope, "key": self.key}


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """How a key stands."""

    status: str
    input_hash: str
    output: Any
    owner: str | None
    attempt: int


def take(connection: Connection, key: Key, *, input_hash: str, owner: str) -> int | None:
    """Claim a key; the attempt's number, or None when it runs, has succeeded, or was used with another input.

    Waits for any other take of the key that has not committed yet.
    """
    attempt: int | None = connection.execute(TAKE, {**key.columns(), "hash": input_hash, "owner": owner}).scalar()
    return attempt


def read(connection: Connection, key: Key) -> Record | None:
    """How the key stands; None when it was never taken."""
    row = connection.execute(READ, key.columns()).first()
    if row is None:
        return None
    return Record(status=row[0], input_hash=row[1], output=row[2], owner=row[3], attempt=row[4])


def settle(connection: Connection, key: Key, *, attempt: int, owner: str, output: str) -> bool:
    """Keep the result; False means that the key was released to another owner and nothing was written."""
    parameters = {**key.columns(), "attempt": attempt, "owner": owner, "output": output}
    return connection.execute(SETTLE, parameters).rowcount == 1


def give_back(connection: Connection, key: Key, *, attempt: int, owner: str) -> bool:
    """After an error: let another attempt take the key; False means that it was released already."""
    return connection.execute(GIVE_BACK, {**key.columns(), "attempt": attempt, "owner": owner}).rowcount == 1
