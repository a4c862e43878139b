"""What a worker process works with; made once, shared by its segments."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.registry import Registry
from orchestrator.compiler.graph import Graph
from orchestrator.engine.core import Core
from orchestrator.runtime.attempt_log import AttemptLogs
from orchestrator.runtime.attendance import Attendance
from orchestrator.runtime.link import Link
from orchestrator.runtime.owner import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """The parts of a worker process."""

    core: Core
    registry: Registry
    node: Node
    connectors: Connectors
    #: Connections of steps and sweeps: one for each that the process works on at a time, and never two for one. All
    #: else that the process asks the ledger shares the one of `core.database`, for a statement at a time.
    steps: Engine
    #: The node's own connection, in its main process: saying that it lives must wait for nobody.
    beats: Engine
    attendance: Attendance
    logs: AttemptLogs

    def link(self) -> Link:
        """A segment's connection; to be closed."""
        return Link(self.steps, self.core.database)

    def forget_connections(self, *, close: bool = True) -> None:
        """Have new ones made; after a fork those of the parent are left open, which goes on with them."""
        for engine in (self.core.database, self.steps, self.beats):
            engine.dispose(close=close)

    def is_transactional(self, graph: Graph, path: str) -> bool:
        """Whether a step or compensation calls a transactional activity that is known here."""
        return self.registry.is_transactional(graph.call(path).activity or "")

    def timeout(self, graph: Graph, path: str) -> float | None:
        """Seconds that one attempt at a step or compensation may take: its own, the definition's, the activity's."""
        return graph.timeout(path) or self.registry.timeout(graph.call(path).activity or "")

    def heartbeat_timeout(self, graph: Graph, path: str) -> float | None:
        """Seconds that an attempt may let pass between two heartbeats: the step's, else the activity's."""
        return graph.heartbeat_timeout(path) or self.registry.heartbeat_timeout(graph.call(path).activity or "")

    def due(self, graph: Graph, path: str, timeout: float | None) -> float | None:
        """Seconds after its claim at which an attempt is overdue, unless a heartbeat puts that off."""
        patience = self.heartbeat_timeout(graph, path)
        return patience if timeout is None or (patience is not None and patience < timeout) else timeout
