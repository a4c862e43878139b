"""How attempts end: the fencing token decides, and a transactional effect shares its fate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Final

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import TimeoutError as AllTaken

from ledger.driver import OTHER, OWNER, QUEUE, Begun, Ledger
from ledger.proxy import COMMIT, Proxy
from ledger.races import DEADLINE, race, until
from orchestrator.activities.context import StepContext
from orchestrator.activities.registry import Registry
from orchestrator.ledger import claims, database, failures, owners, parks, undos
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.outcome import Failure
from orchestrator.runtime import guard
from orchestrator.runtime.guard import Attempt, Ended
from orchestrator.runtime.link import Link, Recovered

LINE: Final = {"first": (), "second": ("first",)}

#: Every way to end an attempt.
ENDS: Final[dict[str, Callable[[Connection, Claim], Settled | None]]] = {
    "claim": lambda connection, held: claims.settle_and_claim(
        connection, held, "1", following="second", queue=QUEUE, transactional=False, timeout=None
    ),
    "spread": lambda connection, held: claims.settle_and_spread(
        connection, held, "1", successors='[{"path": "second", "status": "ready", "queue": "orchestrator"}]'
    ),
    "finish": partial(claims.settle_and_finish, output="1", result="1"),
    "retry": partial(failures.settle_retry, error="{}", delay=0),
    "failed": partial(failures.settle_failed, error="{}", outcome="failed"),
    "timed out": partial(failures.settle_failed, error="{}", outcome="timed_out"),
    "caught": partial(failures.settle_caught, error="{}", outcome="failed", exit_by="error", successors="[]"),
    "breaking": partial(failures.settle_breaking, error="{}", outcome="failed", container="around"),
    "park": partial(parks.park, resume={}, seconds=60),
    "undo": partial(undos.settle_undo, outcome="succeeded", output="1", error=None),
}


def rows(ledger: Ledger, begun: Begun) -> list[object]:
    """All that the ledger holds of an execution."""
    return [
        ledger.sql(f"SELECT * FROM orchestrator.{table} WHERE {column} = :e ORDER BY 2", e=begun.id)
        for table, column in (("execution", "id"), ("step", "execution_id"), ("event", "execution_id"))
    ]


def give_to(ledger: Ledger, begun: Begun, owner: str) -> Claim:
    """Let the first step's owner be taken for dead, and another claim the step."""
    ledger.do(owners.release, OWNER)
    return ledger.claim(begun, "first", owner)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_late_owner_writes_nothing_whatever_it_settles(
    ledger: Ledger, end: Callable[[Connection, Claim], Settled | None]
) -> None:
    begun = ledger.start(LINE)
    late = ledger.claim(begun, "first")
    give_to(ledger, begun, OTHER)
    before = rows(ledger, begun)
    assert ledger.do(end, late) is None
    assert rows(ledger, begun) == before


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_of_many_that_settle_one_attempt_one_does(
    ledger: Ledger, end: Callable[[Connection, Claim], Settled | None]
) -> None:
    begun = ledger.start(LINE)
    held = ledger.claim(begun, "first")
    settled = race([lambda: ledger.do(end, held)] * 4)
    assert [found is None for found in settled].count(False) == 1


