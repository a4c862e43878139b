"""Workflows that an application's tests start; `celery -A app_workflows worker` carries them out."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, PositiveInt

from orchestrator import BusinessError, Orchestrator, StepContext, activity, step, workflow


class Parcel(BaseModel):
    """A typed input."""

    weight: PositiveInt
    to: str


class NoStamp(BusinessError):
    """Nothing is sent without a stamp."""


@activity
def app_echo(value: Any) -> Any:
    return value


@activity
def app_facts(context: StepContext) -> dict[str, Any]:
    return {
        "correlation_id": context.correlation_id,
        "labels": dict(context.labels),
        "tenant": context.tenant,
        "version": context.version,
        "execution_id": context.execution_id,
    }


@activity
def app_refuse() -> None:
    raise NoStamp("no stamp, no parcel")


@activity
def app_return(kind: str) -> Any:
    return {"object": object(), "nan": float("nan"), "large": "x" * 1_048_576}[kind]


@activity
def app_sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


echo = workflow("app-echo", step("echo", app_echo, {"value": "{{ input }}"}))
facts = workflow("app-facts", step("facts", app_facts), version=1)
facts_2 = workflow("app-facts", step("facts_two", app_facts), version=2)
typed = workflow("app-typed", step("echo", app_echo, {"value": "{{ input }}"}), input=Parcel)
by_schema = workflow(
    "app-schema",
    step("echo", app_echo, {"value": "{{ input }}"}),
    input={"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
)
refused = workflow("app-refused", step("refuse", app_refuse))
returning = workflow("app-returning", step("answer", app_return, {"kind": "{{ input }}"}))
sleeping = workflow("app-sleeping", step("sleep", app_sleep, {"seconds": "{{ input }}"}))


def __getattr__(name: str) -> Any:
    """The Celery application, for workers: tests import this module without one."""
    if name == "app":
        return Orchestrator(modules=("app_workflows",)).app
    raise AttributeError(name)
