"""The workflows of the tests."""

from __future__ import annotations

import os

from nodes.activities import (
    echo,
    echo_async,
    fail,
    hold,
    meet,
    sabotage,
    sleep,
    sleep_async,
    swallow,
    total,
    write_and_hold,
)
from orchestrator import (
    RetryPolicy,
    block,
    compensation,
    each,
    handle,
    parallel,
    sequence,
    step,
    subworkflow,
    workflow,
)

#: Where a test wants another attempt, it wants it now.
SOON = RetryPolicy(max_attempts=3, backoff=0.1, jitter=0)
ONCE = RetryPolicy(max_attempts=1)

# End to end.

pipeline = workflow(
    "pipeline",
    step("first", echo, {"value": "{{ input.number }}"}),
    step("second", echo_async, {"value": "{{ steps.first.output }}"}),
    parallel(
        step("left", echo, {"value": "{{ steps.second.output }}"}),
        sequence(
            step("right", echo, {"value": "{{ input.number }}"}),
            step("righter", echo_async, {"value": "{{ steps.right.output }}"}),
        ),
    ),
    step("join", total, {"values": ["{{ steps.left.output }}", "{{ steps.righter.output }}"]}),
    step("elsewhere", echo, {"value": "{{ steps.join.output }}"}, queue="elsewhere"),
    step("alone", echo, {"value": "{{ steps.elsewhere.output }}"}, fuse=False),
    step("last", echo, {"value": {"sum": "{{ steps.alone.output }}", "text": "{{ steps.alone.output }} in all"}}),
    output={"sum": "{{ steps.last.output.sum }}", "text": "{{ steps.last.output.text }}", "of": "{{ input.number }}"},
)

#: Its chain changes the queue at every step, and is longer than one canvas may be.
zigzag = workflow(
    "zigzag",
    *[step(f"leg_{n}", echo, {"value": n}, queue="elsewhere" if n % 2 else None) for n in range(20)],
)

#: Names as long as they may be.
long_names = workflow(
    "n" * 200,
    *[step(f"leg_{n:02}_".ljust(100, "x"), echo, {"value": n}, queue=f"q{n % 2}".ljust(100, "y")) for n in range(20)],
)

# One step that waits.

held = workflow(
    "held",
    step("work", hold, {"attempts": "{{ input.attempts }}", "value": 7}),
    step("after", echo, {"value": "{{ steps.work.output }}"}),
)

plain_hold = workflow("plain-hold", step("work", hold))

held_effect = workflow("held-effect", step("work", write_and_hold), step("after", echo))

effects = workflow("effects", *[step(f"step_{n}", write_and_hold, {"attempts": 0}) for n in range(5)])

quick = workflow("quick", step("only", echo, {"value": 1}))

steady = workflow("steady", *[step(f"step_{n}", echo, {"value": n}) for n in range(5)])

# Joins.


def fan(name: str, width: int) -> object:
    """That many steps side by side, and one behind them all."""
    return workflow(
        name,
        parallel(*[step(f"part_{n}", echo, {"value": n}) for n in range(width)]),
        step("body", echo, {"value": width}),
    )


fan_1, fan_2, fan_20 = (fan(f"fan-{width}", width) for width in (1, 2, 20))

race = workflow(
    "race",
    parallel(step("one", meet, {"parties": 2}), step("other", meet, {"parties": 2})),
    step("body", echo, {"value": 1}),
)

held_fan = workflow(
    "held-fan",
    parallel(step("quick", echo), step("slow", hold), step("quicker", echo)),
    step("body", echo, {"value": 1}),
)

unserved_fan = workflow(
    "unserved-fan", parallel(step("one", echo), step("other", echo)), step("body", echo), queue="unserved"
)

#: A part that is undone by itself, wherever it stands; half of it is in a block.
booking = workflow(
    "booking",
    step("flight", echo, compensation=compensation(echo)),
    block("rest", step("hotel", echo, compensation=compensation(echo))),
    step("pay", fail, {"attempts": "{{ input.attempts }}", "business": True}, retry=RetryPolicy(max_attempts=1)),
)
part_undone = workflow(
    "part-undone",
    step("before", echo, compensation=compensation(echo)),
    subworkflow("booking", booking, {"attempts": 1}, catch=handle(step("apologise", echo))),
    step("behind", echo, compensation=compensation(echo)),
    step("last", fail, {"attempts": "{{ input.attempts }}", "business": True}, retry=RetryPolicy(max_attempts=1)),
)
parts_undone = workflow(
    "parts-undone",
    each(
        "trips",
        "{{ input.attempts }}",
        subworkflow("booking", booking, {"attempts": "{{ item }}"}, on_error="continue"),
    ),
)

