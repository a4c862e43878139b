"""Redis that speaks TLS only."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from redis import Redis

from orchestrator.embedded import Account
from servers.certificates import Authority
from servers.redis_server import RedisServer


class RedisTls(RedisServer):
    """A Redis 7 whose port takes TLS only. See RedisServer for the rest.

    Args:
        authority: signs its certificate; clients verify that with `authority.certificate`.
    """

    def __init__(
        self, directory: Path, authority: Authority, *, port: int | None = None, account: Account | None = None
    ) -> None:
        super().__init__(directory, port=port, account=account)
        self._authority = authority

    @property
    def url(self) -> str:
        """Redis URL of database 0, by TLS; says nothing of the authority. Raises NotStarted before the first start."""
        return super().url.replace("redis://", "rediss://")

    def _prepare(self, account: Account, lock: int) -> None:
        for made, name in zip(self._authority.issue("redis"), ("server.pem", "server.key"), strict=True):
            shutil.copy(made, self.directory / name)
        super()._prepare(account, lock)

    def _listening(self) -> dict[str, str]:
        return {
            **super()._listening(),
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": "server.pem",
            "tls-key-file": "server.key",
            "tls-ca-cert-file": "server.pem",
            "tls-auth-clients": "no",
        }

    def client(self, **options: Any) -> Redis:
        """A client that tries once, and trusts the authority."""
        return super().client(ssl_ca_certs=str(self._authority.certificate), **options)
