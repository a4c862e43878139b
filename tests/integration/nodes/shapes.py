"""Workflows of every shape, for the tests on real workers."""

from __future__ import annotations

from nodes.activities import count_and_sum, echo, fail, hold, padded, total
from orchestrator import (
    RetryPolicy,
    Workflow,
    block,
    case,
    choice,
    compensation,
    delay,
    each,
    emit,
    handle,
    parallel,
    repeat,
    sequence,
    step,
    subworkflow,
    wait,
    when,
    workflow,
)
from orchestrator import fail as refuse

SOON = RetryPolicy(max_attempts=2, backoff=0.1, jitter=0)
BUSINESS = {"attempts": 99, "business": True}

# Graphs.

shortcut = workflow(
    "shortcut",
    step("a", echo, {"value": 1}),
    step("b", echo, {"value": 2}, after=["a"]),
    step("c", echo, {"value": 3}, after=["b"]),
    step("d", total, {"values": ["{{ steps.a.output }}", "{{ steps.c.output }}"]}, after=["a", "c"]),
)

shared_parents = workflow(
    "shared-parents",
    *[step(f"p{n}", echo, {"value": n}, after=[]) for n in range(4)],
    step("x", echo, {"value": "x"}, after=["p0", "p1", "p2"]),
    step("y", echo, {"value": "y"}, after=["p1", "p2", "p3"]),
    step("z", echo, {"value": "z"}, after=["x", "y", "p0"]),
)

first_wins = workflow(
    "first-wins",
    parallel(
        step("quick", echo, {"value": "quick"}),
        sequence(step("slow", hold, {"value": "slow"}), step("slower", echo)),
    ),
    step("winner", echo, {"value": ["{{ steps.quick.output }}", "{{ steps.slower.output }}"]}, join="any"),
)

#: `late` leads only to the join, but comes after what goes on when the join is decided.
late_loser = workflow(
    "late-loser",
    step("root", echo),
    step("quick", echo, after=["root"]),
    step("slow", hold, after=["root"]),
    step("late", echo, after=["slow"]),
    step("on", echo, after=["slow"]),
    step("winner", echo, {"value": "quick"}, after=["quick", "late"], join="any"),
    output="{{ steps.winner.output }}",
)

#: Who has lost works on, and the whole goes back.
lost_and_undone = workflow(
    "lost-and-undone",
    step("before", echo, compensation=compensation(echo)),
    parallel(step("quick", hold, {"gate": "quick"}), step("slow", hold, compensation=compensation(echo))),
    step("winner", echo, join="any"),
    step("fails", fail, BUSINESS | {"gate": "refusal"}),
)

#: The same within a part, whose failure is handled.
lost_in_part = workflow(
    "lost-in-part",
    block(
        "part",
        parallel(step("quick", hold, {"gate": "quick"}), step("slow", hold, compensation=compensation(echo))),
        step("winner", echo, join="any"),
        step("fails", fail, BUSINESS | {"gate": "refusal"}),
        catch=handle(step("handled", echo)),
    ),
)

#: And in a child that has succeeded, before its parent goes back.
lost_in_child = workflow(
    "lost-in-child",
    step("before", echo, compensation=compensation(echo)),
    parallel(step("quick", hold, {"gate": "quick"}), step("slow", hold, compensation=compensation(echo))),
    step("winner", echo, join="any"),
)


def parent_of(name: str, child: Workflow) -> Workflow:
    """One that fails, and goes back, once its child has ended."""
    return workflow(
        name,
        step("before", echo, compensation=compensation(echo)),
        subworkflow("child", child),
        step("fails", fail, BUSINESS | {"gate": "refusal"}),
    )


parent_of_losers = parent_of("parent-of-losers", lost_in_child)

keeps_losers = workflow("keeps-losers", subworkflow("child", lost_in_child))
grandparent_of_losers = workflow(
    "grandparent-of-losers",
    subworkflow("child", keeps_losers),
    step("fails", fail, BUSINESS | {"gate": "refusal"}),
)

#: Who has lost is an execution itself.
holds = workflow("holds", step("work", hold, compensation=compensation(echo)))
lost_by_child = workflow(
    "lost-by-child",
    step("before", echo, compensation=compensation(echo)),
    parallel(step("quick", hold, {"gate": "quick"}), subworkflow("slow", holds)),
    step("winner", echo, join="any"),
)
parent_of_race = parent_of("parent-of-race", lost_by_child)

none_wins = workflow(
    "none-wins",
    parallel(step("one", fail, BUSINESS), sequence(step("two", fail, BUSINESS), step("behind", echo))),
    step("winner", echo, join="any"),
)

two_of_three = workflow(
    "two-of-three",
    parallel(step("one", echo), step("two", fail, BUSINESS), step("three", echo)),
    step("enough", echo, {"value": "enough"}, join=2),
)

