"""This repository's Celery application: `celery -A workers.app worker`, `orchestrator worker --app workers.app`."""

from __future__ import annotations

from kombu import Queue

from orchestrator import Orchestrator, Settings
from workers.pools import POOLS

orchestrator = Orchestrator(modules=Settings().modules or ("definitions",))
app = orchestrator.app
#: What a worker consumes that is started without a list of queues: all that any pool does.
app.conf.task_queues = [Queue(name) for name in dict.fromkeys(name for pool in POOLS.values() for name in pool.queues)]
