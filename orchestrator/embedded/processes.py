"""A supervisor for the programs that an owner starts: worker pools, beats."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator import clock
from orchestrator.embedded.errors import AlreadyRunning, BinaryMissing
from orchestrator.embedded.interrupt import sigterm_raises
from orchestrator.embedded.spawn import spawn, tail

_NAME = re.compile(r"\w[\w.@-]*")


class Process:
    """One program that was started: its name, its log and how it fares."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, popen: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        """Process id, which is also that of its group; may be someone else's once the process has ended."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, its exit code, or minus the number of the signal that ended it."""
        return self._popen.poll()

    def wait(self, timeout: float) -> int:
        """Its return code, once it has ended. Raises TimeoutError after `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} did not end within {timeout:g} s") from None

    def signal(self, number: signal.Signals) -> None:
        """Signal the main process only; nothing happens if it has ended."""
        self._popen.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL the process and all it started that did not leave its group, also when it has ended itself."""
        ended = self._popen.poll() is not None
        # While a member of the group lives its id is not given out again: if a process has it, the group is empty.
        if ended and Path(f"/proc/{self.pid}").exists():
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


class Processes:
    """Programs that live no longer than their owner, each with a name and a log under `<root>/logs`.

    A context manager, entered from the main thread. On leaving it, also by Ctrl-C or SIGTERM (which raises SystemExit
    within), all are asked to end at once by SIGTERM; after `grace` seconds their groups are killed. When the owner is
    killed itself, the kernel kills the main processes.

    Args:
        root: folder for logs; created if missing.
        grace: seconds that programs have to end in order.
    """

    def __init__(self, root: Path, *, grace: float = 10.0) -> None:
        self.root = root.absolute()
        self.grace = grace
        self._processes: dict[str, Process] = {}
        self._replaced: list[Process] = []
        self._exit = ExitStack()

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program under a name, in a process group of its own; a name is free again when its program has ended.

        `env` is added to the owner's environment. Raises AlreadyRunning, BinaryMissing, WrongThread, and ValueError
        for a name that cannot be a file's.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} must consist of letters, digits and any of _.@-")
        before = self._processes.get(name)
        if before is not None and before.returncode is None:
            raise AlreadyRunning(name)
        environment = {**os.environ, **(env or {})}  # handed on, not read: settings are config.py's
        if shutil.which(argv[0], path=environment.get("PATH")) is None:
            raise BinaryMissing(argv[0], "install it, or give its full path")
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        process = Process(name, argv, log, spawn(argv, log=log, env=environment))
        self._processes[name] = process
        if before is not None:
            self._replaced.append(before)  # what it left in its group is ended with the rest
        return process

    def kill(self, name: str) -> None:
        """SIGKILL the main process only, as the kernel's memory killer would, and wait until it is gone.

        Its children are left to themselves. Raises KeyError for an unknown name.
        """
        process = self._processes[name]
        process.signal(signal.SIGKILL)
        process.wait(self.grace)

    def terminate(self, name: str, timeout: float = 10.0) -> int:
        """SIGTERM, and SIGKILL to the group after `timeout` seconds; the return code. KeyError for an unknown name."""
        process = self._processes[name]
        process.signal(signal.SIGTERM)
        try:
            return process.wait(timeout)
        except TimeoutError:
            process.kill_group()
            return process.wait(timeout)

    def poll(self) -> list[str]:
        """Names of those that have ended and were not started again."""
        return [name for name, process in self._processes.items() if process.returncode is not None]

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The last lines that a program wrote, earlier starts of the same name included."""
        return tail(self._log(name), lines)

    def __enter__(self) -> Self:
        self._exit.enter_context(sigterm_raises())
        self._exit.callback(self._end_all)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _end_all(self) -> None:
        everyone = [*self._replaced, *self._processes.values()]
        try:
            for process in everyone:
                process.signal(signal.SIGTERM)
            deadline = clock.elapsed() + self.grace
            for process in everyone:
                with suppress(TimeoutError):
                    process.wait(max(0.0, deadline - clock.elapsed()))
        finally:  # an impatient second Ctrl-C lands here too
            for process in everyone:
                process.kill_group()

    def _log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"
