"""A process that executes one script as a worker would, told by JSON on its command line.

    python script_worker.py '{"call": {...}, "refuse": ["mount"], "allow": false}'

Prints {"result": ...} or {"error": class, "message": ...}.
"""

from __future__ import annotations

import errno
import json
import os
import sys

from orchestrator.activities.context import StepContext
from orchestrator.activities.isolation import linux, seccomp
from orchestrator.activities.isolation.policy import ScriptPolicy
from orchestrator.activities.script import script
from orchestrator.errors import ActivityError


def refuse(names: list[str]) -> None:
    """Have the kernel refuse system calls to this process and its children from now on, as container runtimes do."""
    column = 0 if os.uname().machine == "x86_64" else 1
    rules = [(0x20, 0, 0, 0)]
    for name in names:
        rules += [(0x15, 0, 1, seccomp.REFUSED[name][column]), (0x06, 0, 0, 0x50000 | errno.EPERM)]
    linux.forbid_new_privileges()
    linux.filter_system_calls([*rules, (0x06, 0, 0, 0x7FFF0000)])


def main() -> None:
    orders = json.loads(sys.argv[1])
    if orders.get("refuse"):
        refuse(orders["refuse"])
    context = StepContext(
        tenant="acme",
        execution_id="0190",
        definition="order",
        version=1,
        path="script",
        attempt=1,
        idempotency_key="0190:script",
        scripts=ScriptPolicy(allow_unisolated=orders.get("allow", False)),
    )
    try:
        answer = {"result": script(context, **orders["call"])}
    except ActivityError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
