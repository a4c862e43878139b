"""Which steps a ledger that has forgotten them may not carry out once more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator import block, delay, each, emit, machine, step, subworkflow, task, transition, wait, workflow
from orchestrator.activities.registry import Registry, registry
from orchestrator.compiler.repeats import unrepeatable


def known(name: str, input: Mapping[str, Any]) -> bool:  # noqa: A002
    """As the registry, for activities that say so by their names."""
    return name.startswith("safe") or registry.is_repeatable(name, input)


def test_steps_that_reach_out_are_told_by_the_step_at_the_top_that_they_are_in() -> None:
    found = workflow(
        "reaches-out",
        step("safe", "safe_one"),
        step("call", "charge"),
        block("box", step("inner", "charge"), each("loop", [1], step("deep", "charge"), step("fine", "safe_one"))),
        subworkflow("child", "other"),
        task("old", "shop.tasks.send"),
        wait("answer", "answer"),
        delay("pause", 1),
        emit("told", "paid", correlation="1"),
        each("harmless", [1], step("mapped", "transform", {"value": 1})),
    )
    assert unrepeatable(found.definition, known) == {
        "call": ["call"],
        "box": ["box[].inner", "box[].loop[].deep"],
        "child": ["child"],
        "old": ["old"],
    }


def test_a_machine_is_one_step_with_all_that_its_transitions_call() -> None:
    found = machine(
        "account",
        initial="NEW",
        states=["NEW", "OPEN", "SHUT"],
        final="SHUT",
        transitions=[
            transition("NEW", "OPEN", event="OPEN", steps=[step("safe", "safe_one"), step("welcome", "mail_out")]),
            transition("OPEN", "SHUT", event="SHUT", steps=[step("goodbye", "mail_out")]),
        ],
    )
    assert unrepeatable(found.definition, known) == {"machine": ["welcome", "goodbye"]}
    harmless = machine(
        "light", initial="ON", states=["ON", "OFF"], final="OFF", transitions=[transition("ON", "OFF", event="SWITCH")]
    )
    assert unrepeatable(harmless.definition, known) == {}


@pytest.mark.parametrize(
    ("activity", "given", "is_repeatable"),
    [
        ("transform", {"value": 1}, True),
        ("http_request", {"url": "https://a.example"}, True),
        ("http_request", {"url": "https://a.example", "method": "HEAD"}, True),
        ("http_request", {"url": "https://a.example", "method": "PUT"}, False),
        ("http_request", {"url": "https://a.example", "method": "{{ input.method }}"}, False),
        ("sql", {"connector": "db", "statement": "INSERT"}, True),
        ("sql", {"connector": "db", "statement": "INSERT", "exactly_once": False}, False),
        ("sql", {"connector": "db", "statement": "INSERT", "exactly_once": "{{ input.once }}"}, False),
        ("notify", {"connector": "mail"}, False),
        ("script", {"code": "1"}, False),
        ("nobody_knows_it", {}, False),
    ],
)
def test_ready_made_activities_say_whether_they_may_be_repeated(
    activity: str, given: dict[str, Any], is_repeatable: bool
) -> None:
    assert registry.is_repeatable(activity, given) is is_repeatable


def test_activities_of_the_application_say_so_themselves() -> None:
    own = Registry()

    def one(dry_run: bool = False) -> None: ...

    own.register(one, name="plain")
    own.register(one, name="within", transactional=True)
    own.register(one, name="keyed", idempotent=True)
    own.register(one, name="sometimes", idempotent=lambda given: given.get("dry_run") is True)
    assert {name: own.is_repeatable(name, {}) for name in own.names} == {
        "keyed": True,
        "plain": False,
        "sometimes": False,
        "within": True,
    }
    assert own.is_repeatable("sometimes", {"dry_run": True})


def test_one_that_cannot_tell_has_not_said_so(caplog: pytest.LogCaptureFixture) -> None:
    own = Registry()

    def send(to: str) -> None: ...

    own.register(send, name="send", idempotent=lambda given: given["to"].endswith("@example.org"))
    assert not own.is_repeatable("send", {"to": {"address": "{{ input.to }}"}})
    assert "idempotent= of an activity has failed" in caplog.text
    assert own.is_repeatable("send", {"to": "ann@example.org"})
