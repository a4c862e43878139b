"""7: a worker whose clock is wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fault_suite import needs
from fault_suite.fault import Broken, Missed, Strike, fault
from fault_suite.stack import Stack

#: Where that lies which Python loads first in such a worker.
_CUSTOMIZED = Path(__file__).parents[1] / "clock"


#: Seconds.
OFF = 600


def _off(stack: Stack, sign: str) -> Strike:
    struck, offset = time.monotonic(), f"{sign}{OFF}"
    before = stack.nodes["worker-2"].env
    stack.retire("worker-2")
    library = needs.faketime_library()
    # What processes measure passing time by stays right, as it does on a machine whose clock is set.
    moved = {
        "LD_PRELOAD": str(library),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": f"{_CUSTOMIZED}{os.pathsep}{before['PYTHONPATH']}",
    }
    node = stack.start_worker("worker-2", side="b", env=moved)
    up = time.monotonic()
    stack.until(lambda: _calls(stack, node.children(), up) > 20, "it works", 30)

    def mend() -> None:
        stack.retire("worker-2")
        stack.start_worker("worker-2", side="b").env = before

    stack.afterwards(mend)
    time.sleep(stack.dead_after + 1)
    pids, here = set(node.children()), time.time() - time.monotonic()
    clocks = [call.clock - call.at - here for call in stack.outside.calls(stack.mark) if call.pid in pids]
    if not clocks or min(map(abs, clocks)) < OFF / 2:
        raise Missed("it did nothing, or by the right clock")
    count = len(clocks)
    if stack.value("SELECT count(*) FROM orchestrator.worker WHERE pid = :pid AND buried_at IS NOT NULL", pid=node.pid):
        raise Broken("it was taken for dead, though it lives")
    evidence = f"{count} calls under a clock that is off by {offset} s"
    return Strike(evidence=evidence, struck=struck, gone=time.monotonic())


def _calls(stack: Stack, pids: list[int], since: float) -> int:
    return sum(call.pid in pids and call.at > since for call in stack.outside.calls(stack.mark))


@fault("7a", "the clock of one worker 10 minutes ahead", needs=[needs.faketime])
def ahead(stack: Stack) -> Strike:
    return _off(stack, "+")


@fault("7b", "the clock of one worker 10 minutes behind", needs=[needs.faketime])
def behind(stack: Stack) -> Strike:
    return _off(stack, "-")
