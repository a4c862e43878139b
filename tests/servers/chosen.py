"""The servers of a test session, as the environment chooses them.

BROKER      nothing or `redis`: the embedded broker. `amqp`: a RabbitMQ. A URL: that broker, which must be empty; what
            ends it, empties it or looks into it fails.
POOLER      nothing: connections to PostgreSQL are direct. `1`: all go through a PgBouncer in transaction mode. A URL:
            they go through that pooler, whose PostgreSQL lets us create databases.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from orchestrator.embedded import NotStarted, Server, Servers
from servers.pgbouncer import PgBouncer
from servers.rabbitmq import RabbitMQ


class ChosenServers(Servers):
    """PostgreSQL and a broker on fresh data, and perhaps a pooler before PostgreSQL."""

    def __init__(self) -> None:
        super().__init__()
        self._wanted, self._pooled = os.environ.get("BROKER") or "redis", os.environ.get("POOLER") or ""
        self._pooler: PgBouncer | None = None
        if self._wanted not in {"redis", "amqp"} and "://" not in self._wanted:
            raise ValueError(f"BROKER={self._wanted}: must be redis, amqp or a URL")

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is between."""
        return bool(self._pooled)

    @property
    def database_url(self) -> str:
        if "://" in self._pooled:
            return self._pooled
        return self._pooler.url if self._pooler else super().database_url

    @property
    def broker(self) -> Server:
        if "://" in self._wanted:
            raise NotStarted(f"{self._wanted} is not ours")
        return super().broker

    @property
    def broker_url(self) -> str:
        return self._wanted if "://" in self._wanted else super().broker_url

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            if self._pooled and "://" not in self._pooled:
                directory = self.postgres.directory.with_name("pooler")
                self._pooler = self._exit.enter_context(PgBouncer(directory, self.postgres))
        except BaseException:
            self._exit.close()
            raise
        return self

    def _broker_in(self, directory: Path) -> Server:
        return RabbitMQ(directory) if self._wanted == "amqp" else super()._broker_in(directory)
