"""docs/expressions.md says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.expressions import FUNCTIONS, compile_value
from orchestrator.expressions.arithmetic import LARGEST
from orchestrator.expressions.budget import SIZE, STEPS
from orchestrator.expressions.lists import MAX_RANGE
from orchestrator.expressions.parser import MAX_NESTING, MAX_NODES, RESERVED
from orchestrator.expressions.template import MAX_EXPRESSIONS, MAX_PARTS
from orchestrator.expressions.tokens import MAX_TEXT
from orchestrator.expressions.values import MAX_DEPTH

PAGE = (Path(__file__).resolve().parents[3] / "docs/expressions.md").read_text()
INPUT: Any = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])
_TABLE = re.compile(r"^\| expression \| value \|\n\| --- \| --- \|\n((?:\|.*\n)+)", re.MULTILINE)
_ROW = re.compile(r"\| `(.*)` \| `(.*)` \|")
EXAMPLES = [
    match.groups() for table in _TABLE.findall(PAGE) for row in table.splitlines() if (match := _ROW.fullmatch(row))
]


def rows(heading: str) -> list[str]:
    """The rows of the first table under a heading."""
    lines = PAGE.partition(f"\n## {heading}\n")[2].partition("\n| --- | --- |\n")[2].splitlines()
    return lines[: lines.index("")]


def test_every_row_of_examples_is_read() -> None:
    assert len(EXAMPLES) == sum(table.count("\n") for table in _TABLE.findall(PAGE)) > 20


@pytest.mark.parametrize(("expression", "value"), EXAMPLES)
def test_an_example_gives_the_value_beside_it(expression: str, value: str) -> None:
    found = compile_value(f"{{{{ {expression} }}}}").resolve({"input": INPUT})
    assert json.dumps(found, ensure_ascii=False) == value


def test_the_page_has_every_function_as_it_is() -> None:
    assert rows("Functions") == [f"| `{function.usage}` | {function.meaning} |" for function in FUNCTIONS.values()]


def test_the_page_has_the_limits_as_they_are() -> None:
    assert rows("Limits") == [
        f"| nodes and elements that one value's expressions visit | {STEPS:,} |",
        f"| characters and elements that they build, mixed text included | {SIZE:,} |",
        f"| characters of an expression | {MAX_TEXT:,} |",
        f"| parts of an expression | {MAX_NODES:,} |",
        f"| depth of an expression | {MAX_NESTING:,} |",
        f"| whole numbers | 10^{len(str(LARGEST)) - 1} |",
        f"| items of a range | {MAX_RANGE:,} |",
        f"| depth of values that are compared, parsed or written | {MAX_DEPTH:,} |",
        f"| expressions of one value | {MAX_EXPRESSIONS:,} |",
        f"| parts of one value | {MAX_PARTS:,} |",
    ]


def test_the_page_has_every_reserved_word() -> None:
    sentence = PAGE.partition("The words ")[2].partition("cannot start a path")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == RESERVED
