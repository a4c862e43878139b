"""A Redis master with a replica, and three Sentinels that make the replica master when it dies."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from redis import Redis, RedisError

from orchestrator import clock
from orchestrator.embedded import Account, NotStarted
from servers.debian import program
from servers.redis_server import RedisServer

#: What the Sentinels call the master.
MASTER = "orchestrator"
_SENTINELS, _QUORUM = 3, 2


class Sentinel(RedisServer):
    """One Sentinel; it keeps what it knows in its configuration file."""

    program: ClassVar[str] = "sentinel"

    def __init__(self, directory: Path, master: RedisServer) -> None:
        super().__init__(directory, password=master.password)
        self._master = master

    def _binary(self) -> Path:
        return program("redis-sentinel", "redis-sentinel")

    def _command(self) -> Sequence[str]:
        return [str(self._binary()), "redis.conf"]

    def _prepare(self, account: Account, lock: int) -> None:
        self._settings = {
            "bind": "127.0.0.1",
            "dir": ".",
            "sentinel monitor": f"{MASTER} 127.0.0.1 {self._master.port} {_QUORUM}",
            "sentinel auth-pass": f"{MASTER} {self._master.password}",
            "sentinel down-after-milliseconds": f"{MASTER} 1000",
            "sentinel failover-timeout": f"{MASTER} 3000",
        }
        super()._prepare(account, lock)

    def _listening(self) -> dict[str, str]:
        # Without a password of their own, as Sentinels usually are.
        return {"port": str(self.port), "protected-mode": "no"}

    def client(self, **options: object) -> Redis:
        """A client that tries once."""
        return Redis(
            host="127.0.0.1", port=self.port, socket_timeout=2, socket_connect_timeout=2, decode_responses=True
        )


class Sentinels:
    """Two Redis servers and three Sentinels; a context manager, entered from the main thread.

    Args:
        directory: holds the folders of all five.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._exit = directory, ExitStack()
        self.servers: list[RedisServer] = []
        self.sentinels: list[Sentinel] = []

    @property
    def url(self) -> str:
        """Broker URL of database 0: all Sentinels, and the servers' password."""
        if not self.sentinels:
            raise NotStarted
        password = self.servers[0].password
        return ";".join(f"sentinel://:{password}@127.0.0.1:{sentinel.port}/0" for sentinel in self.sentinels)

    def master(self) -> RedisServer:
        """The server that the first Sentinel takes for the master now."""
        with self.sentinels[0].client() as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return next(server for server in self.servers if server.port == int(port))

    def fail_over(self, within: float = 30.0) -> RedisServer:
        """Kill the master, and wait until the other is master; that one. Raises TimeoutError."""
        before = self.master()
        before.kill()
        deadline = clock.elapsed() + within
        while clock.elapsed() < deadline:
            with suppress(RedisError):
                after = self.master()
                if after is not before and _role(after) == "master":
                    return after
            clock.pause(0.05)
        raise TimeoutError(f"no other master within {within:g} s")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            password = secrets.token_urlsafe(24)
            master = stack.enter_context(RedisServer(self._directory / "redis-1", password=password))
            follow = {"replicaof": f"127.0.0.1 {master.port}"}
            replica = stack.enter_context(RedisServer(self._directory / "redis-2", password=password, settings=follow))
            self.servers = [master, replica]
            self.sentinels = [
                stack.enter_context(Sentinel(self._directory / f"sentinel-{number}", master))
                for number in range(_SENTINELS)
            ]
            self._await_acquaintance()
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()
        self.servers, self.sentinels = [], []

    def _await_acquaintance(self, within: float = 30.0) -> None:
        """Before all know of each other and of the replica there is nobody to make master."""
        deadline = clock.elapsed() + within
        while clock.elapsed() < deadline:
            if _follows(self.servers[1]) and all(_knows_all(sentinel) for sentinel in self.sentinels):
                return
            clock.pause(0.05)
        raise TimeoutError(f"the Sentinels do not know each other after {within:g} s")


def _knows_all(sentinel: Sentinel) -> bool:
    with sentinel.client() as client:
        known = client.sentinel_master(MASTER)
    return int(known["num-other-sentinels"]) == _SENTINELS - 1 and int(known["num-slaves"]) == 1


def _follows(server: RedisServer) -> bool:
    """Whether a replica has all that the master has."""
    with server.client(decode_responses=True) as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _role(server: RedisServer) -> str:
    with server.client(decode_responses=True) as client:
        return str(client.role()[0])
