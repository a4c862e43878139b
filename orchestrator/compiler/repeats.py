"""Which steps of a definition may not be done once more by a ledger that has forgotten that they were. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.compiler.graph import MACHINE
from orchestrator.kinds.kinds import ACTIVITY, ENGINE_KINDS
from orchestrator.model.definition import Definition, Step

#: Whether an activity may be called again with an input, as a definition has it.
IsRepeatable = Callable[[str, Mapping[str, Any]], bool]


def unrepeatable(definition: Definition, is_repeatable: IsRepeatable) -> dict[str, list[str]]:
    """Steps at the top -> paths in them, `notify[].send`, of what does something outside that would count twice.

    Once the step at the top is settled, all of its paths are behind the execution. A machine is one such step.
    """
    if definition.machine is not None:
        inner = [step for transition in definition.machine.transitions for step in transition.steps]
        tops = [(MACHINE, [path for step in inner for path in _paths(step, "", is_repeatable)])]
    else:
        tops = [(step.id, list(_paths(step, "", is_repeatable))) for step in definition.steps]
    return {top: list(dict.fromkeys(paths)) for top, paths in tops if paths}


def _paths(step: Step, prefix: str, is_repeatable: IsRepeatable) -> Iterator[str]:
    path = prefix + step.id
    if step.kind == ACTIVITY:
        if not is_repeatable(step.activity or "", step.input):
            yield path
    elif ENGINE_KINDS[step.kind].reaches_out:
        yield path
    for inner in step.steps:
        yield from _paths(inner, f"{path}[].", is_repeatable)
