"""4, second part: a broker that is killed, emptied, away, or deaf."""

from __future__ import annotations

import time

from fault_suite import needs
from fault_suite.fault import Broken, Missed, Strike, Tier, fault
from fault_suite.stack import WORK, Stack

#: Seconds that a server is away: in a short run, and as long as it takes to exhaust whoever gives up after a minute.
SHORT, LONG = 6, 60
#: Within how many seconds a connection that carries nothing must be noticed.
NOTICED = 30
#: Executions that are active when everything in the broker is forgotten.
ACTIVE = 1_000


@fault("4e", "SIGKILL and restart of the broker", target=30, needs=[needs.own_broker], mixes=True, tier=Tier.QUICK)
def killed(stack: Stack) -> Strike:
    assert stack.broker is not None
    held = stack.until(stack.messages.unacknowledged, "messages are with workers", 20)
    struck = time.monotonic()
    stack.broker.kill()
    stack.broker.start()
    return Strike(evidence=f"{held} messages were unacknowledged", struck=struck, gone=time.monotonic())


@fault(
    "4f",
    f"everything in the broker forgotten with {ACTIVE:,} executions active",
    target=20,
    taken=60,  # they are taken up one after another
    load=0.3,
    needs=[needs.plain],
)
def forgotten(stack: Stack) -> Strike:
    # Some are done before the last is started.
    stack.start_many("brief", ACTIVE + ACTIVE // 5)
    stack.until(lambda: stack.messages.length(WORK) > ACTIVE // 20, "messages wait", 20)
    active, lost = stack.unfinished(stack.mark), stack.messages.empty()
    now = time.monotonic()
    if active < ACTIVE:
        raise Missed(f"only {active} executions were active")
    return Strike(evidence=f"{active} executions were active, {lost} messages were lost", struck=now, gone=now)


@fault("4g", "everything in the broker forgotten", target=20, needs=[needs.plain], mixes=True, tier=Tier.QUICK)
def emptied(stack: Stack) -> Strike:
    # At some moments there is none.
    lost = stack.until(stack.messages.empty, "messages are lost", 20)
    now = time.monotonic()
    return Strike(evidence=f"{lost} messages were lost", struck=now, gone=now)


def _away(stack: Stack, seconds: float) -> Strike:
    assert stack.broker is not None
    struck = time.monotonic()
    stack.broker.stop()
    time.sleep(seconds)
    stack.broker.start()
    return Strike(evidence=f"it was away for {seconds:g} s", struck=struck, gone=time.monotonic())


@fault("4h", f"the broker away for {SHORT} s", target=30, needs=[needs.own_broker], mixes=True)
def away(stack: Stack) -> Strike:
    return _away(stack, SHORT)


@fault("4i", f"the broker away for {LONG} s", target=30, needs=[needs.own_broker], tier=Tier.LONG)
def away_long(stack: Stack) -> Strike:
    return _away(stack, LONG)


@fault("4j", "half-open connections to the broker", target=30, needs=[needs.proxies])
def half_open(stack: Stack) -> Strike:
    """Connections that stood carry nothing from now on, and nobody is told; new ones are good."""
    struck, proxy = time.monotonic(), stack.broker_proxies["a"]
    lines = proxy.half_open(new=False)
    if not lines:
        raise Missed("nobody was connected")
    evidence = f"{lines} connections carried nothing any more"
    if stack.choice.broker == "amqp":
        # Whoever only sends heartbeats by one waits for nothing, and that is not seen from here.
        return Strike(evidence=evidence, struck=struck, gone=struck)
    stack.until(lambda: proxy.believed, "somebody waits for an answer", 20)
    try:
        stack.until(lambda: not proxy.believed, "nobody waits any more", NOTICED)
    except TimeoutError:
        raise Broken(f"on {proxy.believed} of {lines} connections somebody waits after {NOTICED} s") from None
    left = f"{evidence}, left after {time.monotonic() - struck:.1f} s"
    return Strike(evidence=left, struck=struck, gone=struck)


@fault("4k", "another server takes the broker's place", target=30, needs=[needs.sentinels])
def failed_over(stack: Stack) -> Strike:
    assert stack.sentinels is not None
    struck = time.monotonic()
    before = stack.sentinels.master()
    after = stack.sentinels.fail_over()
    stack.afterwards(before.start)
    return Strike(evidence=f"port {before.port} gave way to {after.port}", struck=struck, gone=time.monotonic())
