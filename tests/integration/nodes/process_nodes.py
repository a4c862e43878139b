"""pytest-celery's nodes on local processes: what a container offers, done with signals and files."""

from __future__ import annotations

import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_celery import CeleryTestBroker, CeleryTestContainer, CeleryTestNode, CeleryTestWorker

from nodes.waiting import eventually
from orchestrator.embedded import Process, Processes, Server


class ProcessContainer(CeleryTestContainer):
    """A program that looks like a container: its id is the process id, its log is its output.

    Args:
        prompt: what it logs once it is ready.
        queues: what it consumes; for workers.
    """

    def __init__(
        self,
        processes: Processes,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        prompt: str,
        queues: Sequence[str] = (),
    ) -> None:
        self._processes, self._name, self._argv, self._env, self._prompt = processes, name, argv, env, prompt
        self._queues = tuple(queues)
        self._process: Process | None = None
        self._begun = 0

    @property
    def process(self) -> Process:
        """The process of the last start."""
        assert self._process is not None, f"{self._name} was never started"
        return self._process

    @property
    def id(self) -> str:
        return str(self.process.pid)

    @property
    def name(self) -> str:
        return self._name

    @property
    def status(self) -> str:
        return "running" if self.process.returncode is None else "exited"

    @property
    def ready_prompt(self) -> str:
        return self._prompt

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    def start(self) -> None:
        """Start the program; its log goes on behind what an earlier start wrote."""
        log = self._processes.root / "logs" / f"{self._name}.log"
        self._begun = log.stat().st_size if log.exists() else 0
        self._process = self._processes.start(self._name, self._argv, self._env)

    def logs(self) -> str:
        """What was written since the last start."""
        with self.process.log.open("rb") as file:
            file.seek(self._begun)
            return file.read().decode(errors="replace")

    def ready(self) -> bool:
        """Wait until it says so; AssertionError with its log if it ends before."""
        eventually(lambda: self._prompt in self.logs() or self.status == "exited", f"{self._name} is ready")
        assert self.status == "running", f"{self._name} has ended:\n{self.logs()[-4000:]}"
        return True

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal)
        self.process.signal(number)
        if number is signals.SIGKILL:
            self.process.wait(10)

    def reload(self) -> None:
        """A process is as it is."""

    def restart(self, timeout: float = 10) -> None:
        if self.status == "running":
            self._processes.terminate(self._name, timeout)
        self.start()
        self.ready()

    def exec_run(self, cmd: str | Sequence[str], **_: Any) -> tuple[int, bytes]:
        done = subprocess.run(cmd, shell=isinstance(cmd, str), capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def teardown(self) -> None:
        if self._process is not None and self.status == "running":
            self._processes.terminate(self._name)

    @classmethod
    def worker_queue(cls) -> str:
        return "orchestrator"

    def worker_name(self) -> str:
        return self._name


class BrokerContainer(CeleryTestContainer):
    """A broker of ours as a container."""

    def __init__(self, broker: Server) -> None:
        self._broker = broker

    @property
    def id(self) -> str:
        return str(self._broker.pid)

    @property
    def name(self) -> str:
        return "broker"

    @property
    def status(self) -> str:
        return "running" if self._broker.running else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self._broker.url, "host_url": self._broker.url}

    def ready(self) -> bool:
        return self._broker.running

    def logs(self) -> str:
        return self._broker.log_tail()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        self._broker.kill()

    def reload(self) -> None:
        """It is as it is."""

    def restart(self, timeout: float = 10) -> None:
        self._broker.restart()

    def teardown(self) -> None:
        """Whoever started the server stops it."""


class BrokerNode(CeleryTestBroker):
    """A broker of ours as a node."""


class BeatNode(CeleryTestNode):
    """A beat process."""


class WorkerNode(CeleryTestWorker):
    """A worker pool: its main process and its children."""

    container: ProcessContainer

    @property
    def pid(self) -> int:
        """Of the main process."""
        return self.container.process.pid

    @property
    def alive(self) -> bool:
        """Whether the main process runs."""
        return bool(self.container.status == "running")

    def children(self) -> list[int]:
        """Process ids of the pool's live children."""
        try:
            found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except FileNotFoundError:
            return []
        return [int(pid) for pid in found]

    def owns(self, pid: int) -> bool:
        """Whether a process is this node's."""
        return pid in {self.pid, *self.children()}

    def freeze(self) -> list[int]:
        """SIGSTOP the whole node, its children last; their ids, for `thaw`."""
        os.kill(self.pid, signals.SIGSTOP)
        pids = [self.pid, *self.children()]
        for pid in pids[1:]:
            os.kill(pid, signals.SIGSTOP)
        return pids

    def thaw(self, pids: Sequence[int]) -> None:
        """SIGCONT what was frozen."""
        for pid in pids:
            os.kill(pid, signals.SIGCONT)

    def wait_ended(self, timeout: float) -> int:
        """The return code of the main process once it has ended."""
        return int(self.container.process.wait(timeout))

    def connections_to(self, port: int) -> dict[int, int]:
        """process id -> its open TCP connections to a local port."""
        return {pid: connections(pid, port) for pid in (self.pid, *self.children())}


def connections(pid: int, port: int) -> int:
    """How many TCP connections a process has to a local port."""
    established, inodes = "01", set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == established and int(fields[2].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(descriptor) in inodes
        except FileNotFoundError:
            continue
    return found


def celery(*arguments: str) -> list[str]:
    """The command line of a Celery program of this environment."""
    return [sys.executable, "-m", "celery", "-A", "nodes.app", *arguments]


def since(moment: float) -> float:
    """Seconds from a moment on the monotonic clock."""
    return time.monotonic() - moment
