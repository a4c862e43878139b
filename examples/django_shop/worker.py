"""The shop's worker: `celery -A examples.django_shop.worker worker -Q orchestrator,orchestrator.sweeps`."""

from __future__ import annotations

from examples.django_shop.orchestration import app

__all__ = ["app"]
