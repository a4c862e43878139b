"""Workflows that are taken up again by an operator at awkward moments."""

from __future__ import annotations

from nodes.activities import echo, fail, hold
from orchestrator import block, each, machine, parallel, repeat, sequence, step, transition, workflow

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
