"""A worker that ends by itself once there is nothing left for it to do: for scripts, and for machines that cost by the
minute.

Idle is what the ledger says, not the broker: nothing in the queues that it consumes is ready or runs, on whichever
node, nor is due before as long again as it waits. A message that was lost is work yet; a sweep finds it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import clock
from orchestrator.ledger import nodes

logger = logging.getLogger("orchestrator.node")

#: Seconds between looks.
_POLL = 0.5


def end_when_idle(engine: Engine, queues: Sequence[str], seconds: float) -> threading.Thread:
    """Have this process end as by SIGTERM after so many seconds without work. The thread that looks is started."""

    def look() -> None:
        since: float | None = None
        while True:
            clock.pause(_POLL)
            try:
                with engine.connect() as connection:
                    left = nodes.work_left(connection, queues, ahead=seconds)
            except SQLAlchemyError as error:
                logger.warning("whether there is work left is not known", extra={"reason": str(error)})
                left = True
            since = None if left else since or clock.elapsed()
            if since is not None and clock.elapsed() - since >= seconds:
                logger.info("nothing left to do: the worker ends", extra={"idle": seconds})
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=look, name="orchestrator-idle", daemon=True)
    thread.start()
    return thread
