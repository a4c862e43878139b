"""Tables of errors: which exceptions an entry means, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.errors import ActivityError, BusinessError, CancelledFailure, DeadlineError, SystemFailure
from orchestrator.model.definition import Definition
from orchestrator.model.outcome import Failure, classes_of
from orchestrator.model.policy import ErrorRule, ruled
from orchestrator.runtime.guard import classify


class Refused(ConnectionRefusedError):
    """An error whose bases are known by name."""


def rule(error: Any, category: str = "business", **more: str) -> ErrorRule:
    return ErrorRule.model_validate({"error": error, "category": category, **more})


def category(error: BaseException, *rules: ErrorRule) -> str:
    return ruled(rules, classify(error)).category


@pytest.mark.parametrize(
    "name",
    [
        "Refused",
        "ConnectionRefusedError",
        "ConnectionError",
        "OSError",
        "Exception",
        "builtins.OSError",
        f"{__name__}.Refused",
        Refused,
        OSError,
    ],
)
def test_an_exception_is_meant_by_its_class_and_by_every_base(name: Any) -> None:
    assert category(Refused("no"), rule(name)) == "business"


@pytest.mark.parametrize("name", ["Refuse", "elsewhere.Refused", "elsewhere.OSError", "ValueError", "BaseException"])
def test_an_exception_of_another_name_or_module_is_not_meant(name: str) -> None:
    assert category(Refused("no"), rule(name)) == "transient"


def test_a_class_is_also_meant_by_the_package_around_its_module() -> None:
    failure = Failure(category="system", name="Timeout", message="", classes=("requests.exceptions.Timeout",))
    for name in ("requests.Timeout", "requests.exceptions.Timeout", "Timeout"):
        assert ruled([rule(name)], failure).category == "business"
    for name in ("request.Timeout", "exceptions.Timeout", "requests.exceptions.sub.Timeout"):
        assert ruled([rule(name)], failure) is failure


def test_a_text_in_the_message_may_be_asked_for_and_the_first_entry_counts() -> None:
    table = [
        rule("ValueError", "transient", contains="busy", name="Busy"),
        rule("ValueError", "business"),
        rule("Exception", "timeout"),
    ]
    assert category(ValueError("too busy now"), *table) == "transient"
    assert category(ValueError("wrong"), *table) == "business"
    assert category(KeyError("wrong"), *table) == "timeout"
    assert ruled(table, classify(ValueError("busy"))).name == "Busy"
    assert ruled(table, classify(ValueError("wrong"))).name == "ValueError"


def test_twice_is_the_same_as_once() -> None:
    table = [rule("ValueError", "transient", name="Busy"), rule("Busy", "business")]
    once = ruled(table, classify(ValueError("busy")))
    assert ruled(table, once) == once


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (BusinessError("no"), "business"),
        (SystemFailure(), "system"),
        (DeadlineError("late"), "timeout"),
        (CancelledFailure("off"), "cancelled"),
        (ActivityError("broken"), "system"),
    ],
)
def test_an_activitys_own_error_says_its_category_whatever_a_table_says(error: ActivityError, says: str) -> None:
    assert category(error, rule("Exception", "transient"), rule(type(error).__name__, "transient")) == says


def test_failures_that_are_no_exceptions_are_left_alone() -> None:
    failure = Failure(category="business", name="NoCase", message="no case holds")
    assert ruled([rule("NoCase", "transient"), rule("Exception", "transient")], failure) is failure


def test_classes_are_for_the_table_only_and_not_kept() -> None:
    failure = classify(Refused("no"))
    assert failure.classes == classes_of(Refused)
    assert failure.classes[0] == f"{__name__}.Refused"
    assert set(failure.as_data()) == {"category", "name", "message", "traceback"}


@pytest.mark.parametrize("error", [BusinessError("no"), ValueError("wrong")])
def test_every_error_has_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        raise error
    assert "test_error_rules.py" in classify(raised.value).traceback


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": "ValueError"},
        {"error": "ValueError", "category": "fatal"},
        {"error": "Value Error", "category": "system"},
        {"error": "", "category": "system"},
        {"error": "ValueError", "category": "system", "contains": ""},
        {"error": "ValueError", "category": "system", "message": "x"},
        {"error": int, "category": "system"},
    ],
)
def test_nonsense_is_no_entry(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ErrorRule.model_validate(wrong)


def test_a_definition_without_a_table_has_the_content_that_it_had_before() -> None:
    definition = Definition.model_validate({"name": "plain", "steps": [{"id": "a", "activity": "do"}]})
    assert set(definition.spec()) == {"name", "steps"}
