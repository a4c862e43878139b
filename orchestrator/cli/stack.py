"""Servers, worker pools and beats for one machine: what `dev` and `demo` stand on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.cli.reach import importable
from orchestrator.config import Settings
from orchestrator.embedded import Process, Processes, Servers, StartFailed
from orchestrator.errors import ConfigurationError
from orchestrator.ledger import figures

#: Seconds that workers have to come up, on a machine that is busy with other things.
START_DEADLINE = 60.0
_POLL = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """A worker pool: which queues it consumes (none: all that are known), with how many processes."""

    queues: tuple[str, ...] = ()
    concurrency: int = 2


#: Two that can stand in for each other.
TWO_POOLS = {"worker-1": Pool(), "worker-2": Pool()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where the servers are."""

    database_url: str
    broker_url: str

    def environment(self, modules: Sequence[str]) -> dict[str, str]:
        """What a program needs in its environment to work on these servers."""
        return {
            "ORCHESTRATOR_DATABASE_URL": self.database_url,
            "ORCHESTRATOR_BROKER_URL": self.broker_url,
            "ORCHESTRATOR_MODULES": ",".join(modules),
        }


@contextmanager
def servers(settings: Settings, root: Path) -> Iterator[Addresses]:
    """The configured servers, or embedded ones whose data stays under `root`.

    Raises:
        ConfigurationError: only one of the two is configured.
        EmbeddedError: the embedded ones cannot be started; DirectoryInUse when they run already.
    """
    if settings.database_url is not None and settings.broker_url is not None:
        yield Addresses(database_url=settings.require_database_url(), broker_url=settings.require_broker_url())
    elif settings.database_url is None and settings.broker_url is None:
        with Servers(root) as own:
            yield Addresses(database_url=own.database_url, broker_url=own.broker_url)
    else:
        raise ConfigurationError(
            "set both ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL, or neither for embedded servers"
        )


class Stack:
    """Worker pools and beats that live no longer than their owner, each with a log."""

    def __init__(self, processes: Processes, environment: Mapping[str, str]) -> None:
        self._processes = processes
        self._environment = environment

    def start_worker(self, name: str, pool: Pool) -> Process:
        """Start a worker pool; it is not up yet when this returns."""
        options = ["--name", name, "--concurrency", str(pool.concurrency)]
        if pool.queues:
            options += ["--queues", ",".join(pool.queues)]
        return self._start(name, "worker", *options)

    def start_beat(self, name: str) -> Process:
        """Start a beat."""
        return self._start(name, "beat")

    def await_workers(self, connection: Connection, workers: Sequence[Process]) -> None:
        """Wait until each has registered its node; StartFailed, with the log's tail, if one does not."""
        deadline = clock.elapsed() + START_DEADLINE
        for worker in workers:
            while figures.node(connection, worker.pid) is None:
                self.require_alive()
                if clock.elapsed() > deadline:
                    reason = f"was not up within {START_DEADLINE:g} s"
                    raise StartFailed(worker.name, reason, self._processes.log_tail(worker.name))
                clock.pause(_POLL)

    def require_alive(self, but: Sequence[str] = ()) -> None:
        """StartFailed, with the log's tail, if a program has ended that is not expected to."""
        for name in self._processes.poll():
            if name not in but:
                raise StartFailed(name, "ended by itself", self._processes.log_tail(name))

    def _start(self, name: str, *arguments: str) -> Process:
        return self._processes.start(name, [sys.executable, "-m", "orchestrator.cli", *arguments], self._environment)


def default_modules() -> tuple[str, ...]:
    """`definitions`, if the working folder has such a module."""
    return ("definitions",) if importable("definitions") else ()


def default_pools() -> dict[str, Pool]:
    """POOLS of `workers.pools` in the working folder, name -> object with queues and concurrency; else two alike."""
    if not importable("workers.pools"):
        return TWO_POOLS
    found = getattr(importlib.import_module("workers.pools"), "POOLS", None)
    if not isinstance(found, Mapping) or not found:
        return TWO_POOLS
    try:
        return {
            str(name): Pool(queues=tuple(pool.queues), concurrency=int(pool.concurrency))
            for name, pool in found.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"workers.pools: each of POOLS has queues and a concurrency: {error}") from error
