"""What attempts log: buffered, written in batches, never waited for."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from ledger.driver import Begun, Ledger
from ledger.races import until
from orchestrator.config import Settings
from orchestrator.ledger import attempt_logs
from orchestrator.runtime.attempt_log import BUFFER, AttemptLogs
from orchestrator.telemetry import attempt_fields

shop = logging.getLogger("shop")


@pytest.fixture
def logs(ledger: Ledger) -> Iterator[AttemptLogs]:
    made = AttemptLogs(ledger.engine, Settings(log_limit=3 * BUFFER))
    made.install()
    level, shop.level = shop.level, logging.INFO
    yield made
    shop.setLevel(level)
    logging.getLogger().removeHandler(made)
    logging.getLogger("celery.task").removeHandler(made)


def messages(ledger: Ledger, begun: Begun) -> list[str]:
    rows = ledger.do(attempt_logs.read, begun.id, path=None, level=0)
    return [row["message"] for row in rows]


def test_an_activity_never_waits_for_a_database_that_does_not_answer(ledger: Ledger, logs: AttemptLogs) -> None:
    begun = ledger.start({"one": ()})
    with ledger.open() as connection:
        connection.execute(text("LOCK TABLE orchestrator.attempt_log IN ACCESS EXCLUSIVE MODE"))
        with attempt_fields(execution_id=begun.id, path="one", attempt=1):
            # Were each to wait for an answer, this would never end.
            for number in range(2 * BUFFER):
                shop.info("%s", number)
        connection.commit()
    until(lambda: len(messages(ledger, begun)) >= BUFFER, "what fitted is written")
    logs.flush()
    kept = messages(ledger, begun)
    assert kept == [str(number) for number in range(len(kept))]
    assert BUFFER <= len(kept) < 2 * BUFFER, "what did not fit was dropped"


def test_one_record_that_cannot_be_kept_takes_no_others_with_it(ledger: Ledger, logs: AttemptLogs) -> None:
    begun = ledger.start({"one": ()})
    for path in ("one", "no\0path", "one"):
        with attempt_fields(execution_id=begun.id, path=path, attempt=1 if path == "one" else 2):
            shop.info("said")
    with attempt_fields(execution_id=begun.id, path="one", attempt=2):
        shop.info("a \ud800 surrogate, and too long: %s", "x" * 10_000)
    logs.flush()
    short, long = messages(ledger, begun)
    assert short == "said"
    assert len(long) == 4096


def test_nothing_is_kept_outside_of_attempts(ledger: Ledger, logs: AttemptLogs) -> None:
    shop.error("outside")
    logs.flush()
    assert ledger.sql("SELECT count(*) FROM orchestrator.attempt_log WHERE message = 'outside'") == [(0,)]
