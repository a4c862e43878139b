"""The page of rules: every rule names tests, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "rules.md").read_text(encoding="utf-8")
#: Rule -> the tests that show it.
RULES = {
    cells[1].strip(): re.findall(r"`([^`]+)`", cells[2])
    for line in PAGE.splitlines()
    if line.startswith("|") and len(cells := line.split("|")) == 4 and cells[1].strip() not in {"rule", "---"}
}


@cache
def defined_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_row_is_a_rule_of_its_own() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| rule", "| ---"))]
    assert len(rows) == len(RULES) > 35


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_shown_by_tests_that_exist(rule: str) -> None:
    assert RULES[rule], f"no test shows: {rule}"
    for named in RULES[rule]:
        file, _, test = named.partition("::")
        assert (TESTS / file).is_file(), f"{rule}: there is no {file}"
        assert not test or test in defined_in(file), f"{rule}: {file} has no {test}"