all_settled = workflow(
    "all-settled",
    parallel(step("good", echo, {"value": 1}), sequence(step("bad", fail, BUSINESS), step("after_bad", echo))),
    step(
        "report",
        echo,
        {"value": ["{{ steps.good.output }}", "{{ steps.bad.error.name }}", "{{ steps.after_bad.status }}"]},
        join="settled",
    ),
)

# Choices.

routed = workflow(
    "routed",
    choice(
        "route",
        case("{{ input.n > 10 }}", step("large", echo, {"value": "large"}), exit="large"),
        case("{{ input.n > 5 }}", step("middle", echo), step("middle_too", echo, {"value": "middle"}), exit="middle"),
        default=[step("small", echo, {"value": "small"})],
    ),
    step(
        "behind",
        echo,
        {"value": "{{ coalesce(steps.large.output, steps.middle_too.output, steps.small.output) }}"},
    ),
)

#: Everything behind its choice is skipped, a join among it.
nothing_behind = workflow(
    "nothing-behind",
    choice(
        "route",
        case("{{ true }}", exit="known"),
        default=[step("a", echo), parallel(step("b", echo), step("c", echo)), step("d", echo), step("e", echo)],
    ),
)

maybe = workflow(
    "maybe", when("is_odd", "{{ input.n % 2 == 1 }}", [step("odd", echo)]), step("behind", echo, {"value": "done"})
)

broken_condition = workflow("broken-condition", choice("route", case("{{ input.missing > 1 }}", step("never", echo))))

defaulted_condition = workflow(
    "defaulted-condition",
    choice(
        "route",
        case("{{ input.missing > 1 }}", step("never", echo)),
        default=[step("instead", echo)],
        default_on_error=True,
    ),
)

# Loops.

in_order = workflow(
    "in-order",
    each("loop", "{{ input.items }}", step("send", echo, {"value": "{{ item * 10 + index }}"})),
    output={"results": "{{ steps.loop.output }}", "sum": "{{ sum(steps.loop.output) }}"},
)

side_by_side = workflow(
    "side-by-side",
    each(
        "loop",
        "{{ input.items }}",
        step("first", echo, {"value": "{{ item }}"}),
        step("second", echo, {"value": "{{ steps.first.output * 2 }}"}),
        concurrency=4,
    ),
    step("behind", echo, {"value": "{{ steps.loop.output }}"}),
)

nested = workflow(
    "nested",
    each(
        "outer",
        "{{ input.rows }}",
        parallel(step("left", echo, {"value": "{{ item }}"}), step("right", echo, {"value": "{{ index }}"})),
        each("inner", "{{ steps.left.output }}", step("cell", echo, {"value": "{{ item + steps.right.output }}"})),
        concurrency=2,
    ),
)

#: Every step in a task of its own: canvases are chains, and a loop in the middle of one parks.
unfused = workflow(
    "unfused",
    step("before", echo),
    each("loop", [1, 2], step("one", echo, {"value": "{{ item }}"})),
    step("behind", echo, {"value": "{{ steps.loop.output }}"}),
    fuse=False,
)

filtered = workflow(
    "filtered",
    each("loop", "{{ input.items }}", when("wanted", "{{ item > 2 }}", [step("take", echo, {"value": "{{ item }}"})])),
)

failing_loop = workflow("failing-loop", each("loop", [1, 2, 3], step("one", fail, BUSINESS)))

bearing_loop = workflow(
    "bearing-loop",
    each("loop", [1, 2, 3], step("one", fail, BUSINESS, on_error="continue")),
    step("behind", echo, {"value": "{{ steps.loop.output }}"}),
)

counted = workflow(
    "counted",
    repeat(
        "count",
        step("tick", echo, {"value": "{{ index + 1 }}"}),
        until="{{ steps.tick.output == 3 }}",
        max_iterations=5,
    ),
)

endless = workflow("endless", repeat("count", step("tick", echo), until="{{ false }}", max_iterations=3))

paused = workflow(
    "paused", repeat("count", step("tick", echo, {"value": "{{ index }}"}), while_="{{ index < 2 }}", pause=0.2)
)

# Errors.

fallen_back = workflow(
    "fallen-back",
    step("charge", fail, BUSINESS, fallback=[step("invoice", echo, {"value": "{{ steps.charge.error.message }}"})]),
    step("ship", echo, {"value": ["{{ steps.charge.output }}", "{{ steps.invoice.output }}"]}),
)