# For workers that end when nothing is left to do.

idle_prefork, idle_threads = (
    workflow(name, step("work", fail, {"attempts": 1}), queue=name, retry=RetryPolicy(max_attempts=3, backoff=1))
    for name in ("idle-prefork", "idle-threads")
)

# Failures.

flaky = workflow("flaky", step("work", fail, {"attempts": 2}), retry=RetryPolicy(max_attempts=3, backoff=0.4, jitter=0))

exhausted = workflow("exhausted", step("work", fail, {"attempts": 99}), retry=SOON)

refused = workflow("refused", step("work", fail, {"attempts": 99, "business": True}), retry=SOON)

late_failure = workflow(
    "late-failure",
    parallel(
        # Behind a gate of its own: a branch that has not begun when another fails never does.
        step("refused", fail, {"attempts": 99, "business": True, "gate": "refusal"}),
        step("slow", fail, {"attempts": 99, "gate": "gate"}),
    ),
    retry=SOON,
)

sabotaged = workflow("sabotaged", step("one", sabotage), step("two", hold), retry=ONCE)

overslept = workflow("overslept", step("work", sleep, {"seconds": 30}, timeout=0.5), retry=SOON)

overslept_async = workflow("overslept-async", step("work", sleep_async, {"seconds": 30}, timeout=0.5), retry=SOON)

swallowed = workflow("swallowed", step("work", swallow, {"seconds": 30}, timeout=0.5), retry=SOON)

threaded = workflow("threaded", step("work", hold, timeout=0.5, queue="threads"), retry=SOON)

expiring = workflow("expiring", step("work", hold), step("after", echo), timeout=1)

# Sagas.

rollback = workflow(
    "rollback",
    step("one", echo, {"value": 1}, compensation=compensation(echo, {"value": "{{ undo.output }}"})),
    step("two", echo, {"value": 2}, compensation=compensation(echo)),
    step("bare", echo),
    step("three", echo, {"value": 3}, compensation=compensation(echo)),
    step("fails", fail, {"attempts": 99, "business": True}),
    step("never", echo, compensation=compensation(echo)),
)

undo_attempted = workflow(
    "undo-attempted",
    step("done", echo, compensation=compensation(echo)),
    step("fails", fail, {"attempts": 99, "business": True}, compensation=compensation(echo)),
)

undo_completed = workflow(
    "undo-completed",
    step("done", echo, compensation=compensation(echo)),
    step(
        "fails",
        fail,
        {"attempts": 99, "business": True},
        compensation=compensation(echo),
        compensate_on="completed",
    ),
)

undo_transactional = workflow(
    "undo-transactional",
    step("done", write_and_hold, {"attempts": 0}, compensation=compensation(echo)),
    step("fails", write_and_hold, {"attempts": 0, "fail": True}, compensation=compensation(echo)),
)

undo_retried = workflow(
    "undo-retried",
    step("one", echo, compensation=compensation(echo)),
    step("two", echo, compensation=compensation(fail, {"attempts": 2}, retry=SOON)),
    step("fails", fail, {"attempts": 99, "business": True}),
)

undo_fails = workflow(
    "undo-fails",
    step("one", echo, compensation=compensation(echo)),
    step("two", echo, compensation=compensation(fail, {"attempts": 99}, retry=ONCE)),
    step("three", echo, compensation=compensation(echo)),
    step("fails", fail, {"attempts": 99, "business": True}),
)

undo_waits = workflow(
    "undo-waits",
    parallel(
        step("fails", fail, {"attempts": 99, "business": True, "gate": "refusal"}),
        step("slow", hold, compensation=compensation(echo)),
    ),
    step("never", echo),
)

undo_long = workflow(
    "undo-long",
    *[step(f"step_{n:02}", echo, {"value": n}, compensation=compensation(echo)) for n in range(20)],
    step("fails", fail, {"attempts": 99, "business": True}),
)

# Segments.

fused = workflow("fused", step("first", hold), *[step(f"step_{n:02}", echo, {"value": n}) for n in range(20)])

slow_steps = workflow("slow-steps", *[step(f"step_{n}", sleep, {"seconds": 0.25}) for n in range(12)], retry=ONCE)

# A definition that changes.

changing = workflow("changing", step("only", echo, {"value": os.environ.get("NODES_VALUE", "original")}))
