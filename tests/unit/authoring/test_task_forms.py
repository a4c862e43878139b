"""Celery tasks of an application's own in every authoring form, and what is checked of them."""

from __future__ import annotations

import pytest
from celery import Celery

from orchestrator import compensation, step, task, workflow
from orchestrator.authoring.checks import check
from orchestrator.authoring.loader import load_text
from orchestrator.errors import DefinitionError

PYTHON = workflow(
    "invoicing",
    step("book", "book"),
    task(
        "send",
        "shop.tasks.send_invoice",
        {"order": "{{ steps.book.output }}"},
        retry=2,
        timeout="5m",
        queue="mail",
        on_error="retry",
        compensation=compensation("recall", {"id": "{{ undo.output }}"}),
    ),
).definition

YAML = """
name: invoicing
steps:
  - {id: book, activity: book}
  - id: send
    task: <task>
    input: {order: "{{ steps.book.output }}"}
    retry: 2
    timeout: 5m
    queue: mail
    on_error: retry
    compensation: {activity: recall, input: {id: "{{ undo.output }}"}}
"""


@pytest.mark.parametrize("written", ["{task: shop.tasks.send_invoice}", "shop.tasks.send_invoice"])
def test_both_forms_give_one_definition_that_passes_its_checks(written: str) -> None:
    definition = load_text(YAML.replace("<task>", written), "invoicing.yaml")
    assert definition == PYTHON
    check(definition, "invoicing.yaml", None)


def test_a_task_may_be_given_itself() -> None:
    app = Celery("shop", set_as_current=False)

    @app.task(name="shop.tasks.send_invoice")
    def send_invoice(order: str) -> None: ...

    (found,) = workflow("w", task("send", send_invoice, {"order": "a"})).definition.steps
    assert found.spec == {"task": "shop.tasks.send_invoice"}


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ("[{id: send, task: {}}]", '"task" is missing'),
        ("[{id: send, task: shop.send, input: {a: '{{ steps.nowhere.output }}'}}]", "nowhere"),
        ("[{id: send, task: shop.send, activity: book}]", "activity"),
        ("[{id: pause, delay: 1s, input: {a: 1}}]", "input means nothing to kind delay"),
    ],
)
def test_what_is_wrong_with_a_task_is_told(steps: str, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        check(load_text(f"name: w\nsteps: {steps}", "w.yaml"), "w.yaml", None)
