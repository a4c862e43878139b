"""Engines that are broken on purpose, each in one place: the checker is worth something only if it catches them.

Loaded into workers and clients as one more module of definitions; which one they become, a variable says.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, TextClause, create_engine, text

from orchestrator.activities.context import StepContext
from orchestrator.compiler import reverse as compiler
from orchestrator.engine import saga, service
from orchestrator.engine import start as starting
from orchestrator.ledger import claims, halts, joins, lost_replies, owners, probes, stragglers
from orchestrator.ledger.fragments import STILL_HELD
from orchestrator.ledger.statement import Statement
from orchestrator.ledger.tables import OPEN
from orchestrator.runtime.node import NodeLife

#: Names the mutant in a process's environment.
VARIABLE = "FAULTS_MUTANT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One of them."""

    name: str
    #: The fault under which it shows; `none` for a load alone.
    fault: str
    #: Words of the claim that it must violate.
    caught_by: str
    break_it: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, *, fault: str, caught_by: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a function that breaks this process's engine."""

    def register(break_it: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[name] = Mutant(name=name, fault=fault, caught_by=caught_by, break_it=break_it)
        return break_it

    return register


def _reword(module: ModuleType, name: str, *changes: tuple[str, str]) -> None:
    """Change the wording of a statement; ValueError if it is not worded so any more."""
    statement = getattr(module, name)
    worded = statement.text
    for before, after in changes:
        if before not in worded:
            raise ValueError(f"{module.__name__}.{name} does not hold: {before}")
        worded = worded.replace(before, after)
    setattr(module, name, Statement(worded) if isinstance(statement, Statement) else text(worded))


# By either claim: the zombie settles what another has by then, and that other may settle it once more.
@mutant("settles without its token", fault="3", caught_by="settle")
def _no_token() -> None:
    for name in ("SETTLE_AND_CLAIM", "SETTLE_AND_SPREAD", "SETTLE_AND_FINISH"):
        _reword(
            claims,
            name,
            (STILL_HELD, "execution_id = :execution AND path = :path AND CAST(:owner AS text) IS NOT NULL"),
        )


@mutant("publishes before it commits", fault="none", caught_by="published again")
def _publish_first() -> None:
    insert = starting.insert
    of_service: dict[str, Any] = {}

    def start(self: service.Service, *args: Any, **options: Any) -> Any:
        of_service["core"] = self.core
        return original(self, *args, **options)

    def publish_then_insert(connection: Connection, target: starting.Target, news: Any) -> Any:
        early = [starting.Started(execution_id=new.id, created=True, ready=True) for new in news]
        starting.publisher(of_service["core"], target, early)()
        time.sleep(0.3)  # longer than a message takes on a busy machine
        started = insert(connection, target, news)
        return [replace(one, ready=False) for one in started]

    original = service.Service.start
    service.Service.start = start  # type: ignore[method-assign]
    starting.insert = publish_then_insert


@mutant("claims steps of whatever is cancelled", fault="none", caught_by="after a cancellation")
def _claims_cancelled() -> None:
    _reword(claims, "CLAIM", ("AND x.status IN ('running')", ""), ("AND NOT s.halt", ""))
    live = """(SELECT status = 'running' AS live FROM orchestrator.execution
             WHERE id = :execution AND (status = 'running' OR status IN ('pausing', 'paused') AND error IS NULL)) x
    WHERE NOT d.halt"""
    always = "(SELECT true AS live FROM orchestrator.execution WHERE id = :execution) x"
    _reword(claims, "SETTLE_AND_CLAIM", (live, always), ("(SELECT halt FROM d) AS halt", "false AS halt"))


@mutant("fires a join for whoever asks", fault="4a", caught_by="fire once")
def _joins_again() -> None:
    ever = "status IN ('blocked', 'ready', 'succeeded')"
    _reword(
        joins,
        "JOIN",
        ("AND path = :path AND status = 'blocked'", f"AND path = :path AND {ever}"),
        ("AND s.status = 'blocked' AND NOT s.halt", f"AND s.{ever} AND NOT s.halt"),
    )


@mutant("compensates while attempts live", fault="none", caught_by="while a forward attempt lives")
def _undoes_early() -> None:
    drained = f"""AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND {OPEN})"""
    _reword(halts, "BEGIN_UNDO", (drained, ""))
    drain = halts.drain

    def drain_and_go_on(*args: Any, **options: Any) -> int:
        drain(*args, **options)
        return 0

    halts.drain = drain_and_go_on


@mutant("compensates beside the losers of a race", fault="none", caught_by="while a forward attempt lives")
def _undoes_beside_losers() -> None:
    _reword(halts, "BEGIN_UNDO", (f"AND NOT {stragglers.at_work(':execution')}", ""))


@mutant("goes by its workers' clocks", fault="7b", caught_by="only this fault")
def _own_clock() -> None:
    beat = text(str(owners.BEAT.text).replace("seen = clock_timestamp()", "seen = to_timestamp(:now)"))

    def beat_by_own_clock(connection: Connection, boot_id: str, **given: Any) -> bool | None:
        return connection.execute(beat, {"boot": boot_id, "now": time.time(), **given}).scalar()

    owners.beat = beat_by_own_clock


@mutant("takes a backlog for lost", fault="10a", caught_by="only this fault")
def _no_probe() -> None:
    probed = """SELECT id, queue, horizon FROM orchestrator.probe
    WHERE passes > 0 AND consumed_at < clock_timestamp() - interval '1 second' FOR UPDATE SKIP LOCKED"""
    old = """SELECT CAST(-1 AS bigint) AS id, queue, pg_current_snapshot() AS horizon FROM (
        SELECT DISTINCT queue FROM orchestrator.step
        WHERE status = 'ready' AND ready_at < clock_timestamp() - interval '2 seconds') q"""
    _reword(probes, "OVERTAKEN", (probed, old))


@mutant("claims what somebody has", fault="4a", caught_by="one attempt at a time")
def _claims_running() -> None:
    _reword(claims, "CLAIM", ("s.status = 'ready'", "s.status IN ('ready', 'running')"))


@mutant("lets effects commit by themselves", fault="5h", caught_by="no transactional effect twice")
def _own_commits() -> None:
    engine = create_engine(os.environ["ORCHESTRATOR_DATABASE_URL"], isolation_level="AUTOCOMMIT", pool_size=1)
    StepContext.connection = property(lambda _: engine.connect())  # type: ignore[method-assign, assignment]


@mutant("forgets idempotency keys", fault="none", caught_by="one execution for each idempotency key")
def _no_keys() -> None:
    prepare = starting.prepare

    def without_key(*args: Any, **options: Any) -> Any:
        return replace(prepare(*args, **options), idempotency_key=None)

    starting.prepare = without_key


@mutant("takes steps from the living", fault="none", caught_by="no attempt is repeated")
def _robs() -> None:
    statement = str(owners.RELEASE_LOST_CHILDREN.text)
    begin, end = statement.index("EXISTS ("), statement.index(" FOR UPDATE")
    robbed = f"{statement[:begin]}step.started_at < clock_timestamp() - interval '50 ms'{statement[end:]}"
    owners.RELEASE_LOST_CHILDREN = text(robbed)


@mutant("takes a lost reply for a refusal", fault="5e", caught_by="no settle by a fenced owner")
def _gives_up_settles() -> None:
    def never(*_: Any) -> None:
        """As if the step were another's."""

    lost_replies.standing = never  # type: ignore[assignment]


@mutant("compensates in the order of completion", fault="none", caught_by="compensations in reverse order")
def _undoes_forwards() -> None:
    reverse = compiler.reverse
    vars(saga)["reverse"] = lambda *args: tuple(reversed(reverse(*args)))


@mutant("never misses a dead child", fault="1c", caught_by="left open or claimed")
def _blind_parent() -> None:
    def nothing(*_: Any) -> None:
        """Nobody is told."""

    NodeLife.watch_children = nothing  # type: ignore[method-assign, assignment]
    NodeLife.child_died = nothing  # type: ignore[method-assign, assignment]
    NodeLife._living = lambda self: [os.getpid()]  # type: ignore[method-assign]
    owners.RELEASE_LOST_CHILDREN = _of_nobody(owners.RELEASE_LOST_CHILDREN)


def _of_nobody(statement: TextClause) -> TextClause:
    return text(str(statement.text).replace("status = 'running'", "false", 1))


if name_ := os.environ.get(VARIABLE):
    try:
        MUTANTS[name_].break_it()
    except Exception:
        # A worker goes on without a module that cannot be loaded: as an engine that is whole, and would go free.
        traceback.print_exc()
        os._exit(70)
