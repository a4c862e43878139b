"""What to ask when a reply was lost: was the statement carried out?

The connection broke after a claim or a settle was sent. It may have been carried out, may still be under way in the old
backend, or may never have arrived.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim, Facts, taken

#: After a lost reply: waits for the old backend to end its statement, and then tells how the step stands.
STANDING = text("""
SELECT status, attempt, owner, EXISTS (
    SELECT FROM orchestrator.straggler WHERE execution_id = :execution AND path = :path AND owner = :owner) AS straggles
FROM orchestrator.step WHERE execution_id = :execution AND path = :path FOR UPDATE
""")

#: After a lost reply: what CLAIM would have returned, if it was carried out.
ADOPT = text("""
SELECT s.attempt, s.failures, x.tenant, x.input, x.correlation_id, x.labels, x.parent_id,
       s.exit, s.resume, s.woken_by, s.error
FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id
WHERE s.execution_id = :execution AND s.path = :path AND s.status = 'running' AND s.owner = :owner
""")

#: What runs under an owner's name in an execution.
OWNED = text("""
SELECT path, attempt, failures FROM orchestrator.step
WHERE execution_id = :execution AND status = 'running' AND owner = :owner
""")


def standing(connection: Connection, held: Claim) -> str | None:
    """After a lost reply: the step's status if it is still this attempt's (running: the claim stands), None if fenced.

    Two statements, the first of which waits for the old backend: a settle under way is then decided.
    """
    asked = {"execution": held.execution_id, "path": held.path, "owner": held.owner}
    connection.execute(STANDING, asked)
    row = connection.execute(STANDING, asked).first()
    if row is None or row.attempt != held.attempt or (row.owner is not None and row.owner != held.owner):
        return None
    return None if row.straggles else str(row.status)


def adopt(connection: Connection, execution_id: str, path: str, *, owner: str) -> tuple[Claim, Facts] | None:
    """After a lost reply: the claim that this owner has on a step already; None when it has none."""
    row = connection.execute(ADOPT, {"execution": execution_id, "path": path, "owner": owner}).first()
    return None if row is None else taken(row, execution_id, path, owner)


def owned(connection: Connection, execution_id: str, owner: str) -> list[Claim]:
    """Every step of an execution that runs under this owner's name."""
    rows = connection.execute(OWNED, {"execution": execution_id, "owner": owner})
    return [
        Claim(execution_id=execution_id, path=row.path, attempt=row.attempt, owner=owner, failures=row.failures)
        for row in rows
    ]