def test_a_late_owner_of_the_same_name_writes_nothing_for_an_earlier_attempt(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    late = ledger.claim(begun, "first")
    assert give_to(ledger, begun, OWNER).attempt == 2
    for end in ENDS.values():
        assert ledger.do(end, late) is None


def test_a_fenced_attempt_is_kept_in_the_history(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    late = ledger.claim(begun, "first")
    give_to(ledger, begun, OTHER)
    ledger.do(claims.record_fenced, late)
    found = ledger.sql(
        "SELECT path, attempt, data FROM orchestrator.event WHERE execution_id = :e AND type = 'attempt_fenced'",
        e=begun.id,
    )
    assert [tuple(row) for row in found] == [("first", 1, {"owner": OWNER})]


def test_attempt_numbers_grow_over_retries_and_releases_and_the_retry_budget_is_counted_apart(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    seen = []
    for round_ in range(3):
        held = ledger.claim(begun, "first")
        seen.append((held.attempt, held.failures))
        if round_ == 1:
            ledger.do(owners.release, OWNER)
        else:
            ledger.do(failures.settle_retry, held, "{}", delay=0)
            ledger.sql(
                "UPDATE orchestrator.step SET status = 'ready', ready_xid = '1', due_at = NULL "
                "WHERE execution_id = :e AND path = 'first'",
                e=begun.id,
            )
    held = ledger.claim(begun, "first")
    assert [*seen, (held.attempt, held.failures)] == [(1, 0), (2, 1), (3, 1), (4, 2)]


def test_of_many_that_claim_one_step_one_does(ledger: Ledger) -> None:
    for _ in range(10):
        begun = ledger.start(LINE)
        found = race([lambda n=n, b=begun: ledger.try_claim(b, "first", f"boot-{n}.1") for n in range(8)])  # type: ignore[misc]
        assert [held is None for held in found].count(False) == 1
        assert ledger.events(begun, "step_started") == [("step_started", "first", 1)]


# --- transactional activities ---


@pytest.fixture(scope="module")
def effects(ledger: Ledger) -> None:
    """A table of the user's."""
    ledger.sql("CREATE TABLE effect (execution_id uuid)")


@pytest.fixture
def link(ledger: Ledger) -> Iterator[Link]:
    """A worker's connection."""
    made = Link(ledger.engine, ledger.engine)
    yield made
    made.close()


@pytest.fixture
def lossy(proxy: Proxy) -> Iterator[Link]:
    """A worker's connection by way of the proxy."""
    engine = database.connect(proxy.url, pool_size=4, lock_timeout=10)
    # A new connection has a transaction of its own at first, which is not to be struck.
    engine.connect().close()
    made = Link(engine, engine)
    yield made
    made.close()
    engine.dispose()


def perform(link: Link, begun: Begun, held: Claim, meanwhile: Callable[[], object] = lambda: None) -> Ended:
    """Make an attempt of a transactional activity, as a segment does."""

    def write(context: StepContext) -> int:
        context.connection.execute(text("INSERT INTO effect VALUES (:e)"), {"e": context.execution_id})
        meanwhile()
        return context.attempt

    registry = Registry()
    registry.register(write, transactional=True)
    context = StepContext(
        tenant="default",
        execution_id=begun.id,
        definition="test",
        version=1,
        path=held.path,
        attempt=held.attempt,
        idempotency_key="key",
    )
    attempt = Attempt(
        held=held,
        activity="write",
        parameters=dict,
        context=context,
        timeout=None,
        within=lambda _: nullcontext(),
        limit=1_000,
    )
    return guard.perform(
        attempt,
        registry,
        link,
        lambda connection, output: claims.settle_and_finish(connection, held, output, result="1"),
    )


def count(ledger: Ledger, begun: Begun) -> int:
    """How often the effect took place."""
    found: int = ledger.sql("SELECT count(*) FROM effect WHERE execution_id = :e", e=begun.id)[0][0]
    return found


@pytest.mark.usefixtures("effects")
def test_a_transactional_effect_commits_with_its_record(ledger: Ledger, link: Link) -> None:
    begun = ledger.start({"first": ()})
    held = ledger.claim(begun, "first")
    unseen: list[int] = []
    ended = perform(link, begun, held, lambda: unseen.append(count(ledger, begun)))
    assert ended == Settled(halted=False, finished="succeeded")
    assert (unseen, count(ledger, begun)) == ([0], 1)


@pytest.mark.usefixtures("effects")
def test_a_fenced_transactional_activity_leaves_nothing(ledger: Ledger, link: Link) -> None:
    begun = ledger.start({"first": ()})
    late = ledger.claim(begun, "first")
    assert perform(link, begun, late, lambda: give_to(ledger, begun, OTHER)) is None
    assert count(ledger, begun) == 0
    assert ledger.step(begun, "first").owner == OTHER


@pytest.mark.usefixtures("effects")
def test_a_failed_transactional_activity_leaves_nothing(ledger: Ledger, link: Link) -> None:
    begun = ledger.start({"first": ()})
    held = ledger.claim(begun, "first")
    ended = perform(link, begun, held, lambda: 1 / 0)
    assert isinstance(ended, Failure)
    assert ended.name == "ZeroDivisionError"
    assert count(ledger, begun) == 0
    assert ledger.step(begun, "first").status == "running"


@pytest.mark.usefixtures("effects")
def test_a_commit_whose_reply_was_lost_is_known_as_done_and_its_effect_is_there_once(
    ledger: Ledger, lossy: Link, proxy: Proxy
) -> None:
    begun = ledger.start({"first": ()})
    held = ledger.claim(begun, "first")
    proxy.lose_reply(COMMIT)
    assert isinstance(perform(lossy, begun, held), Recovered)
    assert (proxy.pending, count(ledger, begun), ledger.status(begun)) == (0, 1, "succeeded")


@pytest.mark.usefixtures("effects")
@pytest.mark.parametrize("lost", [COMMIT, "INSERT INTO effect", "SET status = 'succeeded'"])
def test_a_transaction_that_was_lost_is_made_again_and_its_effect_is_there_once(
    ledger: Ledger, lossy: Link, proxy: Proxy, lost: str
) -> None:
    begun = ledger.start({"first": ()})
    held = ledger.claim(begun, "first")
    proxy.lose_statement(lost)
    assert perform(lossy, begun, held) == Settled(halted=False, finished="succeeded")
    assert (proxy.pending, count(ledger, begun)) == (0, 1)


# --- deadlocks ---


def lock_both(engine: Engine, begun: Begun, paths: tuple[str, str], both: threading.Barrier, tries: list[str]) -> None:
    """Lock two steps in the order given; the first time, when the other one holds what is asked for second."""

    def attempt() -> None:
        with database.transaction(engine) as connection:
            for path in paths:
                lock = text("UPDATE orchestrator.step SET queue = 'q' WHERE execution_id = :e AND path = :p")
                connection.execute(lock, {"e": begun.id, "p": path})
                if path == paths[0]:
                    tries.append(path)
                    if tries.count(path) == 1:
                        both.wait(DEADLINE)

    database.persist(attempt)


def test_a_deadlock_is_undone_by_the_server_and_its_statements_are_sent_again(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()})
    both, tries = threading.Barrier(2), list[str]()
    race(
        [
            lambda: lock_both(ledger.engine, begun, ("one", "two"), both, tries),
            lambda: lock_both(ledger.engine, begun, ("two", "one"), both, tries),
        ]
    )
    assert len(tries) == 3, "one of the two was the victim, and came again"


# --- connections that are all taken ---


def test_who_never_gives_up_waits_for_a_connection_however_long_others_have_them(ledger_url: str) -> None:
    engine = create_engine(ledger_url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    tries = list[int]()

    def attempt() -> int:
        tries.append(1)
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT 1")).scalar_one())

    taken = engine.connect()
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(database.persist, attempt)
        until(lambda: len(tries) > 2, "it has tried again")
        with pytest.raises(AllTaken):
            database.persist(attempt, give_up_after=1)
        taken.close()
        assert answer.result(DEADLINE) == 1
    engine.dispose()
