"""Redis as Debian has it: a server with a password, alone, a replica, or behind TLS."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.embedded import Account, Server
from orchestrator.embedded.spawn import adopt
from servers.debian import program

_SETTINGS = {
    "bind": "127.0.0.1",
    "dir": ".",
    "daemonize": "no",
    "save": '""',
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    # A replica need not wait for others that might come.
    "repl-diskless-sync-delay": "0",
}


class RedisServer(Server):
    """A Redis 7 on 127.0.0.1 that keeps its data over restarts and kills. See Server for life cycle and arguments.

    Args:
        password: in the place of one of its own; several that replicate each other share it.
        settings: of redis.conf in addition, when it is written: at the first start. What Redis itself then writes
            there, as under Sentinels it does, stays.
    """

    program: ClassVar[str] = "redis"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        account: Account | None = None,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port=port, account=account)
        self._shared = password
        self._settings = {**_SETTINGS, **(settings or {})}

    @property
    def password(self) -> str:
        return self._shared or super().password

    @property
    def url(self) -> str:
        """Redis URL of database 0. Raises NotStarted before the first start."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> Redis:
        """A client that tries once."""
        return Redis.from_url(
            self.url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0), **options
        )

    def _binary(self) -> Path:
        return program("redis-server", "redis-server")

    def _command(self) -> Sequence[str]:
        return [str(self._binary()), "redis.conf"]

    def _listening(self) -> dict[str, str]:
        """What says where it listens, and who may come in."""
        return {"port": str(self.port), "requirepass": self.password, "masterauth": self.password}

    def _prepare(self, account: Account, lock: int) -> None:
        path = self.directory / "redis.conf"
        if not path.exists():
            settings = {**self._settings, **self._listening()}
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.writelines(f"{name} {value}\n" for name, value in settings.items())
        adopt(self.directory, account)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False
