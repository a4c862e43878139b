"""Tables of errors and policies of retries, as they are written and checked."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import DefinitionError, ErrorRule, RetryPolicy, step, workflow
from orchestrator.authoring.checks import check
from orchestrator.authoring.loader import dump_json, dump_yaml, load_text
from orchestrator.model.definition import Definition

TEXT = """
name: charging
errors:
  - {error: requests.exceptions.Timeout, contains: read, category: transient, name: SlowBank}
  - {error: ValueError, category: business}
retry: {max_attempts: 9, budget: 1h30m, retry_on: [transient, SlowBank]}
steps:
  - {id: charge, activity: charge, retry: {budget: 90s, never_on: [Declined]}}
"""


def problems(**fields: Any) -> list[str]:
    content = {"name": "checked", "steps": [{"id": "one", "activity": "do"}], **fields}
    try:
        check(Definition.model_validate(content), "checked.yaml", None)
    except DefinitionError as error:
        return list(error.problems)
    return []


def test_python_and_yaml_say_the_same_and_survive_a_round_trip() -> None:
    written = load_text(TEXT, "charging.yaml")
    made = workflow(
        "charging",
        step("charge", "charge", retry=RetryPolicy(budget=90, never_on=("Declined",))),
        errors=[
            ErrorRule(error="requests.exceptions.Timeout", contains="read", category="transient", name="SlowBank"),
            {"error": ValueError.__name__, "category": "business"},
        ],
        retry=RetryPolicy(max_attempts=9, budget=5400, retry_on=("transient", "SlowBank")),
    ).definition
    assert written == made
    assert load_text(dump_yaml(written), "again.yaml") == load_text(dump_json(written), "again.json") == written
    assert problems(**{key: value for key, value in written.spec().items() if key != "name"}) == []


def test_an_exceptions_class_may_stand_for_its_name() -> None:
    assert ErrorRule(error=ValueError, category="business").error == "ValueError"
    assert ErrorRule(error=DefinitionError, category="system").error == "orchestrator.errors.DefinitionError"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{error: ValueError, categroy: business}", 'unknown key "errors.0.categroy"; did you mean "category"'),
        ("{error: ValueError, category: fatal}", '"errors.0.category"'),
        ("{category: business}", '"errors.0.error" is missing'),
    ],
)
def test_an_entry_that_does_not_fit_is_told_with_its_line(entry: str, told: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        load_text(f"name: a\nerrors:\n  - {entry}\nsteps: [{{id: one, activity: do}}]", "a.yaml")
    assert any(told in problem and "line 3" in problem for problem in refused.value.problems), refused.value


def test_a_budget_that_is_no_duration_is_told() -> None:
    with pytest.raises(DefinitionError, match="budget"):
        load_text("name: a\nretry: {budget: 3 parsecs}\nsteps: [{id: one, activity: do}]", "a.yaml")


def test_an_entry_that_never_means_anything_is_refused() -> None:
    table = [
        {"error": "ValueError", "contains": "busy", "category": "transient"},
        {"error": "ValueError", "category": "business"},
        {"error": "ValueError", "contains": "late", "category": "timeout"},
        {"error": "orchestrator.BusinessError", "category": "transient"},
    ]
    third, fourth = problems(errors=table)
    assert "entry 3 (ValueError) is never reached, as entry 2" in third
    assert "entry 4 (orchestrator.BusinessError) has no say" in fourth


def test_policies_that_contradict_themselves_are_refused_wherever_they_stand() -> None:
    both = {"retry_on": ["Busy", "transient"], "never_on": ["Busy"]}
    final = {"retry_on": ["business"]}
    undo = {"activity": "undo", "retry": final}
    told = problems(
        retry=both, steps=[{"id": "one", "activity": "do", "retry": final, "compensation": undo, "on_error": "stop"}]
    )
    assert len(told) == 3
    assert '"Busy" stands in retry_on and in never_on' in told[0]
    assert told[1].startswith("step one: retry: retry_on: business errors are never retried")
    assert told[2].startswith("step one: compensation: retry: retry_on: business errors are never retried")


def test_a_budget_means_nothing_to_a_step_that_is_tried_for_ever() -> None:
    (told,) = problems(steps=[{"id": "one", "activity": "do", "on_error": "retry", "retry": {"budget": 5}}])
    assert "budget means nothing" in told
