"""A connection that breaks in mid-statement: carried out, not carried out, and carried out late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from ledger.driver import OTHER, OWNER, QUEUE, Begun, Ledger
from ledger.proxy import Proxy
from ledger.races import until
from orchestrator.ledger import claims, database, lost_replies
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.runtime.link import Link, Recovered

#: Words that only the statements in question hold.
SETTLE, CLAIM = "SET status = 'succeeded'", "attempt = s.attempt + 1"


@pytest.fixture
def proxied(proxy: Proxy) -> Iterator[Engine]:
    """An engine whose connections go by way of the proxy."""
    engine = database.connect(proxy.url, pool_size=4, lock_timeout=10)
    yield engine
    engine.dispose()


@pytest.fixture
def link(proxied: Engine) -> Iterator[Link]:
    """A worker's connection by way of the proxy."""
    made = Link(proxied, proxied)
    yield made
    made.close()


@pytest.fixture
def impatient(ledger_url: str) -> Iterator[Link]:
    """A worker's connection that waits for locks for a tenth of a second."""
    engine = database.connect(ledger_url, pool_size=1, lock_timeout=0.1)
    made = Link(engine, engine)
    yield made
    made.close()
    engine.dispose()


@pytest.fixture
def begun(ledger: Ledger) -> Begun:
    """An execution of two steps, one after the other."""
    return ledger.start({"first": (), "second": ("first",)})


def pid(link: Link) -> int:
    """The backend behind a worker's connection."""
    found: int = link.connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return found


def settle(link: Link, held: Claim) -> Settled | Recovered | None:
    """Settle the first step and claim the second, as a segment does."""

    def send(connection: Connection) -> Settled | None:
        return claims.settle_and_claim(
            connection, held, "1", following="second", queue=QUEUE, transactional=False, timeout=None
        )

    return link.settle(held, send, {"succeeded"})


def adopted(ledger: Ledger, begun: Begun) -> list[tuple[str, int]]:
    """What runs under the owner's name."""
    return [(found.path, found.attempt) for found in ledger.do(lost_replies.owned, begun.id, OWNER)]


def assert_settled_once(ledger: Ledger, begun: Begun) -> None:
    assert ledger.events(begun, "step_succeeded", "attempt_fenced") == [("step_succeeded", "first", 1)]
    assert adopted(ledger, begun) == [("second", 1)]


def test_a_settle_and_claim_whose_reply_was_lost_is_known_as_done_and_its_claim_is_adopted(
    ledger: Ledger, begun: Begun, link: Link, proxy: Proxy
) -> None:
    held = ledger.claim(begun, "first")
    proxy.lose_reply(SETTLE)
    assert isinstance(settle(link, held), Recovered)
    assert_settled_once(ledger, begun)


def test_a_settle_and_claim_that_never_arrived_is_sent_again(
    ledger: Ledger, begun: Begun, link: Link, proxy: Proxy
) -> None:
    held = ledger.claim(begun, "first")
    proxy.lose_statement(SETTLE)
    assert settle(link, held) == Settled(halted=False, claimed=True)
    assert_settled_once(ledger, begun)


def test_a_settle_that_is_lost_first_and_whose_reply_is_lost_then_is_known_as_done(
    ledger: Ledger, begun: Begun, link: Link, proxy: Proxy
) -> None:
    held = ledger.claim(begun, "first")
    proxy.lose_statement(SETTLE)
    proxy.lose_reply(SETTLE)
    assert isinstance(settle(link, held), Recovered)
    assert_settled_once(ledger, begun)


def test_a_delayed_settle_that_arrives_before_its_repetition_is_known_as_done(
    ledger: Ledger, begun: Begun, link: Link, proxy: Proxy
) -> None:
    held = ledger.claim(begun, "first")
    proxy.delay(SETTLE)
    proxy.overtaken(SETTLE)
    assert isinstance(settle(link, held), Recovered)
    assert_settled_once(ledger, begun)


def test_a_delayed_settle_that_arrives_after_its_repetition_writes_nothing(
    ledger: Ledger, begun: Begun, link: Link, proxy: Proxy
) -> None:
    held = ledger.claim(begun, "first")
    proxy.delay(SETTLE)
    assert settle(link, held) == Settled(halted=False, claimed=True)
    proxy.deliver()
    assert_settled_once(ledger, begun)


def test_a_settle_that_was_lost_while_the_step_went_to_another_owner_is_fenced(
    ledger: Ledger, begun: Begun, link: Link, proxy: Proxy
) -> None:
    held = ledger.claim(begun, "first")
    ledger.sql("UPDATE orchestrator.step SET owner = :o, attempt = 2 WHERE execution_id = :e", o=OTHER, e=begun.id)
    proxy.lose_statement(SETTLE)
    assert settle(link, held) is None
    assert ledger.step(begun, "first").status == "running"
    assert adopted(ledger, begun) == []


def test_a_settle_whose_backend_is_terminated_while_it_waits_is_sent_again(
    ledger: Ledger, begun: Begun, link: Link
) -> None:
    held = ledger.claim(begun, "first")
    backend = pid(link)
    with ledger.locked(begun) as blocker, ledger.behind(lambda _: settle(link, held)) as settling:
        settling.until_blocked(backend)
        ledger.sql("SELECT pg_terminate_backend(:pid)", pid=backend)
        until(lambda: not ledger.sql("SELECT FROM pg_stat_activity WHERE pid = :pid", pid=backend), "it is gone")
        blocker.commit()
        assert settling.result() == Settled(halted=False, claimed=True)
    assert_settled_once(ledger, begun)


def test_a_settle_waits_for_a_lock_beyond_the_lock_timeout(ledger: Ledger, begun: Begun, impatient: Link) -> None:
    held = ledger.claim(begun, "first")
    backend = pid(impatient)
    with ledger.locked(begun) as blocker, ledger.behind(lambda _: settle(impatient, held)) as settling:
        for _ in range(2):
            settling.until_blocked(backend)
            settling.until_unblocked(backend)
        blocker.commit()
        assert settling.result() == Settled(halted=False, claimed=True)
    assert_settled_once(ledger, begun)


def test_a_claim_whose_reply_was_lost_is_adopted(ledger: Ledger, begun: Begun, link: Link, proxy: Proxy) -> None:
    proxy.lose_reply(CLAIM)
    taken = link.claim(begun.id, "first", owner=OWNER, transactional=False, timeout=None)
    assert taken is not None
    held, facts = taken
    assert (held.path, held.attempt, held.owner) == ("first", 1, OWNER)
    assert (facts.tenant, facts.input, facts.labels) == ("default", {}, {})
    assert settle(link, held) == Settled(halted=False, claimed=True)
    assert_settled_once(ledger, begun)


def test_a_claim_that_never_arrived_is_sent_again(ledger: Ledger, begun: Begun, link: Link, proxy: Proxy) -> None:
    proxy.lose_statement(CLAIM)
    taken = link.claim(begun.id, "first", owner=OWNER, transactional=False, timeout=None)
    assert taken is not None
    assert ledger.events(begun, "step_started") == [("step_started", "first", 1)]


def test_a_claim_whose_statement_was_lost_is_not_made_up_when_another_owner_has_the_step(
    ledger: Ledger, begun: Begun, link: Link, proxy: Proxy
) -> None:
    ledger.claim(begun, "first", OTHER)
    proxy.lose_statement(CLAIM)
    assert link.claim(begun.id, "first", owner=OWNER, transactional=False, timeout=None) is None
