"""The shop's worker: `celery -A examples.fastapi_shop.worker worker -Q orchestrator,orchestrator.sweeps`."""

from __future__ import annotations

from orchestrator import Orchestrator

orchestrator = Orchestrator(modules=("examples.fastapi_shop.workflow",))
app = orchestrator.app
