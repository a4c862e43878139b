"""The shop's own connection, on which its services act, and the statements that they act by.

Stock is not among them: it is reserved through the ledger's connection, in the ledger's transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, Connection, Engine, Row, TextClause, create_engine, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError

from definitions.order_fulfilment.errors import ServiceUnavailable
from orchestrator import Settings, StepContext


class ShopSettings(BaseSettings):
    """Settings of the shop, read from SHOP_* variables."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", frozen=True)

    #: Where the services keep their books; the ledger's database if not given. Stock is always in the ledger's.
    database_url: SecretStr | None = None


def database_url() -> URL:
    """The configured URL, on psycopg 3; ConfigurationError when neither the shop nor the ledger has one."""
    own = ShopSettings().database_url
    given = own.get_secret_value() if own else Settings().require_database_url()
    return make_url(given).set(drivername="postgresql+psycopg")


@contextmanager
def connection() -> Iterator[Connection]:
    """A connection that commits each statement by itself; ServiceUnavailable while the server does not answer."""
    try:
        with engine_of(os.getpid()).connect() as opened:
            yield opened
    except (InterfaceError, OperationalError) as error:
        raise ServiceUnavailable from error


@cache
def engine_of(_process: int) -> Engine:
    """The engine of a process. One each: a connection opened before a fork must not be spoken to by both sides."""
    return create_engine(
        database_url(),
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        max_overflow=0,
        connect_args={"application_name": "shop", "connect_timeout": 5},
    )


def recorded(service: str, action: str, change: str, *, more: str = "") -> TextClause:
    """A statement that makes one change and records the call; its one column tells whether anything was changed.

    Args:
        change: an INSERT or UPDATE with RETURNING, guarded so that a repetition changes nothing.
        more: further WITH queries, which may read what `changed` returned.

    The statement's parameters are :reference and :key, besides those of the change.
    """
    return text(
        f"WITH changed AS ({change}){', ' + more if more else ''} "  # noqa: S608 - constants of this package
        "INSERT INTO shop.call (service, action, idempotency_key, reference, effect) "
        f"SELECT '{service}', '{action}', :key, :reference, EXISTS (SELECT FROM changed) RETURNING effect"
    )


def identity(ctx: StepContext) -> dict[str, str]:
    """The parameters that every recorded statement has: which purchase it is about, and the call's idempotency key."""
    return {"reference": str(ctx.execution_id), "key": ctx.idempotency_key}


def act(ctx: StepContext, statement: TextClause, **parameters: object) -> bool:
    """Carry out a recorded statement on the shop's connection; False means that nothing was there to be changed."""
    with connection() as own:
        return bool(own.execute(statement, identity(ctx) | parameters).scalar_one())


def look_up(ctx: StepContext, statement: TextClause) -> Row[tuple[object, ...]] | None:
    """The service's row of this purchase, or None."""
    with connection() as own:
        return own.execute(statement, {"reference": str(ctx.execution_id)}).first()
