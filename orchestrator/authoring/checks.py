"""What must hold of a definition before it is used: its graph, its expressions, its schemas and its activities."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice

from orchestrator.authoring.bodies import Bodies, bodies_of
from orchestrator.authoring.failure_checks import policy_problems, rule_problems
from orchestrator.authoring.machine_checks import machine_problems
from orchestrator.authoring.references import EVENT, ROOTS, output_problems
from orchestrator.authoring.schema import schema_problems
from orchestrator.authoring.step_checks import Activities, body_problems
from orchestrator.durations import seconds
from orchestrator.errors import DefinitionError, PayloadError
from orchestrator.model.definition import Definition, Step
from orchestrator.model.payload import encode

#: So many problems are told; in a large definition one wrong word may cause thousands, each searched for its like.
MOST_PROBLEMS = 100


#: Kinds that wait, and which of their fields says how long at most.
_WAITS = {"delay": "for", "wait": "timeout"}


def check(definition: Definition, source: str, registry: Activities | None) -> None:
    """Check a definition, in time linear in its size.

    Args:
        source: the file or module that it came from, for the error.
        registry: the activities that its steps may call; None leaves them unchecked.

    Raises:
        DefinitionError: every problem, each naming the step and the fix.
    """
    found = list(islice(_problems(definition, registry), MOST_PROBLEMS + 1))
    if len(found) > MOST_PROBLEMS:
        found[MOST_PROBLEMS:] = ["there are more problems; mend these first"]
    if found:
        raise DefinitionError(source, found)


def _problems(definition: Definition, registry: Activities | None) -> Iterator[str]:
    bodies = bodies_of(definition, ROOTS, EVENT)
    for step_id, count in bodies.repeated.items():
        yield f"step {step_id}: {count} steps have this id; rename all but one"
    yield from _schemas(definition)
    yield from _waits(definition)
    yield from rule_problems(definition.errors)
    yield from policy_problems(definition.retry)
    if definition.machine is not None:
        yield from machine_problems(definition.machine, bodies)
    own = () if definition.machine is None else ("machine",)
    yield from output_problems(definition.output, bodies, own)
    yield from _steps(bodies, registry)
    yield from _data(definition)


def _steps(bodies: Bodies, registry: Activities | None) -> Iterator[str]:
    for body in bodies.outermost:
        yield from body_problems(body, bodies, registry)


def _schemas(definition: Definition) -> Iterator[str]:
    schemas = {"input_schema": definition.input_schema, "output_schema": definition.output_schema}
    schemas |= {f"signals.{name}": schema for name, schema in definition.signals.items()}
    for name, schema in schemas.items():
        if schema is not None:
            yield from (f"{name}: {problem}" for problem in schema_problems(schema))


def _waits(definition: Definition) -> Iterator[str]:
    """Steps that would always wait for longer than the whole execution may take."""
    deadline = definition.deadline
    if deadline is None:
        return
    given = "by default" if definition.timeout is None else "as given"
    for step in _all_steps(definition.steps):
        wait = step.spec.get(_WAITS[step.kind]) if step.kind in _WAITS else None
        try:
            waits = seconds(wait) if isinstance(wait, str | int | float) else 0.0
        except ValueError:
            continue  # an expression, or no duration, which is told elsewhere
        if waits >= deadline:
            yield (
                f"step {step.id}: waits for {waits:g} s, but an execution may take {deadline:g} s ({given}); "
                "give the definition a longer timeout, or 0 for none"
            )


def _all_steps(steps: tuple[Step, ...]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _all_steps(step.steps)


def _data(definition: Definition) -> Iterator[str]:
    """What the ledger could not store. Not asked of the spec, in which NaN has become null."""
    try:
        encode(definition.model_dump(), limit=sys.maxsize, what="the definition")
    except (PayloadError, ValueError) as error:
        yield str(error)
