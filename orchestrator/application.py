"""The Orchestrator: the engine, its worker side and a Celery application put together."""

from __future__ import annotations

import importlib
import logging
from functools import cached_property
from socket import gethostname
from typing import Any

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

import orchestrator.activities.builtin  # noqa: F401 - registers the ready-made activities
from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.registry import registry
from orchestrator.config import Settings, load
from orchestrator.current import set_current
from orchestrator.dispatch import brokers
from orchestrator.dispatch.canvas import SEGMENT_TASK
from orchestrator.dispatch.publish import Publisher
from orchestrator.engine.core import Core
from orchestrator.engine.incidents import drift_fingerprint, of_drift
from orchestrator.engine.service import Service
from orchestrator.errors import ConfigurationError, DefinitionConflict, DefinitionError
from orchestrator.ledger import database, definitions, incidents, migrate, secrets
from orchestrator.ledger.incidents import Incident
from orchestrator.recovery import tasks as recovery_tasks
from orchestrator.recovery.sweeps import SWEEPS
from orchestrator.runtime import bootsteps, own_tasks
from orchestrator.runtime import tasks as runtime_tasks
from orchestrator.runtime.attempt_log import AttemptLogs
from orchestrator.runtime.attendance import Attendance
from orchestrator.runtime.owner import Node
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator")


