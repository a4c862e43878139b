"""Our engine's application; its servers are those of ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL."""

from __future__ import annotations

from orchestrator import Orchestrator

app = Orchestrator(modules=("benchmarks.workflows",)).app
