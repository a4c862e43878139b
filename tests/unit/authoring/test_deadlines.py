"""How long an execution may take, and what could never end within that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import delay, machine, step, transition, wait, workflow
from orchestrator.authoring.checks import check
from orchestrator.errors import DefinitionError
from orchestrator.model.definition import DEFAULT_TIMEOUT


def test_workflows_end_after_five_minutes_unless_they_say_otherwise_and_machines_never() -> None:
    assert workflow("w", step("a", "echo")).definition.deadline == DEFAULT_TIMEOUT == 300
    assert workflow("w", step("a", "echo"), timeout="2h").definition.deadline == 7200
    assert workflow("w", step("a", "echo"), timeout=0).definition.deadline is None
    transitions = [transition("A", "B", event="GO")]
    options: dict[str, Any] = {"initial": "A", "states": ["A", "B"], "final": "B", "transitions": transitions}
    assert machine("m", **options).definition.deadline is None
    assert machine("m", **options, timeout=60).definition.deadline == 60


@pytest.mark.parametrize(
    ("node", "options", "problem"),
    [
        (delay("a", "24h"), {}, r"step a: waits for 86400 s, but an execution may take 300 s \(by default\)"),
        (delay("a", 60), {"timeout": 60}, r"step a: waits for 60 s, but an execution may take 60 s \(as given\)"),
        (wait("a", "yes", timeout="7d"), {}, "step a: waits for 604800 s"),
    ],
)
def test_a_wait_that_outlasts_the_execution_is_refused(node: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        check(workflow("w", node, **options).definition, "test", None)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": timedelta(days=30)}])
def test_it_is_accepted_with_a_timeout_to_match(options: dict[str, Any]) -> None:
    check(workflow("w", delay("a", "24h"), wait("b", "yes"), **options).definition, "test", None)
