"""Django: start workflows inside Django's own transaction.

    from orchestrator.integrations import django

    with transaction.atomic():
        order = Order.objects.create(...)
        orchestrator.start("order-fulfilment", {"order": order.id}, session=django.connection())

The start goes through the connection that Django has open, so both commit together or neither does. The messages are
published by `transaction.on_commit`. Django's database must be the ledger's: PostgreSQL, on psycopg 3.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import psycopg
from django.db import connections, transaction
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from orchestrator.engine.after_commit import ON_COMMIT
from orchestrator.errors import ConfigurationError


class BorrowedDialect(PGDialect_psycopg):
    """PostgreSQL on a connection that belongs to somebody else: nothing here begins, commits, rolls back or closes."""

    supports_statement_cache = True

    def initialize(self, connection: Connection) -> None:
        """Asks the server nothing: plain statements need none of what it would answer."""

    def on_connect(self) -> None:
        """The lender has set the connection up."""

    def do_begin(self, dbapi_connection: Any) -> None:
        """The lender begins."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """The lender commits."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """The lender rolls back."""

    def do_close(self, dbapi_connection: Any) -> None:
        """The lender closes."""

    def do_terminate(self, dbapi_connection: Any) -> None:
        """The lender closes."""


#: The connection being lent, for the moment of the loan.
_lent = threading.local()


def connection(using: str = "default") -> Connection:
    """Django's open connection as a SQLAlchemy one, for `start(..., session=connection())`.

    What is executed on it takes part in Django's transaction, savepoints included; Django alone ends that. Outside of
    `atomic`, each statement commits by itself, as everywhere in Django. Ask for it where you use it and do not keep it:
    it is worth nothing once Django has closed its connection.

    Args:
        using: the alias in settings.DATABASES.

    Raises:
        ConfigurationError: that database is not PostgreSQL on psycopg 3.
    """
    lender = connections[using]
    lender.ensure_connection()
    if not isinstance(lender.connection, psycopg.Connection):
        raise ConfigurationError(
            f'DATABASES["{using}"] is {lender.vendor}, and the ledger is PostgreSQL on psycopg 3; '
            "give the alias of the database that holds the ledger, and install psycopg"
        )
    _lent.connection = lender.connection
    try:
        borrowed = _engine().connect()
    finally:
        del _lent.connection
    return borrowed.execution_options(
        **{ON_COMMIT: lambda publish: transaction.on_commit(publish, using=using, robust=True)}
    )


@cache
def _engine() -> Engine:
    """Makes no connection of its own, pools none and resets none."""
    registry.register("postgresql.borrowed", __name__, BorrowedDialect.__name__)
    return create_engine(
        "postgresql+borrowed://",
        creator=lambda: _lent.connection,
        poolclass=NullPool,
        pool_reset_on_return=None,
        use_native_hstore=False,
    )
