"""What a worker process works with; made once, shared by its segments."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.activities.connectors.source import Connectors
from orchestrator.activities.registry import Registry
from orchestrator.engine.core import Core
from orchestrator.runtime.owner import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """The parts of a worker process."""

    core: Core
    registry: Registry
    node: Node
    connectors: Connectors
