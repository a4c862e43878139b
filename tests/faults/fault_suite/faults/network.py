"""6: a network that fails between one worker's host and a server, or is bad."""

from __future__ import annotations

import time

from fault_suite import needs
from fault_suite.connections import standing
from fault_suite.fault import Broken, Missed, Strike, fault
from fault_suite.faults.broker import NOTICED
from fault_suite.hosts import Link
from fault_suite.stack import Stack


def _cut(stack: Stack, link: Link, seconds: float) -> Strike:
    struck = time.monotonic()
    link.cut()
    try:
        time.sleep(seconds)
    finally:
        link.mend()
    return Strike(evidence=f"the cable was out for {seconds:g} s", struck=struck, gone=time.monotonic())


@fault("6a", "a worker's host is cut off from PostgreSQL, until it is taken for dead", target=30, needs=[needs.hosts])
def from_database(stack: Stack) -> Strike:
    assert stack.host is not None
    buried = "SELECT count(*) FROM orchestrator.worker WHERE buried_at IS NOT NULL"
    before = stack.value(buried)
    strike = _cut(stack, stack.host.database, stack.dead_after + 3)
    if stack.value(buried) == before:
        raise Missed("its worker was not taken for dead")
    return strike


@fault("6b", "a worker's host is cut off from the broker", target=30, needs=[needs.hosts, needs.proxies])
def from_broker(stack: Stack) -> Strike:
    assert stack.host is not None
    strike = _cut(stack, stack.host.broker, 8)
    pids, end = set(stack.nodes["worker-2"].children()), strike.gone
    # What it has been given before, it does first.
    if late := sum(call.pid in pids and end - 3 < call.at < end for call in stack.outside.calls(stack.mark)):
        raise Missed(f"its worker made {late} calls in the last 3 s of it")
    return strike


@fault("6c", "a slow network that carries small pieces", mixes=True)
def slow(stack: Stack) -> Strike:
    struck = time.monotonic()
    proxies = [*stack.database_proxies.values(), *stack.broker_proxies.values()]
    before = sum(proxy.carried for proxy in proxies)
    for proxy in proxies:
        proxy.latency, proxy.slice = 0.005, 100
    time.sleep(5)
    for proxy in proxies:
        proxy.latency, proxy.slice = 0.0, None
    carried = sum(proxy.carried for proxy in proxies) - before
    if not carried:
        raise Missed("nothing was carried")
    return Strike(evidence=f"{carried >> 10} KiB, 5 ms later, 100 bytes at once", struck=struck, gone=time.monotonic())


@fault("6d", "every connection reset, over and over", mixes=True)
def resets(stack: Stack) -> Strike:
    struck, ended = time.monotonic(), 0
    for _ in range(8):
        for proxy in (*stack.database_proxies.values(), *stack.broker_proxies.values()):
            ended += proxy.reset()
        time.sleep(0.5)
    if not ended:
        raise Missed("nobody was connected")
    return Strike(evidence=f"{ended} connections were reset", struck=struck, gone=time.monotonic())


@fault("6e", "half-open connections to PostgreSQL, whose client has another address", target=30, needs=[needs.hosts])
def half_open(stack: Stack) -> Strike:
    """What is sent by the old address vanishes, both ways, and nobody is told; new connections are good."""
    assert stack.host is not None
    link, struck = stack.host.database, time.monotonic()
    before = link.address
    held = _from(stack, before)
    if not held:
        raise Missed("nobody was connected")
    link.move()
    try:
        stack.until(lambda: not _from(stack, before), "nobody holds on to them", NOTICED)
    except TimeoutError:
        left = _from(stack, before)
        seen = stack.host.sockets(before)
        raise Broken(f"{left} of {held} connections are held on to after {NOTICED} s:\n{seen}") from None
    evidence = f"{held} connections carried nothing any more, left after {time.monotonic() - struck:.1f} s"
    return Strike(evidence=evidence, struck=struck, gone=struck)


def _from(stack: Stack, address: str) -> int:
    """Connections of the second worker's processes that begin at an address."""
    node = stack.nodes["worker-2"]
    return len(standing(node.pid, address))
