"""Which messages are a step's, and where tasks go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from celery import Celery

from orchestrator.dispatch.own_task import HEADER, StepRef, route

STEP = StepRef(execution_id=str(UUID(int=1)), definition_id=str(UUID(int=2)), path="loop[3].send")
IDS = [STEP.execution_id, STEP.definition_id, STEP.path]


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("own", broker="memory://", set_as_current=False)
    app.conf.update(task_default_queue="usual", task_routes={"shop.routed": {"queue": "by-route"}})
    yield app
    app.close()


def test_a_step_is_known_by_its_header_and_its_id() -> None:
    assert StepRef.of({HEADER: IDS, "lang": "py"}, STEP.task_id) == STEP
    other = StepRef(execution_id=STEP.execution_id, definition_id=STEP.definition_id, path="loop[4].send")
    assert other.task_id != STEP.task_id


@pytest.mark.parametrize(
    ("headers", "task_id"),
    [
        ({}, STEP.task_id),
        ({HEADER: IDS}, str(UUID(int=3))),
        ({HEADER: IDS[:2]}, STEP.task_id),
        ({HEADER: "orchestrator"}, STEP.task_id),
        ({HEADER: [1, 2, 3]}, STEP.task_id),
        ({HEADER: ["no uuid", *IDS[1:]]}, STEP.task_id),
    ],
)
def test_whatever_else_has_such_a_header_is_no_step(headers: dict[str, Any], task_id: str) -> None:
    assert StepRef.of(headers, task_id) is None


def test_a_task_goes_where_its_application_sends_it(app: Celery) -> None:
    @app.task(name="shop.own", queue="its-own")
    def own() -> None: ...

    @app.task(name="shop.plain")
    def plain() -> None: ...

    found = [route(app, name) for name in (own.name, plain.name, "shop.routed", "shop.never_heard_of")]
    assert found == ["its-own", "usual", "by-route", "usual"]