class Orchestrator(Service):
    """Starts workflows, and makes Celery workers carry them out.

    Makes no connection by itself; the first use does. With an application of yours, call `init_app` or give it here:
    its own tasks, chords and result backend stay as they are. Without one, a Celery application of its own is made.

    Args:
        app: your Celery application.
        settings: any of `orchestrator.Settings`, in place of ORCHESTRATOR_* variables.
    """

    def __init__(self, app: Celery | None = None, **settings: Any) -> None:
        self._overrides = settings
        self._app: Celery | None = None
        if app is not None:
            self.init_app(app)
        set_current(self)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force; ConfigurationError names each wrong one."""
        return load(**self._overrides)

    @property
    def app(self) -> Celery:
        """The Celery application: yours, or one of our own."""
        if self._app is None:
            self.init_app(own_app(self.settings))
        assert self._app is not None
        return self._app

    @cached_property
    def core(self) -> Core:  # type: ignore[override]
        """The engine's parts; made at the first use, without a connection."""
        settings = self.settings
        return Core(settings, self._connect(settings.pool_size), Publisher(self.app, settings.default_queue))

    @cached_property
    def worker(self) -> Worker:
        """What a worker process works with."""
        database = self.core.database
        return Worker(
            core=self.core,
            registry=registry,
            node=self._node,
            connectors=self.connectors,
            steps=self._connect(self._at_once),
            beats=self._connect(1),
            attendance=Attendance(self._node.presence, database),
            logs=AttemptLogs(database, self.settings),
        )

    @cached_property
    def connectors(self) -> Connectors:
        """The outside services that activities reach by name; ConfigurationError names each wrong one."""
        settings = self.settings
        read = secrets.reader(lambda: self.core.database, settings.tenant, settings.secret_keys)
        return Connectors(settings.connectors, secret=read, allow_networks=settings.http_allow_networks)

    def _connect(self, pool_size: int) -> Engine:
        settings = self.settings
        return database.connect(
            settings.require_database_url(),
            pool_size=pool_size,
            lock_timeout=settings.lock_timeout,
            pooler=settings.pooler,
        )

    def init_app(self, app: Celery) -> None:
        """Add the orchestrator to a Celery application: its tasks, its worker bootstep, safe transport defaults."""
        self._app = app
        self._node = Node()
        self._at_once = 1
        app.orchestrator = self
        runtime_tasks.register(app, lambda: self.worker)
        own_tasks.register(app, lambda: self.worker)
        backend = app.tasks[SEGMENT_TASK].backend
        recovery_tasks.register(app, lambda: (self.core, self.worker.steps, self._node.boot_id), backend)
        bootsteps.install(app, lambda: self.worker, self.prepare_worker, self._sweep_now)
        # Now, and whenever the application reads its configuration anew.
        app.on_after_configure.connect(brokers.set_defaults, weak=False)
        if app.configured:
            brokers.set_defaults(app)

    def prepare_worker(self, threads: int = 1) -> None:
        """Import what the settings name and publish it, before the pool forks.

        Args:
            threads: steps that one process will work on at a time.

        A bad or changed definition is logged and leaves the rest at work: executions are pinned to what is published.

        Raises:
            DatabaseUnavailable, SchemaNotMigrated, ConfigurationError: the worker cannot work at all.
        """
        if not {"json", "application/json"} & set(self.app.conf.accept_content):
            raise ConfigurationError("our messages are JSON; add json to your application's accept_content")
        _ = self.connectors  # wrong ones end the worker before it takes up any step
        # What an application's own modules may have made by now was for a client.
        self.core.database.dispose()
        self.core.database, self._at_once = self._connect(1), threads
        vars(self).pop("worker", None)
        database.ping(self.core.database)
        migrate.require_migrated(self.core.database)
        for problem in self.catalog.problems:
            logger.error("definition cannot be loaded: %s", problem)
        tenant, new_version = self.settings.tenant, self.settings.dev_mode
        agreed: list[str] = []
        drifted: list[Incident] = []
        with self.core.database.connect() as connection:
            for definition in self.catalog.definitions:
                try:
                    definitions.publish(connection, tenant, definition, new_version=new_version)
                    agreed.append(drift_fingerprint(definition.name, definition.version))
                except (DefinitionConflict, DefinitionError, DBAPIError) as error:
                    # In the message, not beside it: Celery's own log format drops fields, and the diff is the point.
                    logger.error("definition is not published: %s", error)
                    if isinstance(error, DefinitionConflict):
                        drifted.append(of_drift(tenant, error, gethostname()))
        self._note_drift(agreed, drifted)

    def _note_drift(self, agreed: list[str], drifted: list[Incident]) -> None:
        """Open incidents for what this worker has otherwise than the ledger, and close those for what agrees."""
        try:
            with self.core.database.connect() as connection:
                for found in drifted:
                    incidents.raise_(connection, found)
                incidents.agrees(connection, self.settings.tenant, agreed)
        except DBAPIError as error:
            logger.warning("drift is not noted", extra={"reason": str(error)})

    def _sweep_now(self) -> None:
        """What waited while no worker was up need not wait for beat."""
        for sweep in SWEEPS.values():
            if interval := sweep.interval(self.settings):
                self.core.publisher.sweep(sweep.name, self.settings.sweep_queue, max(interval * 2, 5))


def own_app(settings: Settings) -> Celery:
    """A Celery application with the settings that suit workflows best."""
    url, options = settings.require_broker_url(), settings.broker_options
    if url.startswith("sentinel") and "master_name" not in options:
        raise ConfigurationError(
            "sentinel:// needs the name of the master that the Sentinels watch: set "
            """ORCHESTRATOR_BROKER_OPTIONS='{"master_name": "..."}'"""
        )
    app = Celery("orchestrator", broker=url, backend=None, set_as_current=False)
    app.conf.update(
        broker_transport_options=options,
        broker_use_ssl=brokers.tls(url, settings.broker_ca),
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=settings.default_queue,
        worker_prefetch_multiplier=1,
        worker_deduplicate_successful_tasks=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        task_send_sent_event=False,
        # After a broker's restart a worker would work with part of its pool until as many steps have ended.
        worker_enable_prefetch_count_reduction=False,
    )
    return app


def find_app(path: str) -> Celery:
    """The Celery application at `module:attribute` (`app` by default)."""
    module, _, attribute = path.partition(":")
    found: Celery = getattr(importlib.import_module(module), attribute or "app")
    return found
