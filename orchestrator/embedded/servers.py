"""Database and broker together, under one directory."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.embedded.broker import Broker
from orchestrator.embedded.errors import NotStarted
from orchestrator.embedded.interrupt import sigterm_raises
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.server import Server


class Servers:
    """A PostgreSQL and a broker for one machine, one developer or one test.

    A context manager, entered from the main thread; raises what Server.start raises. On SIGTERM it is left in order,
    by SystemExit.

    Args:
        root: holds the data of both and is used again at the next start; None for a temporary one, removed at the
            end (but not by an owner who is killed by SIGKILL: its servers die, its files stay).
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self._postgres: Postgres | None = None
        self._broker: Server | None = None
        self._exit = ExitStack()

    @property
    def postgres(self) -> Postgres:
        """The database server. Raises NotStarted outside the context."""
        if self._postgres is None:
            raise NotStarted
        return self._postgres

    @property
    def broker(self) -> Server:
        """The broker. Raises NotStarted outside the context."""
        if self._broker is None:
            raise NotStarted
        return self._broker

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database. Raises NotStarted outside the context."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """URL of the broker. Raises NotStarted outside the context."""
        return self.broker.url

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._forget)
            stack.enter_context(sigterm_raises())
            root = self.root or self._temporary(stack)
            self._postgres = stack.enter_context(Postgres(root / "postgres"))
            self._broker = stack.enter_context(self._broker_in(root / "broker"))
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _broker_in(self, directory: Path) -> Server:
        return Broker(directory)

    def _temporary(self, stack: ExitStack) -> Path:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-")))
        root.chmod(0o711)  # a server that became uid 65534 must get through; what is below is open to it alone
        return root

    def _forget(self) -> None:
        self._postgres = self._broker = None
