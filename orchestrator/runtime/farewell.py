"""The end of a pool of processes, which waits for its children and not only for what they are known to work on.

Celery's own stops to read what the children tell once no task is known to be open. But what was written to a child that
had not said yet that it begins is forgotten as the consumer ends (the broker delivers it again), and the child carries
it out all the same. Then nobody reads that it is done, which the child awaits for 30 s before it exits, and the worker
for the child: with Celery's own reading, 11 of some 130 shutdowns under load, soon after a child had been killed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from billiard.pool import TERMINATE, WorkersJoined
from celery.concurrency.asynpool import AsynPool

logger = logging.getLogger("orchestrator.node")

#: Seconds between two looks at who has exited.
LOOK = 0.1


def await_children(pool: Any) -> None:
    """Have a pool that is closed read until all of its children are gone. A pool without processes is left alone.

    Args:
        pool: what Celery's own pool is a face of.
    """
    if not isinstance(pool, AsynPool):
        return
    handler = pool._result_handler
    when_terminated = handler.on_stop_not_started

    def read_on() -> None:
        if pool._state == TERMINATE:
            when_terminated()
            return
        deaf: set[int] = set()
        while pool._state != TERMINATE:
            if handler.check_timeouts is not None:
                handler.check_timeouts()
            try:
                # What a child that was killed had begun is settled as lost here.
                handler.join_exited_workers(shutdown=True)
            except WorkersJoined:
                return
            readers = [child.outq._reader for child in pool._pool]
            for reader in wait([reader for reader in readers if id(reader) not in deaf], LOOK):
                if not _read_one(reader, handler.on_state_change):
                    deaf.add(id(reader))

    handler.on_stop_not_started = read_on


def _read_one(reader: Any, tell: Callable[[Any], object]) -> bool:
    """Pass on one message; whether there may be another."""
    try:
        # A message is there, but perhaps not all of it yet.
        os.set_blocking(reader.fileno(), True)
        try:
            told = reader.recv()
        finally:
            with suppress(OSError):
                os.set_blocking(reader.fileno(), False)
    except (OSError, EOFError):
        return False
    if told:
        try:
            tell(told)
        except OSError as error:
            logger.warning("the end of a task could not be told", extra={"reason": str(error)})
    return True
