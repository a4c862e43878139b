"""Machines, for the tests on real workers."""

from __future__ import annotations

from nodes.activities import echo, fail, hold
from orchestrator import compensation, machine, parallel, step, subworkflow, transition

BUSINESS = {"attempts": 99, "business": True}

#: Papers are written, checked by a manager, and filed; small ones need no check.
paper = machine(
    "paper",
    initial="draft",
    states=["draft", "checked", "filed", "withdrawn"],
    final=["filed", "withdrawn"],
    transitions=[
        transition(
            "draft",
            "checked",
            event="SUBMIT",
            actors=["author"],
            steps=[step("note", echo, {"value": "{{ event.payload.title }} by {{ event.actor }}"})],
        ),
        transition("checked", "filed", event="FILE", actors=["manager"], condition="{{ event.payload.pages <= 10 }}"),
        transition("draft", "withdrawn", event="WITHDRAW"),
        transition("checked", "withdrawn", event="WITHDRAW"),
    ],
    signals={"SUBMIT": {"type": "object", "required": ["title"]}},
    output={"state": "{{ steps.machine.output.state }}", "note": "{{ steps.note.output }}"},
)

#: Goes on by itself, and counts its rounds.
turnstile = machine(
    "turnstile",
    initial="locked",
    states=["locked", "open", "closed"],
    final=["closed"],
    transitions=[
        transition("locked", "open", event="COIN", steps=[step("count", echo, {"value": "{{ event.payload }}"})]),
        transition("open", "locked", event="PUSH", steps=[step("pass", hold, {"attempts": "{{ event.payload }}"})]),
        transition("*", "closed", event="CLOSE"),
    ],
)

#: Of its transition nothing is left if it fails.
voyage = machine(
    "voyage",
    initial="planned",
    states=["planned", "booked"],
    final=["booked"],
    transitions=[
        transition(
            "planned",
            "booked",
            event="BOOK",
            steps=[subworkflow("booking", "booking", {"attempts": "{{ event.payload }}"})],
        )
    ],
)

by_itself = machine(
    "by-itself",
    initial="one",
    states=["one", "two", "three"],
    final=["three"],
    transitions=[
        transition("one", "two", steps=[step("work", echo, {"value": 1})]),
        transition("two", "three", condition="{{ steps.work.output == 1 }}"),
    ],
)

by_time = machine(
    "by-time",
    initial="fresh",
    states=["fresh", "stale", "gone"],
    final=["gone"],
    transitions=[
        transition("fresh", "stale", after=0.3, steps=[step("warn", echo)]),
        transition("stale", "gone", after="24h"),
    ],
)

stumbling = machine(
    "stumbling",
    initial="here",
    states=["here", "there"],
    final=["there"],
    transitions=[
        transition("here", "there", event="GO", steps=[step("walk", fail, BUSINESS)]),
        transition("here", "there", event="FLY", steps=[step("fly", hold)], timeout=0.5),
        transition("here", "there", event="RIDE"),
    ],
)

#: Both steps of its transition must have ended before the state changes.
side_by_side = machine(
    "side-by-side-machine",
    initial="here",
    states=["here", "there"],
    final=["there"],
    transitions=[
        transition("here", "there", event="GO", steps=[parallel(step("quick", echo), step("slow", hold))]),
    ],
)

#: An event that fails does not put the timer off.
ageing = machine(
    "ageing",
    initial="fresh",
    states=["fresh", "stale"],
    final=["stale"],
    transitions=[
        transition("fresh", "stale", event="TOUCH", steps=[step("fails", fail, BUSINESS)]),
        transition("fresh", "stale", after="24h"),
    ],
)

stuck_by_itself = machine(
    "stuck-by-itself",
    initial="here",
    states=["here", "there"],
    final=["there"],
    transitions=[
        transition("here", "there", steps=[step("walk", fail, BUSINESS)]),
        transition("here", "there", event="GO"),
    ],
)

account = machine(
    "account",
    initial="asked",
    states=["asked", "opened", "funded", "active", "refused"],
    final=["active", "refused"],
    transitions=[
        transition("asked", "opened", event="NEXT", steps=[step("open", echo, compensation=compensation(echo))]),
        transition("opened", "funded", event="NEXT", steps=[step("fund", echo, compensation=compensation(echo))]),
        transition("funded", "active", event="NEXT"),
        transition("*", "refused", event="REFUSE", compensate=True),
    ],
)
