"""The application. Only the last two lines are the orchestrator's."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from redis import Redis

from orchestrator import AttemptInProgress, Orchestrator, idempotent

RESULTS = os.environ["EXISTING_RESULT_URL"]

app = Celery("existing", broker=os.environ["ORCHESTRATOR_BROKER_URL"], backend=RESULTS)
app.conf.beat_schedule = {"tick": {"task": "existing.tick", "schedule": 1.0, "options": {"expires": 30}}}


def counters() -> Redis:
    """Where the tasks leave their traces."""
    return Redis.from_url(RESULTS, decode_responses=True)


@app.task(name="existing.square")
def square(number: int) -> int:
    """A chord's header."""
    return number * number


@app.task(name="existing.total")
def total(numbers: list[int]) -> int:
    """A chord's body."""
    counters().incr("totals")
    return sum(numbers)


@app.task(name="existing.flaky", bind=True, max_retries=3)
def flaky(self: Any, failures: int) -> int:
    """Retries itself, as Celery's tasks do."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


@app.task(name="existing.tick")
def tick() -> None:
    """Sent by beat."""
    counters().incr("ticks")


@app.task(
    name="existing.charge",
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(AttemptInProgress,),
    retry_backoff=1,
    max_retries=None,
)
@idempotent(key="payment-{payment_id}")
def charge(payment_id: int, amount: int) -> dict[str, int]:
    """Charges once, however often its message comes."""
    receipt = counters().incr("charges")
    return {"payment_id": payment_id, "amount": amount, "receipt": receipt}


orchestrator = Orchestrator(modules=("examples.existing_celery.workflow",))
orchestrator.init_app(app)
