"""Workflows that operators command; `celery -A app_commands worker` carries them out."""

from __future__ import annotations

from typing import Any

from orchestrator import BusinessError, Orchestrator, activity, compensation, step, subworkflow, wait, workflow


@activity
def commanded_echo(value: Any = None) -> Any:
    return value


@activity
def commanded_check(ok: bool) -> str:
    if not ok:
        raise BusinessError("the input says no", name="SaidNo")
    return "checked"


@activity
def commanded_undo() -> None: ...


fragile = workflow(
    "commanded-fragile",
    step("first", commanded_echo, {"value": "first"}),
    step("check", commanded_check, {"ok": "{{ input.ok }}"}),
    step("last", commanded_echo, {"value": ["{{ steps.first.output }}", "{{ steps.check.output }}"]}),
)
waiting = workflow(
    "commanded-waiting",
    wait("word", "word"),
    step("last", commanded_echo, {"value": "{{ steps.word.output }}"}),
)
undoable = workflow(
    "commanded-undoable",
    step("first", commanded_echo, compensation=compensation(commanded_undo)),
    wait("word", "word"),
)
family = workflow("commanded-family", subworkflow("child", "commanded-waiting"))


def __getattr__(name: str) -> Any:
    """The Celery application, for workers: tests import this module without one."""
    if name == "app":
        return Orchestrator(modules=("app_commands",)).app
    raise AttributeError(name)
