"""A and B: steps per second, ours and those of plain Celery, in turns on the same servers.

The clock starts before the first enqueue. Plain chains have ended when the last task of each has incremented a counter
in the broker; ours when each execution is recorded as succeeded in the ledger, which is later than its last step. Both
are asked at the same rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Protocol
from uuid import uuid4

from sqlalchemy import text

from benchmarks.apps import plain
from benchmarks.report import Figure, Scale
from benchmarks.stack import Stack
from benchmarks.workflows import LONG
from orchestrator.clock import elapsed

#: Called after each measurement.
Tick = Callable[[], object]

#: How many executions have ended as they should, and how many in another way.
ENDED = text("""
SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status NOT IN ('succeeded', 'running'))
FROM orchestrator.execution WHERE id = ANY(:ids)
""")
RECORDED = text("SELECT count(*) FROM orchestrator.step WHERE execution_id = ANY(:ids) AND status = 'succeeded'")

_WORKFLOWS = {10: "ten", LONG: "thousand"}


class Engine(Protocol):
    """Something that carries out chains of no-op steps."""

    name: str

    def seconds(self, chains: int, steps: int) -> float:
        """How long so many chains of so many steps take, from the first enqueue to the end of the last."""


class Durable:
    """Our engine."""

    def __init__(self, stack: Stack) -> None:
        self.name = "ours"
        self._stack, self._database = stack, stack.orchestrator.core.database

    def seconds(self, chains: int, steps: int) -> float:
        begun = elapsed()
        handles = self._stack.orchestrator.start_many(_WORKFLOWS[steps], [(None, None)] * chains)
        ids = [handle.id for handle in handles]
        # The last is asked for first: one look-up a poll costs the servers as little as plain Celery's counter does.
        self._stack.until(lambda: self._ended(ids[-1:]) and self._ended(ids), f"the end of {chains} executions")
        taken = elapsed() - begun
        with self._database.connect() as connection:
            recorded = connection.execute(RECORDED, {"ids": ids}).scalar_one()
        if recorded != chains * steps:
            raise RuntimeError(f"{recorded} steps are recorded, not {chains * steps}")
        return taken

    def _ended(self, ids: list[str]) -> bool:
        with self._database.connect() as connection:
            succeeded, otherwise = connection.execute(ENDED, {"ids": ids}).one()
        if otherwise:
            raise RuntimeError(f"{otherwise} executions did not succeed")
        return bool(succeeded == len(ids))


class Plain:
    """Plain Celery in one of its settings."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.name = name
        self._stack, self._app = stack, plain.VARIANTS[name]
        self._app.conf.broker_url = stack.broker_url

    def seconds(self, chains: int, steps: int) -> float:
        key = f"benchmarks:{uuid4()}"
        begun = elapsed()
        for _ in range(chains):
            plain.send(self._app, steps, key)
        self._stack.until(lambda: int(self._stack.redis.get(key) or 0) == chains, f"the end of {chains} chains")
        return elapsed() - begun


def many_short(stack: Stack, scale: Scale, tick: Tick) -> list[Figure]:
    """A: many executions of ten steps."""
    return [_compare(stack, scale, tick, part="A", chains=scale.executions, steps=10, bound=3.0)]


def one_long(stack: Stack, scale: Scale, tick: Tick) -> list[Figure]:
    """B: one execution of a thousand steps."""
    return [_compare(stack, scale, tick, part="B", chains=1, steps=LONG, bound=10.0)]


def measurements(scale: Scale) -> int:
    """How often a part ticks."""
    return scale.repeats * (1 + len(plain.VARIANTS))


def _compare(stack: Stack, scale: Scale, tick: Tick, *, part: str, chains: int, steps: int, bound: float) -> Figure:
    with _engines(stack) as engines:
        rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
        for _ in range(scale.repeats):
            # In turns, so that whatever else the machine does meets all alike.
            for engine in engines:
                rates[engine.name].append(chains * steps / engine.seconds(chains, steps))
                tick()
    medians = {name: median(found) for name, found in rates.items()}
    ours = medians.pop("ours")
    best = max(medians, key=lambda name: medians[name])
    return Figure(
        part=part,
        name=f"{chains} x {steps:,} no-op steps, times plain Celery",
        value=ours / medians[best],
        unit="x",
        bound=bound,
        at_least=True,
        details={"ours steps/s": ours, "plain steps/s": medians[best], "plain at its best": best, "all steps/s": rates},
    )


@contextmanager
def _engines(stack: Stack) -> Iterator[list[Engine]]:
    """All of them, with warm pools of two processes each."""
    names = list(plain.VARIANTS)
    engines: list[Engine] = [Durable(stack), *(Plain(stack, name) for name in names)]
    for name in names:
        stack.start_worker(name, f"benchmarks.apps.plain:{name}", name)
    with stack.durable_worker():
        for engine in engines[1:]:
            engine.seconds(40, 10)
        yield engines
    stack.end(*names)