caught_by_name = workflow(
    "caught-by-name",
    step(
        "work",
        fail,
        {"attempts": "{{ input.attempts }}", "business": "{{ input.business }}"},
        retry=SOON,
        catch=[
            handle(
                step("refusal", echo, {"value": "{{ steps.work.error.category }}"}),
                errors=["BusinessError"],
                exit="refused",
            ),
            handle(step("outage", echo, {"value": "{{ steps.work.error.name }}"}), errors=["transient"], exit="away"),
        ],
    ),
    output=["{{ steps.work.output }}", "{{ steps.refusal.output }}", "{{ steps.outage.output }}"],
)

tried = workflow(
    "tried",
    block(
        "attempt",
        step("begin", echo),
        parallel(step("breaks", fail, BUSINESS | {"gate": "refusal"}), step("held", hold), step("quick", echo)),
        step("never", echo),
        catch=[handle(step("rescue", echo, {"value": "{{ steps.attempt.error.step }}"}))],
    ),
    step("behind", echo, {"value": "{{ steps.rescue.output }}"}),
)

untroubled = workflow(
    "untroubled",
    block(
        "attempt",
        step("begin", echo, {"value": 1}),
        step("end", echo, {"value": 2}),
        catch=[handle(step("rescue", echo))],
    ),
    output=["{{ steps.attempt.output }}", "{{ steps.rescue.status }}"],
)

stopped = workflow(
    "stopped", step("done", echo, compensation=compensation(echo)), step("fails", fail, BUSINESS, on_error="stop")
)

patient = workflow(
    "patient",
    step("work", fail, {"attempts": 5}, on_error="retry", retry=RetryPolicy(max_attempts=1, backoff=0.05, jitter=0)),
)

refusing = workflow("refusing", refuse("no", "order {{ input.n }} is not for us", name="NotForUs"))

# Waiting.

delayed = workflow("delayed", delay("pause", 0.5), step("behind", echo, {"value": 1}))

approval = workflow(
    "approval",
    wait("approved", "approval", timeout="30s"),
    step("behind", echo, {"value": "{{ steps.approved.output.by }}"}),
    signals={"approval": {"type": "object", "required": ["by"]}},
)

approval_later = workflow(
    "approval-later",
    step("before", hold),
    wait("first", "approval"),
    wait("second", "approval"),
    output=["{{ steps.first.output.by }}", "{{ steps.second.output.by }}"],
)

impatient = workflow(
    "impatient",
    wait(
        "approved",
        "approval",
        timeout=0.3,
        catch=[handle(step("late", echo, {"value": "too late"}), errors=["timeout"])],
    ),
)

listener = workflow(
    "listener",
    wait("paid", "payment", correlation="{{ input.order }}"),
    step("behind", echo, {"value": "{{ steps.paid.output.amount }}"}),
)

teller = workflow("teller", emit("tell", "payment", {"amount": "{{ input.amount }}"}, correlation="{{ input.order }}"))

# Workflows within workflows.

small_child = workflow(
    "small-child",
    step("work", echo, {"value": "{{ input.n * 2 }}"}, compensation=compensation(echo)),
)

held_child = workflow("held-child", step("work", hold, compensation=compensation(echo)))

failing_child = workflow("failing-child", step("fails", fail, BUSINESS))

parent = workflow(
    "parent",
    subworkflow("child", small_child, {"n": "{{ input.n }}"}),
    step("behind", echo, {"value": "{{ steps.child.output }}"}),
)

parent_of_failing = workflow(
    "parent-of-failing",
    subworkflow(
        "child", failing_child, {}, catch=[handle(step("rescue", echo, {"value": "{{ steps.child.error.name }}"}))]
    ),
)

parent_undone = workflow("parent-undone", subworkflow("child", small_child, {"n": 1}), step("fails", fail, BUSINESS))

parent_compensating = workflow(
    "parent-compensating",
    subworkflow("child", small_child, {"n": 1}, compensation=compensation(echo, {"value": "{{ undo.output }}"})),
    step("fails", fail, BUSINESS),
)

parent_cancelling = workflow(
    "parent-cancelling",
    parallel(subworkflow("child", held_child, {}), step("fails", fail, BUSINESS | {"gate": "refusal"})),
)

racing_parent = workflow(
    "racing-parent",
    parallel(step("quick", hold, {"gate": "refusal"}), subworkflow("child", held_child, {})),
    step("winner", echo, join="any"),
)

parent_detached = workflow("parent-detached", subworkflow("child", small_child, {"n": 4}, detached=True))

parents_of_many = workflow(
    "parents-of-many",
    each("loop", [1, 2, 3], subworkflow("child", small_child, {"n": "{{ item }}"}), concurrency=3),
)

# Wide.

many = workflow(
    "many",
    each(
        "loop",
        "{{ range(input.count) }}",
        step("send", padded, {"value": "{{ item }}", "size": "{{ input.size }}"}),
        concurrency=100,
    ),
    step("behind", count_and_sum, {"results": "{{ steps.loop.output }}"}),
)
