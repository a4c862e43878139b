"""A client: starts executions at a steady pace, signals and cancels some, and writes down what it was told.

    python -m fault_suite.client MARK SEED RATE

It ends when the file `stop-MARK` appears. What it has started and was told of must end well, whatever becomes of it.
"""

from __future__ import annotations

import heapq
import importlib
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from fault_suite import outside, workload
from fault_suite.outside import Answer
from orchestrator import ControlRefused, ExecutionNotFound, Orchestrator, OrchestratorError, Settings, SignalRefused
from orchestrator.ledger import database

_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")
#: How often each workflow is started, of the sum of all.
MIX = {
    "chain": 25,
    "fan": 20,
    "saga": 10,
    "partly": 5,
    "race": 4,
    "approval": 12,
    "doomed": 8,
    "later": 8,
    "unsteady": 7,
    "loop": 5,
}
#: One in so many chains is started under a key, twice.
KEYED = 3


def evenly(weights: Mapping[str, int], chosen: random.Random) -> Iterator[str]:
    """Names as often as their weights say, each as evenly spread as can be, from anywhere in the round: a rate over a
    second is then the rate, and not the luck of the draw.

    Smooth weighted round-robin, as nginx has it (commit 52327e0 of nginx, 2012).
    """
    total = sum(weights.values())
    current = dict.fromkeys(weights, 0)
    for number in itertools.count(-chosen.randrange(total)):
        for name, weight in weights.items():
            current[name] += weight
        best = max(current, key=lambda name: current[name])
        current[best] -= total
        if number >= 0:
            yield best


@dataclass(order=True)
class _Due:
    at: float
    number: int
    act: Callable[[], object] = field(compare=False)


class Client:
    """One client, with what it still has to do."""

    def __init__(self, mark: str, seed: int) -> None:
        self._mark, self._random = mark, random.Random(seed)
        self._outside = outside.present()
        # One connection: it asks one thing at a time.
        self._orchestrator = Orchestrator(pool_size=1)
        self._due: list[_Due] = []
        self._number = itertools.count()
        self._names = evenly(MIX, self._random)

    def go_on(self, rate: float) -> None:
        """Start `rate` executions a second until told to stop, then do what is still due."""
        stop = self._outside.folder / f"stop-{self._mark}"
        following = time.monotonic()
        while not stop.exists():
            now = time.monotonic()
            if now >= following:
                # After an outage it does not catch up: users would not either.
                following = max(following + 1 / rate, now - 1)
                self._start()
            self._act(now)
            time.sleep(max(0.0, min(following, self._next()) - time.monotonic(), 0.001))
        while self._due:
            time.sleep(max(0.0, self._next() - time.monotonic()))
            self._act(time.monotonic())

    def _next(self) -> float:
        return self._due[0].at if self._due else float("inf")

    def _act(self, now: float) -> None:
        while self._due and self._due[0].at <= now:
            heapq.heappop(self._due).act()

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._due, _Due(time.monotonic() + seconds, next(self._number), act))

    def _start(self) -> None:
        name = next(self._names)
        given: Any = {"items": list(range(self._random.randint(3, 7)))} if name == "loop" else {}
        key = None
        if name == "chain" and self._random.randrange(KEYED) == 0:
            key = f"{self._mark}-{self._random.getrandbits(48):x}"
            self._later(self._random.uniform(0, 1), lambda: self._begin(name, given, key))
        execution = self._begin(name, given, key)
        if execution is None:
            return
        if name == "approval":
            self._later(self._random.uniform(0, 0.6), lambda: self._signal(execution))
        if name == "doomed":
            self._later(self._random.uniform(0.05, 1.2), lambda: self._cancel(execution))

    def _begin(self, name: str, given: Any, key: str | None) -> str | None:
        try:
            handle = self._orchestrator.start(name, given, idempotency_key=key, correlation_id=self._mark)
        except OrchestratorError as error:
            self._tell(kind="refused", definition=name, key=key, reason=f"{type(error).__name__}: {error}")
            return None
        self._tell(kind="started", definition=name, execution=handle.id, key=key)
        return handle.id

    def _signal(self, execution: str) -> None:
        try:
            self._orchestrator.signal(execution, "go", {}, id="go")
        except (SignalRefused, ExecutionNotFound) as error:
            self._tell(kind="refused", execution=execution, reason=f"{type(error).__name__}: {error}")
        except OrchestratorError:
            self._later(0.5, lambda: self._signal(execution))
        else:
            self._tell(kind="signalled", execution=execution)

    def _cancel(self, execution: str) -> None:
        try:
            self._orchestrator.cancel(execution, actor="client", reason="no longer wanted")
        except (ControlRefused, ExecutionNotFound) as error:
            self._tell(kind="refused", execution=execution, reason=f"{type(error).__name__}: {error}")
        except OrchestratorError:
            self._later(0.5, lambda: self._cancel(execution))
        else:
            self._tell(kind="cancelled", execution=execution, database_at=self._database_clock())

    def _database_clock(self) -> float:
        def ask() -> float:
            with self._orchestrator.core.database.connect() as connection:
                return float(connection.execute(_CLOCK).scalar_one())

        return database.persist(ask)

    def _tell(self, **answer: Any) -> None:
        self._outside.answer(self._mark, Answer(at=time.monotonic(), **answer))


if __name__ == "__main__":
    assert workload.ENDS
    # What an orchestrator loads by itself only when it is first asked for a definition.
    for module in Settings().modules:
        importlib.import_module(module)
    Client(sys.argv[1], int(sys.argv[2])).go_on(float(sys.argv[3]))
