"""The ready-made activities: importing this registers them in the process's registry."""

from orchestrator.activities.http_request import http_request
from orchestrator.activities.notify import notify
from orchestrator.activities.script import script
from orchestrator.activities.sql import sql
from orchestrator.activities.transform import transform

__all__ = ["http_request", "notify", "script", "sql", "transform"]
