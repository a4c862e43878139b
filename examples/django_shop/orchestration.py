"""The Celery application and its orchestrator: used by views, imported by the worker."""

from __future__ import annotations

import os

from celery import Celery

from orchestrator import Orchestrator

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_shop.settings")

app = Celery("django_shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

orchestrator = Orchestrator(app, modules=("examples.django_shop.workflow",))
