"""5: a PostgreSQL that restarts, is away, loses answers, ends sessions, takes no writes, or refuses statements."""

from __future__ import annotations

import signal
import time

from sqlalchemy.exc import DBAPIError

from fault_suite import needs
from fault_suite.fault import Missed, Strike, Tier, fault
from fault_suite.faults.broker import LONG, SHORT
from fault_suite.stack import Stack
from orchestrator.ledger import database

_AT_WORK = "SELECT count(*) FROM orchestrator.step WHERE status = 'running'"


def _at_work(stack: Stack) -> int:
    """How many steps are at work; waits until some are."""
    return stack.until(lambda: int(stack.value(_AT_WORK)), "steps are at work", 20)


@fault("5a", "PostgreSQL restarts, fast", target=30, mixes=True)
def restart(stack: Stack) -> Strike:
    at_work, struck = _at_work(stack), time.monotonic()
    stack.postgres.restart()
    return Strike(evidence=f"{at_work} steps were at work", struck=struck, gone=time.monotonic())


@fault("5b", "PostgreSQL ends at once, as by SIGQUIT, and recovers", target=30, mixes=True, tier=Tier.QUICK)
def immediate(stack: Stack) -> Strike:
    at_work, struck = _at_work(stack), time.monotonic()
    stack.postgres.kill()
    stack.postgres.start()
    return Strike(evidence=f"{at_work} steps were at work", struck=struck, gone=time.monotonic())


def _away(stack: Stack, seconds: float) -> Strike:
    struck = time.monotonic()
    stack.postgres.stop()
    time.sleep(seconds)
    stack.postgres.start()
    return Strike(evidence=f"it was away for {seconds:g} s", struck=struck, gone=time.monotonic())


@fault("5c", f"PostgreSQL away for {SHORT} s", target=30, mixes=True)
def away(stack: Stack) -> Strike:
    return _away(stack, SHORT)


@fault("5d", f"PostgreSQL away for {LONG} s", target=30, tier=Tier.LONG)
def away_long(stack: Stack) -> Strike:
    return _away(stack, LONG)


@fault("5e", "connections killed exactly at COMMIT", needs=[needs.direct], mixes=True, tier=Tier.QUICK)
def at_commit(stack: Stack) -> Strike:
    """The server commits, and who asked for it never hears."""
    times, struck = 20, time.monotonic()
    proxies = stack.database_proxies.values()
    before = sum(proxy.struck_so_far for proxy in proxies)
    for proxy in proxies:
        # All of them if need be: another fault may have ended the worker behind the other.
        proxy.lose_answers(b"COMMIT", times)

    def so_far() -> int:
        return sum(proxy.struck_so_far for proxy in proxies) - before

    try:
        stack.until(lambda: so_far() >= times, "transactions commit", 20)
    finally:
        for proxy in proxies:
            proxy.lose_answers(b"", 0)
    return Strike(evidence=f"{so_far()} answers to COMMIT were lost", struck=struck, gone=time.monotonic())


@fault("5f", "every session ended, over and over", mixes=True)
def terminated(stack: Stack) -> Strike:
    struck, ended = time.monotonic(), 0
    for _ in range(15):
        ended += stack.value(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'orchestrator' AND pid <> pg_backend_pid()"
        )
        time.sleep(0.2)
    if not ended:
        raise Missed("there were no sessions")
    return Strike(evidence=f"{ended} sessions were ended", struck=struck, gone=time.monotonic())


@fault("5g", "a PostgreSQL that takes no writes for a while", target=30, mixes=True)
def read_only(stack: Stack) -> Strike:
    """As after a failover: sessions that stood find themselves on a server that is no longer the first."""
    struck = time.monotonic()
    _set_read_only(stack, "on")
    try:
        time.sleep(SHORT / 2)
        refused = _refuses_writes(stack)
    finally:
        _set_read_only(stack, "off")
    if not refused:
        raise Missed("it took writes")
    return Strike(evidence=f"no writes for {SHORT / 2:g} s", struck=struck, gone=time.monotonic())


def _refuses_writes(stack: Stack) -> bool:
    try:
        stack.execute("DELETE FROM effect WHERE false")
    except DBAPIError as error:
        return database.sqlstate(error) == database.READ_ONLY
    return False


def _set_read_only(stack: Stack, value: str) -> None:
    stack.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    stack.postgres_signal(signal.SIGHUP)
    stack.until(lambda: stack.value("SHOW default_transaction_read_only") == value, "the setting is read", 10)


_REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.1 THEN
        PERFORM nextval('public.refused');
        IF random() < 0.5 THEN
            RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';
        END IF;
        RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
    END IF;
    RETURN NEW;
END $$
"""


@fault("5h", "one write in ten to a step refused for a deadlock or a serialization failure", mixes=True)
def refused(stack: Stack) -> Strike:
    struck = time.monotonic()
    stack.execute("CREATE SEQUENCE public.refused")
    stack.execute(_REFUSE)
    stack.execute(
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON orchestrator.step FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        time.sleep(5)
        # A stack that is still hurt by another fault writes little.
        stack.until(lambda: _refused(stack) >= 10, "ten writes were refused", 30)
        times = _refused(stack)
    finally:
        stack.execute("DROP TRIGGER refuse ON orchestrator.step")
        stack.execute("DROP FUNCTION public.refuse")
        stack.execute("DROP SEQUENCE public.refused")
    return Strike(evidence=f"{times} writes were refused", struck=struck, gone=time.monotonic())


def _refused(stack: Stack) -> int:
    return int(stack.value("SELECT last_value FROM public.refused"))


@fault("5i", "the pooler before PostgreSQL restarts", target=30, needs=[needs.pooler])
def pooler(stack: Stack) -> Strike:
    assert stack.pooler is not None
    struck = time.monotonic()
    stack.pooler.kill()
    stack.pooler.start()
    return Strike(evidence="the pooler was killed", struck=struck, gone=time.monotonic())
