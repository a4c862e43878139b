"""8 and 10: everything at once: beats, sweeps, and a backlog."""

from __future__ import annotations

import threading
import time

from fault_suite import needs, republished
from fault_suite.fault import Broken, Missed, Strike, Tier, fault
from fault_suite.stack import Stack
from orchestrator import Settings
from orchestrator.ledger import database
from orchestrator.recovery.sweep import Context, Sweep, call
from orchestrator.recovery.sweeps import SWEEPS

#: Sweeps of a kind at the same moment.
AT_ONCE = 50
#: Messages behind a slow consumer: in a short run, and in full.
BACKLOG, FULL_BACKLOG = 5_000, 50_000
#: Seconds for which two beats are watched.
WATCHED = 6
#: Executions that are started by one call.
CHUNK = 2_500


@fault("8a", "two beats at work on the same schedules")
def beats(stack: Stack) -> Strike:
    begun, struck = stack.value("SELECT clock_timestamp()"), time.monotonic()
    time.sleep(WATCHED)
    asked = "SELECT schedule, count(*) FROM orchestrator.schedule_fire WHERE fire_at > :begun GROUP BY schedule"
    fires = {row[0]: row[1] for row in stack.execute(asked, begun=begun)}
    for sweep in SWEEPS.values():
        own = stack.environment("a").get(f"ORCHESTRATOR_SWEEP_{sweep.name.upper()}")
        interval = float(own or sweep.interval(Settings()))
        # Where an interval begins and ends is not ours to choose; 0 is never.
        if interval and fires.get(f"orchestrator.{sweep.name}", 0) < int(WATCHED / interval) - 1:
            raise Broken(f"{sweep.name} was not fired every {interval:g} s: {fires}")
    evidence = f"{sum(fires.values())} fires of {len(fires)} schedules by two beats, none left out"
    return Strike(evidence=evidence, struck=struck, gone=time.monotonic())


@fault("8b", f"every sweep {AT_ONCE} times at once", mixes=True)
def sweeps(stack: Stack) -> Strike:
    struck, core = time.monotonic(), stack.orchestrator.core
    errors: list[str] = []
    engine = database.connect(stack.postgres.url, pool_size=AT_ONCE, lock_timeout=10)

    def sweep_once(sweep: Sweep, barrier: threading.Barrier) -> None:
        def work() -> int:
            with engine.connect() as connection:
                return call(sweep, Context(core=core, connection=connection, observer=""))

        try:
            engine.connect().close()
            barrier.wait(30)
            database.persist(work, give_up_after=10)
        except Exception as error:
            errors.append(f"{sweep.name}: {error!r}")

    for sweep in SWEEPS.values():
        barrier = threading.Barrier(AT_ONCE)
        threads = [threading.Thread(target=sweep_once, args=(sweep, barrier)) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    engine.dispose()
    if errors:
        raise Broken(f"{len(errors)} sweeps failed: {errors[0]}")
    evidence = f"{AT_ONCE * len(SWEEPS)} sweeps of {len(SWEEPS)} kinds"
    return Strike(evidence=evidence, struck=struck, gone=time.monotonic())


def _backlog(stack: Stack, size: int, watched: float) -> Strike:
    """What waits behind a slow consumer was not lost, and is not to be published again. Sweeps are watched for some
    time; then more workers do the rest."""
    struck = time.monotonic()
    stack.start_worker("slow", queues=["slow", "behind"], concurrency=1)
    stack.afterwards(lambda: stack.retire("slow"))
    with republished.counted(stack, queue="slow") as count:
        for begin in range(0, size, CHUNK):
            stack.start_many("queued", min(CHUNK, size - begin))
        waiting = stack.value(_WAITING)
        if waiting < size / 2:
            raise Missed(f"only {waiting} of {size} waited")
        time.sleep(watched)
        still = stack.value(_WAITING)
        stack.start_worker("less-slow", queues=["slow", "behind"], concurrency=4)
        stack.afterwards(lambda: stack.retire("less-slow"))
        stack.until(lambda: not stack.value(_LEFT), "all are taken up", size / 20)
        again = count()
    evidence = f"{waiting:,} waited, {still:,} after {watched:g} s; {again} were published again"
    if again > size * republished.SHARE:
        raise Broken(evidence)
    return Strike(evidence=evidence, struck=struck, gone=time.monotonic())


_WAITING = "SELECT count(*) FROM orchestrator.step WHERE queue = 'slow' AND status = 'ready'"
_LEFT = "SELECT count(*) FROM orchestrator.step WHERE queue IN ('slow', 'behind') AND status = 'ready'"


@fault("10a", f"a backlog of {BACKLOG:,} messages behind a slow consumer", needs=[needs.plain])
def backlog(stack: Stack) -> Strike:
    return _backlog(stack, BACKLOG, 8)


@fault(
    "10b",
    f"a backlog of {FULL_BACKLOG:,} messages behind a slow consumer",
    needs=[needs.plain],
    tier=Tier.LONG,
    load=0.1,
)
def full_backlog(stack: Stack) -> Strike:
    return _backlog(stack, FULL_BACKLOG, 30)
