"""Workflows that are taken up again by an operator at awkward moments."""

from __future__ import annotations

from nodes.activities import echo, fail, hold
from orchestrator import (
    block,
    case,
    choice,
    each,
    machine,
    parallel,
    repeat,
    sequence,
    step,
    subworkflow,
    transition,
    workflow,
)

ALWAYS = {"attempts": 99, "business": True}

#: Their bodies' first steps wait; no step shares a message with another.
_BODY = step("held", hold, {"value": 1}), step("then", echo, {"value": "{{ steps.held.output + index }}"})

cut_each = workflow(
    "cut-each", each("box", [1, 2, 3], *_BODY), step("behind", echo, {"value": "{{ steps.box.output }}"}), fuse=False
)

cut_repeat = workflow(
    "cut-repeat",
    repeat("box", *_BODY, until="{{ steps.then.output >= 2 }}"),
    step("behind", echo, {"value": "{{ steps.box.output }}"}),
    fuse=False,
)

cut_block = workflow(
    "cut-block",
    block("box", step("held", hold, {"value": 1}), step("then", echo, {"value": 2})),
    step("behind", echo, {"value": "{{ steps.box.output }}"}),
    fuse=False,
)

skipped_block = workflow(
    "skipped-block",
    block("box", each("loop", [1, 2], step("inside", fail, ALWAYS))),
    step("behind", echo, {"value": "{{ steps.box.output }}"}),
)

none_left = workflow(
    "none-left",
    parallel(sequence(step("one", fail, ALWAYS), step("behind_one", echo)), step("two", fail, ALWAYS)),
    step("any_of_them", echo, {"value": "met"}, join="any"),
)

stumbles = machine(
    "stumbles",
    initial="here",
    states=["here", "there"],
    final=["there"],
    transitions=[
        transition("here", "there", event="GO", steps=[step("first", echo), step("leap", fail, ALWAYS)]),
        transition("here", "there", event="WALK"),
    ],
    output={"state": "{{ steps.machine.output.state }}"},
)

#: Both of the race's branches are roots, or come behind a step.
raced = workflow(
    "raced",
    parallel(step("quick", echo, {"value": "q"}), step("slow", hold)),
    step("winner", echo, {"value": 1}, join="any"),
    step("last", echo, {"value": 2}),
)

raced_later = workflow(
    "raced-later",
    step("start", echo),
    parallel(step("quick", echo), sequence(step("slow", hold), step("slower", echo))),
    step("winner", echo, {"value": 1}, join="any"),
    step("last", echo, {"value": 2}),
)

forked = workflow("forked", step("first", echo), step("second", echo, {"value": "done"}))

chooses = workflow(
    "chooses",
    step("first", hold, {"value": 1}),
    choice(
        "route",
        case("{{ steps.first.output.nothing.there }}", step("left", echo, {"value": "left"})),
        default=[step("right", echo, {"value": "right"})],
    ),
    step("end", echo, {"value": "{{ [steps.left.output, steps.right.output] }}"}),
)

unmet_by_hand = workflow(
    "unmet-by-hand",
    parallel(step("one", fail, ALWAYS | {"gate": "refusal"}), step("two", fail, ALWAYS | {"gate": "refusal"})),
    step("any_of_them", echo, {"value": "met"}, join="any"),
    step("behind", echo, {"value": "{{ steps.any_of_them.output }}"}),
)

skipped_loop = workflow(
    "skipped-loop",
    each("loop", [1, 2], step("inside", fail, ALWAYS)),
    step("behind", echo, {"value": "{{ steps.loop.output }}"}),
)

skipped_inner_loop = workflow(
    "skipped-inner-loop",
    each("outer", [1, 2], each("inner", "{{ [item] }}", step("inside", fail, ALWAYS | {"attempts": "{{ item % 2 }}"}))),
    step("behind", echo, {"value": "{{ steps.outer.output }}"}),
)

unlucky_child = workflow("unlucky-child", step("fails", fail, ALWAYS))

unlucky_parent = workflow(
    "unlucky-parent",
    block("box", step("inside", fail, ALWAYS), on_error="continue"),
    subworkflow("child", unlucky_child, {}),
)
