"""Workflows of which a part goes back by itself, because somebody handles its failure."""

from __future__ import annotations

from nodes.activities import echo, fail, hold
from orchestrator import (
    RetryPolicy,
    block,
    compensation,
    each,
    handle,
    machine,
    parallel,
    repeat,
    sequence,
    step,
    subworkflow,
    transition,
    workflow,
)

ONCE = RetryPolicy(max_attempts=1)
NO = {"attempts": 99, "business": True}
UNDO = compensation(echo)

#: Its input says in which attempt the last step succeeds, and so whether all of it goes back in the end.
nested_part = workflow(
    "nested-part",
    step("before", echo, compensation=UNDO),
    block(
        "trip",
        step("flight", echo, compensation=UNDO),
        block(
            "stay",
            step("hotel", echo, compensation=UNDO),
            step("breakfast", fail, NO, compensation=UNDO, compensate_on="attempted"),
            catch=handle(step("camp", echo, compensation=UNDO)),
        ),
        each("legs", [1, 2], step("leg", echo, compensation=UNDO)),
        step("insure", fail, NO, retry=ONCE),
        catch=handle(step("stay_at_home", echo, compensation=UNDO), errors="business"),
    ),
    step("behind", echo, compensation=UNDO),
    step("last", fail, {"attempts": "{{ input.attempts }}", "business": True}, retry=ONCE),
)

#: Every way to bear the failure of a step that holds others, each with an effect that must be gone.
borne_parts = workflow(
    "borne-parts",
    block(
        "continued",
        step("continued_done", echo, compensation=UNDO),
        step("continued_no", fail, NO),
        on_error="continue",
    ),
    block(
        "fallen_back",
        step("fallen_back_done", echo, compensation=UNDO),
        step("fallen_back_no", fail, NO),
        fallback=[step("instead", echo)],
    ),
    each(
        "looped", [1, 2], step("looped_done", echo, compensation=UNDO), step("looped_no", fail, NO), on_error="continue"
    ),
    repeat(
        "endless",
        step("endless_done", echo, compensation=UNDO),
        until="{{ index > 5 }}",
        max_iterations=3,
        catch=handle(step("enough", echo), errors=["TooManyIterations"]),
    ),
    parallel(
        step("sound", echo),
        block("tolerated", step("tolerated_done", echo, compensation=UNDO), step("tolerated_no", fail, NO)),
    ),
    step("any_of_them", echo, join="settled"),
)

attended = workflow("attended", step("work", echo, compensation=UNDO), step("rest", hold), timeout="5m")

#: A branch of the part is still at work when the other fails, and a child of it too.
busy_part = workflow(
    "busy-part",
    block(
        "part",
        step("first", echo, compensation=UNDO),
        parallel(
            step("slow", hold, compensation=UNDO),
            subworkflow("child", attended),
            step("no", fail, NO | {"gate": "refusal"}),
        ),
        catch=handle(step("handled", echo)),
    ),
    fuse=False,
)

#: The compensation in the middle waits at a gate.
held_part = workflow(
    "held-part",
    step("before", echo, compensation=UNDO),
    block(
        "part",
        step("one", echo, compensation=UNDO),
        step("two", echo, compensation=compensation(hold)),
        step("three", echo, compensation=UNDO),
        step("no", fail, NO),
        catch=handle(step("handled", echo, compensation=UNDO)),
    ),
    step("behind", echo, {"value": "went on"}),
    fuse=False,
)

#: Two of them go back at the same time, on any worker.
twin_parts = workflow(
    "twin-parts",
    parallel(
        *[
            block(
                name,
                *[step(f"{name}_{n}", echo, compensation=UNDO) for n in range(12)],
                step(f"{name}_no", fail, NO),
                catch=handle(step(f"{name}_handled", echo)),
            )
            for name in ("left", "right")
        ]
    ),
    step("both", echo, {"value": 2}, join="settled"),
    fuse=False,
)


def stubborn(name: str, *, stop: bool) -> object:
    """One compensation of the part fails in its first attempts, whatever calls it."""
    return workflow(
        name,
        step("before", echo, compensation=UNDO),
        block(
            "part",
            step("one", echo, compensation=UNDO),
            step("two", echo, compensation=compensation(fail, {"attempts": "{{ input.attempts }}"}, retry=ONCE)),
            step("three", echo, compensation=UNDO),
            step("no", fail, NO),
            catch=handle(step("handled", echo)),
        ),
        on_compensation_failure="stop" if stop else "continue",
    )


stubborn_part, stopping_part = stubborn("stubborn-part", stop=False), stubborn("stopping-part", stop=True)

#: The handler fails, so that all of it fails, and nothing else is undone.
unhandled_part = workflow(
    "unhandled-part",
    block(
        "part",
        sequence(step("one", echo, compensation=UNDO), step("no", fail, NO)),
        catch=handle(step("handled", fail, {"attempts": 1, "business": True}, on_error="stop", retry=ONCE)),
    ),
    step("behind", echo, {"value": "went on"}),
)

#: Each time that its transition is taken, the part in it goes back; the state is entered all the same.
machine_part = machine(
    "machine-part",
    initial="here",
    states=["here", "there"],
    final=["gone"],
    transitions=[
        transition(
            "here",
            "there",
            event="GO",
            steps=[
                step("outside", echo, compensation=UNDO),
                block(
                    "part",
                    step("one", echo, compensation=UNDO),
                    step("no", fail, NO),
                    catch=handle(step("handled", echo)),
                ),
            ],
        ),
        transition("there", "here", event="BACK"),
        transition("*", "gone", event="END", compensate=True),
    ],
)
