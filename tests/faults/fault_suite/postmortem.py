"""What is known of executions that did not end: their rows, their histories, and where those who hold them are."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress

from fault_suite.breakers import TELL
from fault_suite.stack import Stack

#: Executions that are told of.
SAMPLE = 3
#: Seconds that a process has to write where it is.
_MOMENT = 0.5

_LEFT = """
SELECT id, definition_name, status FROM orchestrator.execution
WHERE correlation_id = :mark AND settled_at IS NULL ORDER BY id LIMIT :sample
"""
_OF = "SELECT definition_name, status FROM orchestrator.execution WHERE id = :id"
_STEPS = """
SELECT path, status, attempt, owner, halt, queue, awaits, due_at, started_at FROM orchestrator.step
WHERE execution_id = :id AND settled_at IS NULL ORDER BY path
"""
_EVENTS = "SELECT at, type, path, attempt, data FROM orchestrator.event WHERE execution_id = :id ORDER BY id"


def of(stack: Stack, mark: str) -> list[str]:
    """A text for each of the first executions of a load that are left."""
    return [_one(stack, *row) for row in stack.execute(_LEFT, mark=mark, sample=SAMPLE)]


def of_steps(stack: Stack, steps: Sequence[tuple[str, str]]) -> list[str]:
    """Likewise of steps that nobody has taken up, as execution and path, with the probes of their queues."""
    found = []
    for execution, path in steps[:SAMPLE]:
        (row,) = stack.execute(_OF, id=execution)
        found.append(f"{path} is not: {_one(stack, execution, *row)}")
    probes = [dict(row._mapping) for row in stack.execute("SELECT * FROM orchestrator.probe")]
    return [*found, f"{len(steps)} steps in all; probes: {probes}"]


def _one(stack: Stack, id_: object, definition: str, status: str) -> str:
    lines = [f"{definition} {id_} is {status}; by now it is {stack.value('SELECT clock_timestamp()')}"]
    for row in stack.execute(_STEPS, id=id_):
        lines.append(f"  step {dict(row._mapping)}")
        if row.owner is not None:
            lines += _holder(stack, row.owner)
    for row in stack.execute(_EVENTS, id=id_):
        lines.append(f"  {row.at:%H:%M:%S.%f} {row.type} {row.path} {row.attempt} {row.data}")
    return "\n".join(lines)


def _holder(stack: Stack, owner: str) -> list[str]:
    """Whether it lives, and what all of its threads are at."""
    boot, _, process = owner.partition(".")
    nodes = stack.execute(
        "SELECT name, pid, seen, buried_at, stopped_at FROM orchestrator.worker WHERE boot_id = :b", b=boot
    )
    lines = [f"    node {dict(row._mapping)}" for row in nodes]
    pid = int(process.partition("-")[0])
    with suppress(OSError):
        os.kill(pid, TELL)
        time.sleep(_MOMENT)
        lines += [
            f"    process {pid} of {node.name} is at:\n{stack.processes.log_tail(node.name, 60)}"
            for node in stack.nodes.values()
            if pid in node.children()
        ]
    return lines
