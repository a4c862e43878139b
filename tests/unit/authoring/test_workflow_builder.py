from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.activities.registry import Registry
from orchestrator.authoring.builder import Workflow, compensation, parallel, sequence, step, workflow
from orchestrator.authoring.nodes import Node
from orchestrator.current import set_current
from orchestrator.errors import ConfigurationError, DefinitionError
from orchestrator.model.definition import Compensation, Step
from orchestrator.model.policy import RetryPolicy


class Order(BaseModel):
    customer: str
    total: Decimal


def after(built: Workflow) -> dict[str, tuple[str, ...]]:
    return {each.id: each.after for each in built.definition.steps}


def plain(step_id: str, **options: Any) -> Node:
    return step(step_id, "act", **options)


def test_steps_come_after_the_node_before_them() -> None:
    assert after(workflow("w", plain("a"), plain("b"), plain("c"))) == {"a": (), "b": ("a",), "c": ("b",)}


def test_what_follows_a_parallel_block_waits_for_every_end_of_it() -> None:
    built = workflow(
        "w",
        plain("a"),
        parallel(plain("b"), sequence(plain("c"), parallel(plain("d"), plain("e"))), sequence(plain("f"), plain("g"))),
        plain("h"),
    )
    assert after(built) == {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d": ("c",),
        "e": ("c",),
        "f": ("a",),
        "g": ("f",),
        "h": ("b", "d", "e", "g"),
    }


def test_a_workflow_may_begin_and_end_with_a_parallel_block() -> None:
    built = workflow("w", parallel(plain("a"), plain("b")), parallel(plain("c"), plain("d")))
    assert after(built) == {"a": (), "b": (), "c": ("a", "b"), "d": ("a", "b")}


def test_an_explicit_after_counts_alone_and_none_at_all_starts_the_workflow() -> None:
    built = workflow(
        "w", plain("a"), plain("b", after=[]), plain("c"), plain("d", after=["a", "c"]), plain("e", after="a")
    )
    assert after(built) == {"a": (), "b": (), "c": ("b",), "d": ("a", "c"), "e": ("a",)}


def test_every_option_reaches_the_definition() -> None:
    policy = RetryPolicy(max_attempts=7, backoff=0.5)
    built = workflow(
        "order",
        step(
            "charge",
            "charge_card",
            {"amount": "{{ input.total }}"},
            retry=4,
            timeout=5,
            queue="payments",
            fuse=False,
            compensation=compensation("refund", {"id": "{{ undo.output.id }}"}, retry=policy, timeout=9, queue="slow"),
            compensate_on="completed",
        ),
        version=3,
        description="Sells things.",
        output={"id": "{{ steps.charge.output.id }}"},
        retry=policy,
        timeout=60,
        step_timeout=10,
        queue="orders",
        fuse=False,
    )
    definition = built.definition
    assert definition.steps == (
        Step(
            id="charge",
            activity="charge_card",
            input={"amount": "{{ input.total }}"},
            retry=RetryPolicy(max_attempts=4),
            timeout=5,
            queue="payments",
            fuse=False,
            compensation=Compensation(
                activity="refund", input={"id": "{{ undo.output.id }}"}, retry=policy, timeout=9, queue="slow"
            ),
            compensate_on="completed",
        ),
    )
    assert definition.spec() | {"steps": []} == {
        "name": "order",
        "version": 3,
        "description": "Sells things.",
        "output": {"id": "{{ steps.charge.output.id }}"},
        "retry": {"max_attempts": 7, "backoff": 0.5},
        "timeout": 60.0,
        "step_timeout": 10.0,
        "queue": "orders",
        "fuse": False,
        "steps": [],
    }


def test_activities_may_be_given_by_their_functions() -> None:
    def charge_card(amount: int) -> None: ...
    def refund() -> None: ...

    own = Registry()
    own.register(charge_card, name="payments.charge")
    own.register(refund)
    (built,) = workflow("w", step("charge", charge_card, compensation=refund)).definition.steps
    assert (built.activity, built.compensation) == ("payments.charge", Compensation(activity="refund"))


def test_a_function_that_is_no_activity_is_refused() -> None:
    def stranger() -> None: ...

    with pytest.raises(ConfigurationError, match="stranger is no activity"):
        step("a", stranger)


def test_types_become_json_schemas_and_schemas_stay_what_they_are() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    definition = workflow("w", plain("a"), input=Order, output_type=schema).definition
    assert definition.input_schema is not None
    assert definition.input_schema["required"] == ["customer", "total"]
    assert definition.output_schema == schema
    assert workflow("w", plain("a"), input=list[int]).definition.input_schema == schema


def test_a_type_without_a_json_schema_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"workflow w: input: .*Registry.* has no JSON Schema: .*pydantic model"):
        workflow("w", plain("a"), input=Registry)


def test_inputs_are_kept_as_json_data() -> None:
    value = {
        "day": date(2026, 1, 2),
        "price": Decimal("1.10"),
        "pair": (1, 2),
        "order": Order(customer="A", total=Decimal(1)),
    }
    (built,) = workflow("w", step("a", "act", value)).definition.steps
    assert built.input == {
        "day": "2026-01-02",
        "price": "1.10",
        "pair": [1, 2],
        "order": {"customer": "A", "total": "1"},
    }


def test_every_field_that_does_not_fit_is_told_with_its_step() -> None:
    with pytest.raises(DefinitionError) as caught:
        workflow("a name", plain("b d"), plain("c", timeout=-1), plain("d", retry=0), parallel(), "stray")  # type: ignore[arg-type]
    assert caught.value.source == "workflow a name"
    text = str(caught.value)
    for part in (
        '"name": String should match pattern',
        'step b d: "id": String should match pattern',
        'step c: "timeout": Input should be greater than 0; correct it',
        'step d: "retry.max_attempts": Input should be greater than or equal to 1',
        "a parallel block or a branch of it is empty",
        "'stray' is no node; use step(), parallel(), sequence() or another node function",
    ):
        assert part in text


def test_a_value_that_is_not_json_is_refused() -> None:
    with pytest.raises(DefinitionError, match="must be JSON data"):
        workflow("w", step("a", "act", {"x": object()}))


def test_a_workflow_without_steps_is_refused() -> None:
    with pytest.raises(DefinitionError, match="a definition has either steps or a machine; give one of them"):
        workflow("w")


def test_a_workflow_starts_itself_through_the_current_orchestrator() -> None:
    class Recorder:
        def start(self, name: str, input: Any = None, **options: Any) -> Any:  # noqa: A002 - the facade's word
            return name, input, options

    built = workflow("order", plain("a"))
    set_current(Recorder())
    try:
        assert built.start({"id": 1}, idempotency_key="k") == ("order", {"id": 1}, {"idempotency_key": "k"})
        assert built.delay(id=1, name="x") == ("order", {"id": 1, "name": "x"}, {})
    finally:
        set_current(None)
    with pytest.raises(ConfigurationError, match="create Orchestrator"):
        built.start()
