"""PgBouncer before a PostgreSQL of ours, in transaction mode unless told otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psycopg
from sqlalchemy import make_url

from orchestrator.embedded import Account, Postgres, Server
from orchestrator.embedded.spawn import adopt
from servers.debian import program

#: As strict as PgBouncer is by itself: startup parameters that it does not know are refused.
_SETTINGS = {
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "auth_type": "scram-sha-256",
    "auth_file": "userlist.txt",
    "pool_mode": "transaction",
    "default_pool_size": "20",
    "max_client_conn": "500",
    # One transaction is on another connection than the one before: what a session was told is soon missed.
    "min_pool_size": "3",
    "server_round_robin": "1",
    # It would not look for PostgreSQL again for 15 s after that has been away.
    "server_login_retry": "0.2",
}


class PgBouncer(Server):
    """A PgBouncer on 127.0.0.1 for all databases of a server. See Server for life cycle and arguments.

    Args:
        upstream: the PostgreSQL behind it, whose user and password are those of its clients; started before it.
        settings: of the section [pgbouncer], in the place of ours.
    """

    program: ClassVar[str] = "pgbouncer"
    #: At once; SIGINT would wait for clients.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        directory: Path,
        upstream: Postgres,
        *,
        port: int | None = None,
        account: Account | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port=port, account=account)
        self._upstream = upstream
        self._settings = {**_SETTINGS, **(settings or {})}

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the upstream's database through the pooler. Raises NotStarted before the first start."""
        return make_url(self._upstream.url).set(port=self.port).render_as_string(hide_password=False)

    def _binary(self) -> Path:
        return program("pgbouncer", "pgbouncer")

    def _command(self) -> Sequence[str]:
        return [str(self._binary()), "pgbouncer.ini"]

    def _prepare(self, account: Account, lock: int) -> None:
        upstream = make_url(self._upstream.url)
        settings = {**self._settings, "listen_port": str(self.port), "admin_users": str(upstream.username)}
        lines = [
            "[databases]",
            f"* = host=127.0.0.1 port={self._upstream.port}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        self._write("pgbouncer.ini", "\n".join(lines))
        self._write("userlist.txt", f'"{upstream.username}" "{upstream.password}"')
        adopt(self.directory, account)

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{text}\n")

    def _answers(self) -> bool:
        url = make_url(self.url)
        try:
            # Its own console: whether PostgreSQL is up is another question.
            psycopg.connect(
                host="127.0.0.1",
                port=self.port,
                user=url.username,
                password=url.password,
                dbname="pgbouncer",
                connect_timeout=2,
            ).close()
        except psycopg.OperationalError:
            return False
        return True
