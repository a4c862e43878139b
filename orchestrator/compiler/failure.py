"""Who bears a step's failure for good: the step itself, a body around it, or the whole execution. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.compiler.graph import MACHINE, Graph
from orchestrator.model.exits import FAILED, OK


@dataclass(frozen=True, kw_only=True, slots=True)
class Bearing:
    """What a failure for good leads to; with neither exit nor container, it fails the execution."""

    #: The exit by which the failed step ends, and the workflow goes on.
    exit: str | None = None
    #: The step whose body is broken off, and which bears the failure as its own.
    container: str | None = None
    #: Whether a failed execution undoes what it did.
    rollback: bool = True


def bearing(graph: Graph, path: str, category: str, name: str) -> Bearing:
    """Who bears a failure, asked from the step outwards: by a catch, by `on_error: continue`, by a tolerant join."""
    at, rollback = path, True
    while True:
        place = graph.place(at)
        step = place.step
        exit_by = step.catches(category, name)
        if exit_by is None and step.on_error == "continue":
            exit_by = OK
        if exit_by is None and step.on_error in {"compensate", "retry"} and place.id in place.body.tolerated:
            exit_by = FAILED
        if exit_by is None and at == MACHINE and at != path:
            exit_by = FAILED
        if exit_by is not None:
            return Bearing(exit=exit_by) if at == path else Bearing(container=at)
        rollback = rollback and step.on_error != "stop"
        if place.container is None:
            return Bearing(rollback=rollback)
        at = place.container
