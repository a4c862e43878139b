"""Figures of this orchestrator against plain Celery, measured in one run on the same servers."""
