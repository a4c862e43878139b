"""What is refused of state machines before they are used."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.authoring.builder import machine, transition
from orchestrator.authoring.checks import check
from orchestrator.authoring.nodes import Node, TransitionNode
from orchestrator.authoring.shapes import each
from orchestrator.authoring.steps import step
from orchestrator.errors import DefinitionError

GO = transition("A", "B", event="GO")
END = transition("B", "C", event="END")


def plain(step_id: str, value: Any = None) -> Node:
    return step(step_id, "act", None if value is None else {"x": value})


def told(*transitions: TransitionNode, initial: str = "A", states: Any = ("A", "B"), **options: Any) -> list[str]:
    found = machine("m", initial=initial, states=states, final="C", transitions=transitions, **options).definition
    try:
        check(found, "m.py", None)
    except DefinitionError as error:
        return list(error.problems)
    return []


def test_a_sound_machine_has_no_problems() -> None:
    assert (
        told(
            transition(
                "A",
                "B",
                event="GO",
                actors="boss",
                condition="{{ event.payload.x > 1 and event.actor != null and event.name == 'GO' }}",
                steps=[
                    plain("a", "{{ event.payload }} {{ default(steps.c.output, 0) }}"),
                    each("b", "{{ steps.a.output }}", plain("inner", "{{ item }} {{ event.name }}")),
                ],
                timeout="1m",
            ),
            transition("B", "A", condition="{{ steps.a.output > 3 }}"),
            transition("B", "A", event="BACK", condition="{{ input.x }}"),
            transition("B", "C", event="BACK", steps=[plain("c", "{{ steps.b.output }} {{ steps.a.output }}")]),
            transition("*", "C", after="24h", compensate=True),
            output="{{ steps.c.output }}",
        )
        == []
    )


@pytest.mark.parametrize(
    ("transitions", "expected"),
    [
        (
            [GO, transition("A", "C", event="X")],
            'state "B" is never left and not final; add a transition from it, or make it final',
        ),
        (
            [GO, END, transition("A", "D", event="X")],
            'transition 3 (X): it leads to state "D", which does not exist; there are A, B, C',
        ),
        (
            [GO, END, transition("Bb", "C", event="X")],
            'transition 3 (X): it leaves state "Bb", which does not exist; did you mean "B"?',
        ),
        (
            [GO, END, transition(["A", "C"], "B", event="X")],
            'transition 3 (X): it leaves state "C", which is final; remove it from there, or make that not final',
        ),
        (
            [GO, END, transition("A", "B", event="X", after=5)],
            "transition 3 (X): it is taken by an event or after a time, not by both; make two transitions of it",
        ),
        (
            [GO, END, transition("A", "B", after=5, actors="boss")],
            "transition 3 (A to B): actors send events, and it has none; add event, or remove actors",
        ),
        (
            [GO, END, transition("A", "B", event="X", timeout=5)],
            "transition 3 (X): timeout is for its steps, and it has none; remove it, or did you mean after?",
        ),
        (
            [GO, END, transition("A", "B", event="X", compensate=True)],
            'transition 3 (X): with compensate the execution ends in state "B", which is not final; make it so',
        ),
        (
            [GO, END, transition("A", "C", event="GO")],
            'transition 3 (GO): in state "A" transition 1 is always taken first; give that a condition',
        ),
        (
            [GO, END, transition("A", "B", event="X", condition="event.actor")],
            "transition 3 (X): condition: 'event.actor': a condition stands in braces, as in",
        ),
        (
            [GO, END, transition("A", "B", after=5, condition="{{ event.actor }}")],
            "transition 3 (A to B): condition: {{ event.actor }}: event exists in a machine's transitions by an event",
        ),
        (
            [GO, END, transition("A", "B", event="X", condition="{{ steps.zzz.output }}")],
            'transition 3 (X): condition: {{ steps.zzz.output }}: there is no step "zzz"',
        ),
        (
            [GO, END, transition("A", "B", event="X", condition="{{ event.payloat }}")],
            'transition 3 (X): condition: {{ event.payloat }}: event has no "payloat"; did you mean "payload"?',
        ),
        (
            [GO, END, transition("A", "B", after=5, steps=[plain("a", "{{ event.payload }}")])],
            "step a: {{ event.payload }}: event exists in a machine's transitions by an event only",
        ),
        (
            [GO, END, transition("A", "B", after=5, steps=[plain("a", "{{ steps.b.output }}"), plain("b")])],
            'step a: {{ steps.b.output }}: step "b" need not have ended by then; add it to after',
        ),
        (
            [
                GO,
                transition("A", "B", after=5, steps=[plain("a")]),
                transition("B", "C", event="X", steps=[plain("a")]),
            ],
            "step a: 2 steps have this id; rename all but one",
        ),
        (
            [GO, END, transition("A", "B", condition=True), transition("B", "A")],
            "states follow each other by themselves for ever: A -> B -> A; give one an event, a time or a condition",
        ),
        (
            [GO, END, transition("*", "B", after=5), transition("*", "B")],
            "states follow each other by themselves for ever: B -> B; give one an event, a time or a condition",
        ),
    ],
)
def test_one_wrong_transition_is_one_problem(transitions: list[TransitionNode], expected: str) -> None:
    (problem,) = told(*transitions)
    assert problem.startswith(expected)


def test_the_initial_state_exists_and_is_not_final() -> None:
    assert told(GO, END, initial="a") == ['the initial state "a" does not exist; there are A, B, C']
    assert told(GO, END, initial="C") == [
        'the initial state "C" is final, so nothing would ever happen; begin in another'
    ]


def test_states_that_are_never_reached_are_refused() -> None:
    assert told(GO, END, transition("D", "C", event="X"), states=["A", "B", "D"]) == [
        'state "D" is never reached from "A"; add a transition to it, or remove it'
    ]


def test_steps_may_not_come_after_those_of_another_transition() -> None:
    later = step("b", "act", after=["a"])
    (problem,) = told(
        transition("A", "B", event="GO", steps=[plain("a")]), transition("B", "C", event="END", steps=[later])
    )
    assert problem.startswith('step b: step "a" lies in another body, and a step can only come after those beside it')
