"""Steps that ask the ledger for everything at once: more ways to it than a process has connections."""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task

from nodes import witness
from nodes.activities import EFFECT
from orchestrator import StepContext, activity, current_step, idempotent, parallel, step, task, workflow
from orchestrator.current import get_current

#: Queues of pools of each sort.
CROWDED = ("crowded", "crowded-threads", "crowded-solo")
#: A connector whose secret is in the ledger.
SHOP, SECRET = "crowded-shop", "CROWDED"


def ask(ctx: StepContext) -> None:
    """All that an activity may ask the ledger, whatever its own transaction is."""
    ctx.log("info", "asking")
    ctx.heartbeat({"asked": 1})
    ctx.side_effect("number", lambda: 1)
    assert ctx.connectors is not None
    ctx.connectors.get(SHOP)
    started = get_current().start("quick", {})
    assert started.status() in {"running", "succeeded"}
    witness.present().note(ctx)


@activity
def ask_much(ctx: StepContext, values: Any = None) -> int:
    """Holds no transaction."""
    ask(ctx)
    return 1


@activity
async def ask_much_async(ctx: StepContext) -> int:
    """On the event loop's thread."""
    ask(ctx)
    return 1


@activity(transactional=True)
def ask_much_in_transaction(ctx: StepContext, values: Any = None) -> int:
    """Writes before."""
    ctx.connection.execute(EFFECT, {"execution": ctx.execution_id, "path": ctx.path, "attempt": ctx.attempt})
    ask(ctx)
    # Long enough for whoever counts what is open.
    time.sleep(0.02)
    return 1


@shared_task(name="crowded.guarded")
@idempotent(key="{key}")
def guarded(key: str) -> int:
    """A task of the application's own, with a guard of its own."""
    ctx = current_step()
    assert ctx is not None
    ask(ctx)
    return 1


def _crowd(queue: str) -> object:
    asked = ["{{ steps.plain.output }}", "{{ steps.effect.output }}", "{{ steps.guarded.output }}"]
    return workflow(
        queue,
        parallel(
            step("plain", ask_much),
            step("coroutine", ask_much_async),
            step("effect", ask_much_in_transaction),
            task("guarded", guarded, {"key": "{{ execution.id }}"}, queue=queue),
        ),
        # Its input is read while its transaction is open.
        step("join", ask_much_in_transaction, {"values": asked}),
        step("last", ask_much, {"values": asked}),
        queue=queue,
    )


crowded, crowded_threads, crowded_solo = (_crowd(queue) for queue in CROWDED)
