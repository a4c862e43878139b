"""Plain Celery, in each of the settings that its documentation offers for throughput and safety.

All four are given what the guide to optimizing recommends: no results, no task events, JSON. A worker takes its broker
from CELERY_BROKER_URL. Each has a queue of its own, so that all pools may be up side by side.
"""

from __future__ import annotations

from functools import cache

from celery import Celery, chain
from redis import Redis

NOOP, COUNT = "benchmarks.noop", "benchmarks.count"


def make(name: str, *, acks_late: bool, prefetch: int) -> Celery:
    """An application whose default queue has its name."""
    app = Celery(name, set_as_current=False)
    app.conf.update(
        task_acks_late=acks_late,
        worker_prefetch_multiplier=prefetch,
        task_default_queue=name,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_send_sent_event=False,
        worker_send_task_events=False,
    )

    @app.task(name=NOOP)
    def noop() -> None:
        """What our engine's steps do, too: nothing."""

    @app.task(name=COUNT)
    def count(key: str) -> None:
        """The last task of a chain: one more has ended."""
        _redis(app.conf.broker_url).incr(key)

    return app


early_1 = make("early_1", acks_late=False, prefetch=1)
early_4 = make("early_4", acks_late=False, prefetch=4)
late_1 = make("late_1", acks_late=True, prefetch=1)
late_4 = make("late_4", acks_late=True, prefetch=4)

#: By the name under which this module holds them.
VARIANTS: dict[str, Celery] = {"early_1": early_1, "early_4": early_4, "late_1": late_1, "late_4": late_4}


def send(app: Celery, tasks: int, key: str) -> None:
    """Publish a chain of so many tasks, the last of which increments a counter.

    One message at a time: a chain drops the producer it is given, so batches are not to be had for it.
    """
    noop, count = app.tasks[NOOP], app.tasks[COUNT]
    chain(*(noop.si() for _ in range(tasks - 1)), count.si(key), app=app).apply_async()


@cache
def _redis(url: str) -> Redis:
    return Redis.from_url(url)
