"""References name what exists: a step has an output, an error, a status and an exit."""

from __future__ import annotations

import pytest

from orchestrator.authoring.builder import step, workflow
from orchestrator.authoring.checks import check
from orchestrator.errors import DefinitionError


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("{{ steps.a.outptu }}", 'a step has no "outptu"; did you mean'),
        ("{{ steps.a.result }}", 'a step has no "result"; it has error, exit, output, status'),
        ("{{ execution.key }}", 'execution has no "key"; it has'),
    ],
)
def test_an_unknown_key_of_a_root_is_named_with_what_there_is(expression: str, problem: str) -> None:
    found = workflow("w", step("a", "noop"), step("b", "noop", {"x": expression}))
    with pytest.raises(DefinitionError) as caught:
        check(found.definition, "w.py", None)
    assert problem in str(caught.value)
    assert "step b" in str(caught.value)
