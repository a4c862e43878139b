"""What must hold of a state machine: its states are reached and left, and its transitions can be taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from orchestrator.authoring.bodies import Bodies
from orchestrator.authoring.references import problems_of
from orchestrator.kinds.truth import condition
from orchestrator.model.definition import Machine, Transition
from orchestrator.spelling import did_you_mean

#: Stands for every state that is not final.
ANY = "*"


def machine_problems(machine: Machine, bodies: Bodies) -> Iterator[str]:
    """What is wrong with a machine, its steps aside."""
    yield from _states(machine)
    for transition, label, body in zip(machine.transitions, labels(machine), bodies.outermost, strict=True):
        yield from (f"{label}: {problem}" for problem in _transition(transition, machine))
        if transition.condition is not None:
            try:
                paths = condition(transition.condition, "condition").template.references
            except ValueError as error:
                yield f"{label}: {error}"
            else:
                # It may refer to any step of the machine: what was carried out before is for its author to know.
                yield from (f"{label}: condition: {problem}" for problem in problems_of(paths, bodies, body, None))
    yield from _shadowed(machine)
    yield from _circles(machine)


def labels(machine: Machine) -> list[str]:
    """Names of the transitions for people, such as `transition 2 (NEXT)`."""
    return [
        f"transition {number} ({each.event or '|'.join(each.from_) + ' to ' + each.to})"
        for number, each in enumerate(machine.transitions, 1)
    ]


def _states(machine: Machine) -> Iterator[str]:
    if machine.initial not in machine.states:
        yield f'the initial state "{machine.initial}" does not exist{_meant(machine.initial, machine)}'
        return
    if machine.states[machine.initial].final:
        yield f'the initial state "{machine.initial}" is final, so nothing would ever happen; begin in another'
        return
    onward: dict[str, set[str]] = {}
    for transition in machine.transitions:
        for source in _sources(transition, machine):
            onward.setdefault(source, set()).add(transition.to)
    reached, left = {machine.initial}, [machine.initial]
    while left:
        for name in onward.get(left.pop(), set()) - reached:
            reached.add(name)
            left.append(name)
    for name, state in machine.states.items():
        if name not in reached:
            yield f'state "{name}" is never reached from "{machine.initial}"; add a transition to it, or remove it'
        elif not state.final and not onward.get(name):
            yield f'state "{name}" is never left and not final; add a transition from it, or make it final'


def _transition(transition: Transition, machine: Machine) -> Iterator[str]:
    for state in transition.from_:
        if state == ANY:
            continue
        if state not in machine.states:
            yield f'it leaves state "{state}", which does not exist{_meant(state, machine)}'
        elif machine.states[state].final:
            yield f'it leaves state "{state}", which is final; remove it from there, or make that not final'
    if transition.to not in machine.states:
        yield f'it leads to state "{transition.to}", which does not exist{_meant(transition.to, machine)}'
    elif transition.compensate and not machine.states[transition.to].final:
        yield f'with compensate the execution ends in state "{transition.to}", which is not final; make it so'
    if transition.event is not None and transition.after is not None:
        yield "it is taken by an event or after a time, not by both; make two transitions of it"
    if transition.event is None and transition.actors:
        yield "actors send events, and it has none; add event, or remove actors"
    if transition.timeout is not None and not transition.steps:
        yield "timeout is for its steps, and it has none; remove it, or did you mean after?"


def _shadowed(machine: Machine) -> Iterator[str]:
    """Transitions that one before them always anticipates."""
    always: dict[tuple[str, str | None, float | None], int] = {}
    for number, (transition, label) in enumerate(zip(machine.transitions, labels(machine), strict=True), 1):
        unconditional = transition.condition in (None, True) and not transition.actors
        for state in dict.fromkeys(transition.from_):
            key = (state, transition.event, transition.after)
            if key in always:
                earlier = always[key]
                yield f'{label}: in state "{state}" transition {earlier} is always taken first; give that a condition'
            elif unconditional:
                always[key] = number


def _circles(machine: Machine) -> Iterator[str]:
    """States that lead to each other by themselves, for ever."""
    onward: dict[str, str] = {}
    for transition in machine.transitions:
        if transition.event is None and transition.after is None and transition.condition in (None, True):
            for state in _sources(transition, machine):
                onward.setdefault(state, transition.to)
    told: set[str] = set()
    for first in onward:
        way: dict[str, None] = {}
        state = first
        while state in onward and state not in way and state not in told:
            way[state] = None
            state = onward[state]
        if state in way:
            circle = " -> ".join(_from(list(way), state))
            yield f"states follow each other by themselves for ever: {circle}; give one an event, a time or a condition"
        told.update(way)


def _from(way: Sequence[str], state: str) -> list[str]:
    return [*way[way.index(state) :], state]


def _sources(transition: Transition, machine: Machine) -> Iterable[str]:
    if ANY in transition.from_:
        return [name for name, state in machine.states.items() if not state.final]
    return transition.from_


def _meant(state: str, machine: Machine) -> str:
    return did_you_mean(state, machine.states) or f"; there are {', '.join(machine.states)}"
