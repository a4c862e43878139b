"""Real servers and workers, and batches of random workflows on them."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nodes.brokers import SiteBroker
from nodes.site import WORK, Pool, Site
from nodes.traffic import Traffic

from orchestrator import ControlRefused
from orchestrator.authoring.checks import check
from orchestrator.authoring.loader import dump_yaml, load_text
from orchestrator.embedded import Processes, Servers
from orchestrator.ledger import definitions, verify
from orchestrator.ledger.tables import FINAL
from random_workflows.activities import SLOWNESS
from random_workflows.judge import Verdict
from random_workflows.observation import Observation, observe
from random_workflows.reference import Unpredictable
from random_workflows.strategies import OTHER_QUEUE, Example

#: How long a batch may go without any execution coming to its end, in seconds.
STANDSTILL = 30.0
#: This share of messages is delivered twice, where any are.
DOUBLED = 0.3
_HERE = Path(__file__).parents[1]
_PATH = os.pathsep.join(map(str, (_HERE, _HERE.parent / "integration", _HERE.parents[1])))
_UNFINISHED = f"""
SELECT count(*) FROM orchestrator.execution
WHERE id = ANY(CAST(:ids AS uuid[])) AND status NOT IN ({FINAL})
"""


@dataclass(kw_only=True)
class Tried:
    """An example and what its executions have shown."""

    example: Example
    seen: list[Observation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: Whether everything about it was predicted.
    exact: bool = True
    #: Whether the reference knew what must become of it.
    predicted: bool = True


class Repeating(Traffic):
    """Delivers some messages of segments twice. Were it all of them, what is published for a copy would come twice too,
    and so on: that is no broker's fault any more but a flood."""

    def __init__(self, broker: SiteBroker, seed: str) -> None:
        super().__init__(broker)
        self._random = random.Random(seed)

    def _doubles(self) -> bool:
        return self._random.random() < DOUBLED


@contextmanager
def restless(site: Site, ids: Sequence[str], seed: str) -> Iterator[None]:
    """An operator who pauses and resumes these executions, any of them at any moment; in the end all go on."""
    chance, stop = random.Random(seed), threading.Event()

    def hold(execution: str, seconds: float) -> None:
        with suppress(ControlRefused):
            site.orchestrator.pause(execution, actor="restless", children=False)
            stop.wait(seconds)
            site.orchestrator.resume(execution, actor="restless", children=False)

    def go_on() -> None:
        while not stop.wait(0.02):
            hold(chance.choice(ids), chance.random() * 0.1)

    hands = [threading.Thread(target=go_on) for _ in range(2)]
    for hand in hands:
        hand.start()
    try:
        yield
    finally:
        stop.set()
        for hand in hands:
            hand.join()


@contextmanager
def site() -> Iterator[Site]:
    """Servers of its own and, on them, two nodes of different speed, one for sweeps, and a beat."""
    with ExitStack() as stack:
        servers = stack.enter_context(Servers())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="properties-")))
        processes = stack.enter_context(Processes(folder, grace=5))
        found = Site(servers, processes)
        stack.callback(found.close)
        found.running(*(_pool(name, slowness) for name, slowness in (("quick", "0.3"), ("slow", "2"))))
        yield found


def _pool(name: str, slowness: str) -> Pool:
    env = (("PYTHONPATH", _PATH), ("ORCHESTRATOR_MODULES", "random_workflows.activities"), (SLOWNESS, slowness))
    return Pool(name=name, queues=(WORK, OTHER_QUEUE), env=env)


def attempt(
    site: Site,
    examples: Sequence[Example],
    *,
    seed: str,
    times: int,
    doubling: bool = False,
    pausing: bool = False,
    progress: Callable[[int], object] = lambda done: None,
) -> list[Tried]:
    """Carry examples out side by side, each a few times, and judge them.

    Args:
        seed: what the activities' delays are drawn from.
        doubling: deliver some messages twice.
        pausing: pause and resume executions while they are carried out.
        progress: told, now and then, how many executions have ended.
    """
    tried = [Tried(example=example) for example in examples]
    for each in tried:
        check(each.example.definition, "the generated definition", None)
        assert load_text(dump_yaml(each.example.definition), "its YAML") == each.example.definition
    with Repeating(site.broker, seed) if doubling else nullcontext():
        started = _start(site, examples, seed, times)
        ids = [handle for ids in started for handle in ids]
        with restless(site, ids, seed) if pausing else nullcontext():
            _wait(site, ids, progress)
    found = observe(site, [handle for ids in started for handle in ids])
    for each, ids in zip(tried, started, strict=True):
        each.seen = [found[execution] for execution in ids]
        _judge(each)
    return tried


def broken_claims(site: Site, *, final: bool = True) -> list[str]:
    """What the ledger as a whole says against itself."""
    with site.orchestrator.core.database.connect() as connection:
        broken = [f"{found.name}: {found.sample}" for found in verify.verify(connection, final=final) if not found.ok]
    return broken + [f"history and rows of {difference}" for difference in site.differences()]


def _start(site: Site, examples: Sequence[Example], seed: str, times: int) -> list[list[str]]:
    started = []
    with site.orchestrator.core.database.connect() as connection:
        for example in examples:
            definitions.publish(connection, site.orchestrator.settings.tenant, example.definition)
    for example in examples:
        name = example.definition.name
        handles = [site.start(name, example.input, correlation_id=f"{seed}/{name}/{turn}").id for turn in range(times)]
        started.append(handles)
    return started


def _wait(site: Site, ids: Sequence[str], progress: Callable[[int], object]) -> None:
    left, since = len(ids), time.monotonic()
    while left:
        now = site.value(_UNFINISHED, ids=list(ids))
        if now < left:
            left, since = now, time.monotonic()
            progress(len(ids) - left)
        elif time.monotonic() - since > STANDSTILL:
            return
        time.sleep(0.05)


def _judge(tried: Tried) -> None:
    definition, results = tried.example.definition, []
    for turn, seen in enumerate(tried.seen):
        try:
            verdict = Verdict(definition, tried.example.input, seen)
        except Unpredictable:
            tried.predicted = tried.exact = False
            continue
        tried.problems += [f"execution {turn}: {problem}" for problem in verdict.problems]
        tried.exact = tried.exact and verdict.exact
        results.append(verdict.result())
    if tried.exact and any(result != results[0] for result in results):
        tried.problems.append("its executions have different results")
