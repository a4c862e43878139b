"""1 to 3: processes that are killed, run out of memory, or stand still until they are taken for dead."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from fault_suite import needs
from fault_suite.breakers import IN_ACTIVITY, IN_WORK
from fault_suite.fault import Broken, Strike, Tier, at_once, fault
from fault_suite.stack import Node, Stack
from orchestrator import fault_points

#: Bytes that a process may take beyond what it has, before the kernel ends it.
_ROOM = 96 << 20


def _first_to(stack: Stack, point: str) -> Strike:
    """Kill whichever process reaches a point next."""
    before = len(stack.outside.sprung(point))
    stack.outside.lay(point)
    try:
        stack.until(lambda: len(stack.outside.sprung(point)) > before, f"a process has come to {point}", 20)
    finally:
        stack.outside.take_up(point)
    pid, at = stack.outside.sprung(point)[-1]
    return Strike(evidence=f"process {pid} was killed", struck=at, gone=at)


@fault("1a", "SIGKILL of a pool child before its claim", target=1, mixes=True)
def child_before_claim(stack: Stack) -> Strike:
    return _first_to(stack, fault_points.CLAIM)


@fault("1b", "SIGKILL of a pool child after its claim", target=1, mixes=True)
def child_after_claim(stack: Stack) -> Strike:
    return _first_to(stack, fault_points.CLAIMED)


@fault("1c", "SIGKILL of a pool child in an activity", target=1, mixes=True, tier=Tier.QUICK)
def child_in_activity(stack: Stack) -> Strike:
    return _first_to(stack, IN_ACTIVITY)


@fault("1d", "SIGKILL of a pool child after a settle, before its publish", target=1, mixes=True, tier=Tier.QUICK)
def child_after_settle(stack: Stack) -> Strike:
    return _first_to(stack, fault_points.SETTLED)


@fault(
    "1e", "SIGKILL of a pool child after its publish, before the acknowledgement", target=1, mixes=True, tier=Tier.QUICK
)
def child_after_publish(stack: Stack) -> Strike:
    return _first_to(stack, fault_points.PUBLISHED)


@fault("2a", "SIGKILL of a worker, all of its processes at once", target=15, mixes=True, tier=Tier.QUICK, load=0.6)
def worker(stack: Stack) -> Strike:
    held = _at_work(stack, "worker-2")
    stack.kill("worker-2")
    now = time.monotonic()
    return Strike(evidence=f"worker-2 is gone, with {held} steps", struck=now, gone=now)


@fault("2b", "SIGKILL of a worker's main process, whose children are left", target=15, mixes=True, load=0.6)
def main_process(stack: Stack) -> Strike:
    node = stack.nodes["worker-1"]
    held, orphans = _at_work(stack, node.name), node.children()
    stack.excused.add(node.name)
    node.process.signal(signal.SIGKILL)
    node.process.wait(10)
    now = time.monotonic()
    return Strike(evidence=f"worker-1 left {len(orphans)} children, with {held} steps", struck=now, gone=now)


@fault("2c", "SIGKILL of a beat", target=1, mixes=True)
def beat(stack: Stack) -> Strike:
    stack.kill("beat-1")
    return at_once("beat-1 is gone")


@fault("2d", "SIGKILL of a client between commit and publish", tier=Tier.QUICK)
def client(stack: Stack) -> Strike:
    before = len(stack.outside.sprung(fault_points.STARTED))
    pid = stack.client.pid
    stack.outside.lay(fault_points.STARTED, pid=pid)
    stack.until(lambda: len(stack.outside.sprung(fault_points.STARTED)) > before, "the client has started one", 20)
    stack.client.wait(10)
    _, at = stack.outside.sprung(fault_points.STARTED)[-1]
    stack.start_client(stack.mark, stack.seed + 1, stack.rate)
    return Strike(evidence=f"client {pid} was killed, another goes on", struck=at, gone=at)


@fault("2e", "a pool child that the kernel ends for its memory", target=1, needs=[needs.memory_limit])
def out_of_memory(stack: Stack) -> Strike:
    victim = stack.nodes["worker-1"].children()[0]
    used = int(Path(f"/proc/{victim}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    group = needs.new_memory_group(used + _ROOM)
    stack.afterwards(lambda: _remove(group))
    (group / "cgroup.procs").write_text(str(victim))
    before = len(stack.outside.sprung(IN_ACTIVITY))
    stack.outside.lay(IN_ACTIVITY, pid=victim, deed="memory")
    stack.until(lambda: len(stack.outside.sprung(IN_ACTIVITY)) > before, "the child works", 20)
    stack.until(lambda: not os.path.exists(f"/proc/{victim}"), "the kernel has ended it", 30)
    return at_once(f"process {victim} was ended beyond {(used + _ROOM) >> 20} MiB")


def _remove(group: os.PathLike[str]) -> None:
    with suppress(OSError):
        os.rmdir(group)


@fault("3", "SIGSTOP of a worker until it is taken for dead, then SIGCONT", mixes=False, tier=Tier.QUICK)
def zombie(stack: Stack) -> Strike:
    """In an activity that nothing interrupts: when it wakes up, it goes on to its settle."""
    before = len(stack.outside.sprung(IN_WORK))
    stack.outside.lay(IN_WORK, deed="stop")
    stack.start_many("long-step", 4)
    stack.until(lambda: len(stack.outside.sprung(IN_WORK)) > before, "a child works", 20)
    victim, _ = stack.outside.sprung(IN_WORK)[-1]
    node = next(node for node in stack.workers() if victim in node.children())
    everybody = [node.pid, *node.children()]
    struck = time.monotonic()
    boots = _boots(stack, node)
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    try:
        stack.until(lambda: _buried(stack, boots), "it is taken for dead", 60)
        stack.until(lambda: _released(stack, boots), "its claims are released", 30)
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
    gone = time.monotonic()
    stack.until(lambda: _fenced(stack, boots), "what it settles is dropped", 30)
    wrote = stack.value(
        "SELECT count(*) FROM orchestrator.event e JOIN orchestrator.event f ON f.execution_id = e.execution_id "
        "AND f.path = e.path AND f.attempt = e.attempt AND f.type = 'step_succeeded' "
        "WHERE e.type = 'attempt_fenced' AND split_part(e.data ->> 'owner', '.', 1) = ANY(:boots)",
        boots=boots,
    )
    if wrote:
        raise Broken(f"{wrote} attempts are both fenced and settled")
    return Strike(evidence=f"{_fenced(stack, boots)} results of the zombie were dropped", struck=struck, gone=gone)


def _at_work(stack: Stack, name: str) -> int:
    """How many steps a worker is at, none of them short; waits until there are some."""
    if not stack.nodes[name].alive:
        # Another fault has ended it.
        stack.start_again(name)
    boots = _boots(stack, stack.nodes[name])
    stack.start_many("long-step", 4)
    asked = (
        "SELECT count(*) FROM orchestrator.step WHERE status = 'running' AND path = 'long' "
        "AND split_part(owner, '.', 1) = ANY(:boots) AND started_at > clock_timestamp() - interval '0.5 s'"
    )
    return stack.until(lambda: int(stack.value(asked, boots=boots)), "it is at work", 20)


def _boots(stack: Stack, node: Node) -> list[str]:
    rows = stack.execute("SELECT boot_id FROM orchestrator.worker WHERE pid = :pid AND buried_at IS NULL", pid=node.pid)
    return [str(row[0]) for row in rows]


def _buried(stack: Stack, boots: list[str]) -> bool:
    asked = "SELECT count(*) FROM orchestrator.worker WHERE boot_id = ANY(:boots) AND buried_at IS NOT NULL"
    return bool(stack.value(asked, boots=boots))


def _released(stack: Stack, boots: list[str]) -> bool:
    asked = (
        "SELECT count(*) FROM orchestrator.step WHERE status = 'running' AND split_part(owner, '.', 1) = ANY(:boots)"
    )
    return not stack.value(asked, boots=boots)


def _fenced(stack: Stack, boots: list[str]) -> int:
    asked = (
        "SELECT count(*) FROM orchestrator.event WHERE type = 'attempt_fenced' "
        "AND split_part(data ->> 'owner', '.', 1) = ANY(:boots)"
    )
    return int(stack.value(asked, boots=boots))
