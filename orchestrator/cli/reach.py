"""How commands reach the ledger, the broker and the application: each failure is one clear error."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from sqlalchemy import Connection, Engine

from orchestrator.activities.registry import registry
from orchestrator.application import Orchestrator, find_app
from orchestrator.authoring.discovery import Catalog, discover
from orchestrator.config import Settings, load
from orchestrator.errors import ConfigurationError
from orchestrator.ledger import database, migrate


@contextmanager
def engine(settings: Settings | None = None) -> Iterator[Engine]:
    """The ledger's database, which answers; ConfigurationError or DatabaseUnavailable otherwise."""
    settings = settings or load()
    made = database.connect(
        settings.require_database_url(), pool_size=2, lock_timeout=settings.lock_timeout, pooler=settings.pooler
    )
    try:
        database.ping(made)
        yield made
    finally:
        made.dispose()


@contextmanager
def ledger(settings: Settings | None = None) -> Iterator[Connection]:
    """A connection to the ledger; needs no broker."""
    with engine(settings) as reached, reached.connect() as connection:
        yield connection


def catalog(settings: Settings) -> Catalog:
    """The definitions of the configured modules; needs neither database nor broker."""
    return discover(settings.modules, registry)


def orchestrator(path: str | None = None) -> Orchestrator:
    """The orchestrator of the application at `module:attribute`, or one made from the settings.

    Raises:
        ConfigurationError: there is no such application, or none of ours in it.
    """
    if path is None:
        return Orchestrator()
    try:
        app = find_app(path)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"no Celery application at {path}: {error}; give --app module:attribute") from error
    found = getattr(app, "orchestrator", None)
    if not isinstance(app, Celery) or not isinstance(found, Orchestrator):
        raise ConfigurationError(f"{path} is no application of ours: call Orchestrator().init_app(app) on it")
    return found


@contextmanager
def opened() -> Iterator[Orchestrator]:
    """An orchestrator made from the settings, whose database answers; its connections are closed in the end."""
    found = Orchestrator()
    with found.app:
        try:
            database.ping(found.core.database)
            yield found
        finally:
            found.core.database.dispose()


def require_servers(found: Orchestrator) -> None:
    """See that database, schema and broker are there before a worker or a beat starts.

    Raises:
        DatabaseUnavailable, SchemaNotMigrated, BrokerUnavailable: what is missing.
    """
    found.settings.require_database_url()
    database.ping(found.core.database)
    migrate.require_migrated(found.core.database)
    found.core.publisher.ping()


def importable(name: str) -> bool:
    """Whether a module can be found, by name; what is wrong inside it is another matter."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def consumed_queues(found: Orchestrator) -> list[str]:
    """The default queue, the sweeps' and every queue that a loaded definition names."""
    settings = found.settings
    named = [settings.default_queue, settings.sweep_queue]
    for definition in found.catalog.definitions:
        named.append(definition.queue or settings.default_queue)
        for step in definition.steps:
            named += [queue for queue in (step.queue, step.compensation and step.compensation.queue) if queue]
    return list(dict.fromkeys(named))
