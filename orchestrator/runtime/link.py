"""A worker's connection to the ledger, replaced when it breaks, and settles that are never given up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from orchestrator import fault_points
from orchestrator.ledger import claims, database, lost_replies
from orchestrator.ledger.claims import Claim, Facts, Settled

P = ParamSpec("P")
R = TypeVar("R")


class Recovered:
    """The settle was carried out, but its reply was lost: what it did beyond that must be looked up."""


class Link:
    """One connection for the time of a segment, which commits each statement by itself, and is all that a segment has:
    within a transaction of its own, whatever must not belong to that goes aside, a statement at a time.

    Args:
        engine: of the connections that only segments have.
        aside: of those that everybody in the process shares.
    """

    def __init__(self, engine: Engine, aside: Engine) -> None:
        self._engine, self._aside = engine, aside
        self._connection: Connection | None = None
        self._in_transaction = False
        #: Whether the connection broke while a statement was under way that may have been carried out.
        self.was_doubtful = False

    @property
    def connection(self) -> Connection:
        """The connection; a new one after the old one broke."""
        if self._connection is None or self._connection.invalidated:
            self.close()
            self._connection = self._engine.connect()
        return self._connection

    @contextmanager
    def transaction(self, isolation: str) -> Iterator[Connection]:
        """The connection inside one transaction: committed at the end, rolled back on any error."""
        self.close()
        self._in_transaction = True
        try:
            with database.transaction(self._engine, isolation) as connection:
                yield connection
        finally:
            self._in_transaction = False

    def close(self) -> None:
        """Give the connection back to the pool."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, statement: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Send a statement until it is answered. Only for those that are safe to send twice."""
        return self._persist(lambda connection, _: statement(connection, *args, **kwargs))

    def claim(
        self, execution_id: str, path: str, *, owner: str, transactional: bool, timeout: float | None
    ) -> tuple[Claim, Facts] | None:
        """`claims.claim`, sent until it is answered.

        After a lost reply, a step that cannot be claimed may run under our own name already, and nobody else would ever
        take it up: then the claim is adopted.
        """

        def send(connection: Connection, doubtful: bool) -> tuple[Claim, Facts] | None:
            taken = claims.claim(
                connection, execution_id, path, owner=owner, transactional=transactional, timeout=timeout
            )
            if taken is None and doubtful:
                return lost_replies.adopt(connection, execution_id, path, owner=owner)
            return taken

        fault_points.reach(fault_points.CLAIM, execution_id, path)
        return self._persist(send)

    def settle(
        self, held: Claim, send: Callable[[Connection], Settled | None], became: Collection[str]
    ) -> Settled | Recovered | None:
        """Send a settle until it is known whether it was carried out.

        After a lost reply, nothing written may mean that it was written before: the step's row tells. It is asked after
        every sending, as a statement given up for lost may still arrive. `became` holds the statuses that this settle
        would have given it.

        Returns:
            None when another owner has the step and nothing was written.
        """

        def send_or_recover(connection: Connection, doubtful: bool) -> Settled | Recovered | None:
            settled = send(connection)
            if settled is None and doubtful and lost_replies.standing(connection, held) in became:
                return Recovered()
            return settled

        settled = self._persist(send_or_recover)
        fault_points.reach(fault_points.SETTLED, held.execution_id, held.path)
        return settled

    def _persist(self, send: Callable[[Connection, bool], R]) -> R:
        """Call `send` until it is answered; its second argument says whether an earlier call may have been carried out,
        because the connection broke."""
        doubtful = False

        def attempt() -> R:
            nonlocal doubtful
            try:
                if self._in_transaction:
                    with self._aside.connect() as connection:
                        return send(connection, doubtful)
                return send(self.connection, doubtful)
            except DBAPIError as error:
                if database.is_lost(error):
                    doubtful = self.was_doubtful = True
                    self._drop()
                raise

        return database.persist(attempt)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self.close()
