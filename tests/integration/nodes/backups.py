"""Backups of a site's database, while nothing works on it."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from nodes.site import Site
from nodes.waiting import eventually


def back_up(site: Site) -> str:
    """The name of a copy of the database as it is; nobody may be connected to it (`Site.still`)."""
    name = f"backup_{uuid4().hex[:12]}"
    _administer(site, f"CREATE DATABASE {name} TEMPLATE {make_url(site.database_url).database}")
    return name


def restore(site: Site, backup: str) -> None:
    """Put a copy in the place of the database."""
    name = make_url(site.database_url).database
    _administer(site, f"DROP DATABASE {name}")
    _administer(site, f"ALTER DATABASE {backup} RENAME TO {name}")


def _administer(site: Site, statement: str) -> None:
    """Carry out a statement on the server once nobody is in the way: sessions of killed nodes take a while."""
    engine = create_engine(site.servers.database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def done() -> bool:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)
        except OperationalError as error:
            if "is being accessed by other users" not in str(error):
                raise
            return False
        return True

    eventually(done, statement)
