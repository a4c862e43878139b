"""Workers of the application that had Celery before, and their traffic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from nodes.legacy import STRANGER
from nodes.messages import Message
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site
from nodes.traffic import Traffic

#: The broker's database that holds the application's own results, where the broker is Redis.
RESULTS = 5


def results_url(site: Site) -> str:
    """Where the application keeps its results: not in Redis if there is none."""
    if site.broker_url.startswith("redis"):
        return f"{site.broker_url.rsplit('/', 1)[0]}/{RESULTS}"
    folder = site.witness.folder / "results"
    folder.mkdir(exist_ok=True)
    return folder.as_uri()


def legacy_worker(site: Site, name: str, queues: Sequence[str], *, pool: str = "prefork", size: int = 2) -> WorkerNode:
    """A worker of the application, ready; of the queue `stranger` one that knows nothing of the orchestrator."""
    argv = [sys.executable, "-m", "celery", "-A", "nodes.legacy_app", "worker", "--loglevel", "INFO"]
    argv += ["--hostname", f"{name}@%h", "--queues", ",".join(queues), "--without-gossip", "--without-mingle"]
    argv += ["--pool", pool, "--concurrency", str(size)]
    env = {"LEGACY_RESULTS": results_url(site)} | ({"LEGACY_STRANGER": "1"} if STRANGER in queues else {})
    container = site._container(name, argv, env, " ready.", queues)
    node = WorkerNode(container, site.orchestrator.app)
    assert node.ready()
    return node


class TaskTraffic(Traffic):
    """Records the messages of tasks, too."""

    def of_task(self, name: str) -> list[Message]:
        """Messages of a task so far."""
        self._catch_up()
        return [message for message in self._seen if message.task == name]


#: One node for the steps around.
AROUND: Sequence[Pool] = (Pool(name="around", concurrency=2),)
HEADER = "orchestrator"


def of_execution(messages: Sequence[Message], execution: Any) -> list[Message]:
    """Those of one execution."""
    return [message for message in messages if message.headers.get(HEADER, [None])[0] == execution]
