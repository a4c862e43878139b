"""All kinds by name; a new one is a file and a line here."""

from __future__ import annotations

from orchestrator.kinds.block import Block
from orchestrator.kinds.child import ChildWorkflow
from orchestrator.kinds.choice import Choice
from orchestrator.kinds.delay import Delay
from orchestrator.kinds.each import Each
from orchestrator.kinds.emit import Emits
from orchestrator.kinds.fail import Fail
from orchestrator.kinds.kind import Kind
from orchestrator.kinds.machine import MachineKind
from orchestrator.kinds.repeat import Repeat
from orchestrator.kinds.task import CalledTask
from orchestrator.kinds.wait import Wait

#: The kind of steps that call an activity; it needs none of this.
ACTIVITY = "activity"
#: The kind of steps that are Celery tasks of the application's own.
TASK = "task"

KINDS: dict[str, type[Kind]] = {
    "choice": Choice,
    "each": Each,
    "repeat": Repeat,
    "block": Block,
    "delay": Delay,
    "wait": Wait,
    "emit": Emits,
    "workflow": ChildWorkflow,
    "fail": Fail,
    TASK: CalledTask,
}

#: With the one that stands for a whole definition, and that no author writes.
ENGINE_KINDS: dict[str, type[Kind]] = {**KINDS, "machine": MachineKind}
