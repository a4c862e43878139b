"""A worker's connection to the ledger, replaced when it breaks, and settles that are never given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from orchestrator.ledger import claims, database
from orchestrator.ledger.claims import Claim, Settled

P = ParamSpec("P")
R = TypeVar("R")


class Recovered:
    """The settle was carried out, but its reply was lost: what it did beyond that must be looked up."""


class Link:
    """One autocommit connection for the time of a segment."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The connection; a new one after the old one broke."""
        if self._connection is None or self._connection.invalidated:
            self.close()
            self._connection = self.engine.connect()
        return self._connection

    def close(self) -> None:
        """Give the connection back to the pool."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, statement: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Send a statement until it is answered. Only for those that are safe to send twice."""

        def attempt() -> R:
            try:
                return statement(self.connection, *args, **kwargs)
            except DBAPIError as error:
                self._drop_if_lost(error)
                raise

        return database.persist(attempt)

    def settle(
        self, held: Claim, send: Callable[[Connection], Settled | None], became: str
    ) -> Settled | Recovered | None:
        """Send a settle until it is known whether it was carried out.

        After a lost reply, no row settled may be its own success: the step's row, locked, tells. `became` is the
        status that this settle, and no other, would have given it.

        Returns:
            None when another owner has the step and nothing was written.
        """

        def attempt() -> Settled | Recovered | None:
            try:
                return send(self.connection)
            except DBAPIError as error:
                if not self._drop_if_lost(error):
                    raise
            status = self.call(claims.standing, held)
            if status == "running":
                return send(self.connection)
            return Recovered() if status == became else None

        return database.persist(attempt)

    def _drop_if_lost(self, error: DBAPIError) -> bool:
        lost = database.is_lost(error)
        if lost and self._connection is not None:
            self._connection.invalidate()
            self.close()
        return lost
