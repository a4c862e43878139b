"""Workflows that a backup is taken of in their midst."""

from __future__ import annotations

from nodes.activities import echo, hold, write_and_hold
from orchestrator import block, step, subworkflow, wait, workflow

#: Whatever it does is in the ledger's own database.
within = workflow(
    "all-within",
    step("first", write_and_hold),
    step("second", write_and_hold, {"attempts": 0}),
    block("box", step("mapped", "transform", {"value": 1})),
)

outside = workflow(
    "all-outside",
    step("before", echo),
    step("work", hold, {"value": "called"}),
    step("after", echo, {"value": "{{ steps.work.output }}"}),
)

#: What it did outside is settled before the wait; what comes behind it may be done again.
answered = workflow(
    "outside-answered",
    step("before", echo),
    wait("answer", "answer"),
    step("last", write_and_hold, {"attempts": 0}),
)

around = workflow("around-a-child", step("wide", write_and_hold), subworkflow("child", "quick"))
