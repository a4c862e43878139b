"""4, first part: messages that the broker doubles, drops or delays.

Every process of the stack hands its messages to a publisher that does so (tampering.py), as what a broker does to a
message cannot be told from outside, whichever broker it is.
"""

from __future__ import annotations

import time

from fault_suite import tampering
from fault_suite.fault import Missed, Strike, Tier, fault
from fault_suite.stack import Stack


def _for_a_while(stack: Stack, deed: str, seconds: float) -> Strike:
    struck = time.monotonic()
    with tampering.tampered(stack.outside, deed) as count:
        time.sleep(seconds)
    if not count():
        raise Missed(f"no message was {deed}")
    return Strike(evidence=f"{count()} messages were {deed}", struck=struck, gone=time.monotonic())


@fault("4a", "each message doubled", mixes=True)
def doubled(stack: Stack) -> Strike:
    return _for_a_while(stack, "doubled", 5)


@fault("4b", "one message in ten dropped", mixes=True, tier=Tier.QUICK)
def dropped(stack: Stack) -> Strike:
    return _for_a_while(stack, "dropped", 5)


@fault("4c", "messages delayed until long after their steps are done")
def delayed(stack: Stack) -> Strike:
    return _late(stack, 6)


@fault("4d", "messages delayed by two minutes", tier=Tier.LONG)
def delayed_by_minutes(stack: Stack) -> Strike:
    return _late(stack, 120)


def _late(stack: Stack, seconds: float) -> Strike:
    strike = _for_a_while(stack, "delayed", 4)
    time.sleep(seconds)
    delivered = tampering.deliver(stack.outside, stack.orchestrator.app)
    return Strike(evidence=f"{delivered} messages came {seconds:g} s late", struck=strike.struck, gone=time.monotonic())
