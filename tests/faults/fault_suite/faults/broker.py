"""4, second part: a broker that is killed, emptied, away, or deaf."""

from __future__ import annotations

import time

from fault_suite import needs
from fault_suite.fault import Missed, Strike, Tier, fault
from fault_suite.stack import SWEEPS, WORK, Stack

#: Seconds that a server is away: in a short run, and as long as it takes to exhaust whoever gives up after a minute.
SHORT, LONG = 6, 60
#: Executions that are active when everything in the broker is forgotten.
ACTIVE = 1_000


@fault("4e", "SIGKILL and restart of the broker", target=30, needs=[needs.own_broker], mixes=True, tier=Tier.QUICK)
def killed(stack: Stack) -> Strike:
    assert stack.broker is not None
    held = stack.messages.unacknowledged()
    struck = time.monotonic()
    stack.broker.kill()
    stack.broker.start()
    return Strike(evidence=f"{held} messages were unacknowledged", struck=struck, gone=time.monotonic())


def _emptied(stack: Stack, active: int) -> Strike:
    stack.start_many("steady", active)
    stack.until(lambda: stack.messages.length(WORK) > active // 20, "messages wait", 20)
    open_now = stack.unfinished(stack.mark)
    if open_now < active // 2:
        raise Missed(f"only {open_now} executions were active")
    lost = stack.messages.length(WORK) + stack.messages.length(SWEEPS)
    stack.messages.empty()
    now = time.monotonic()
    return Strike(evidence=f"{open_now} executions were active, {lost} messages waited", struck=now, gone=now)


@fault("4f", f"everything in the broker forgotten with {ACTIVE:,} executions active", target=20, needs=[needs.plain])
def forgotten(stack: Stack) -> Strike:
    return _emptied(stack, ACTIVE)


@fault("4g", "everything in the broker forgotten", target=20, needs=[needs.plain], mixes=True, tier=Tier.QUICK)
def emptied(stack: Stack) -> Strike:
    stack.messages.empty()
    now = time.monotonic()
    return Strike(evidence="the broker was emptied", struck=now, gone=now)


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
    struck = time.monotonic()
    lines = stack.broker_proxies["a"].half_open(new=False)
    if not lines:
        raise Missed("nobody was connected")
    return Strike(evidence=f"{lines} connections carried nothing any more", struck=struck, gone=struck)


@fault("4k", "another server takes the broker's place", target=30, needs=[needs.sentinels])
def failed_over(stack: Stack) -> Strike:
    assert stack.sentinels is not None
    struck = time.monotonic()
    before = stack.sentinels.master()
    after = stack.sentinels.fail_over()
    stack.afterwards(before.start)
    return Strike(evidence=f"port {before.port} gave way to {after.port}", struck=struck, gone=time.monotonic())
