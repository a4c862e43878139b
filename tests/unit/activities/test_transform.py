from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_step_context import CONTEXT

from orchestrator.activities.registry import registry
from orchestrator.activities.transform import transform
from orchestrator.errors import InvalidInput


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "text", [], [1, [None]], {"a": {"b": [1]}}])
def test_transform_returns_the_value_that_its_expressions_gave(value: Any) -> None:
    bound = registry.get("transform").bind({"value": value}, CONTEXT)
    assert transform(**bound) == value


def test_a_transform_takes_its_mapping_in_one_parameter() -> None:
    with pytest.raises(InvalidInput, match='parameter "value" is missing'):
        registry.get("transform").bind({}, replace(CONTEXT))
    assert registry.get("transform").check({"mapping": 1})


def test_a_transform_may_take_five_seconds_when_nothing_is_said() -> None:
    assert registry.timeout("transform") == 5.0
