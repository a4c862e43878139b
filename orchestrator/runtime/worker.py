"""What a worker process works with; made once, shared by its segments."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.registry import Registry
from orchestrator.compiler.graph import Graph
from orchestrator.engine.core import Core
from orchestrator.runtime.owner import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """The parts of a worker process."""

    core: Core
    registry: Registry
    node: Node
    connectors: Connectors

    def is_transactional(self, graph: Graph, path: str) -> bool:
        """Whether a step or compensation calls a transactional activity that is known here."""
        return self.registry.is_transactional(graph.call(path).activity or "")

    def timeout(self, graph: Graph, path: str) -> float | None:
        """Seconds that one attempt at a step or compensation may take: its own, the definition's, the activity's."""
        return graph.timeout(path) or self.registry.timeout(graph.call(path).activity or "")
