"""The page on control flow: Python and YAML say the same, pass the checks, and fit the editors' schema."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pages import PAGES, ROOT, Page

import orchestrator
from orchestrator.authoring import shapes, steps
from orchestrator.authoring.checks import check
from orchestrator.authoring.documents import parse
from orchestrator.authoring.editor import schema
from orchestrator.authoring.loader import dump_json, dump_yaml, load_text
from orchestrator.authoring.workflow import Workflow
from orchestrator.kinds.kinds import KINDS

PAGE = Page(ROOT / "docs/control-flow.md")
FORMS = {name: getattr(orchestrator, name) for name in orchestrator.__all__}


def pairs() -> Iterator[tuple[int, str, str]]:
    """Line, Python and YAML of each shape."""
    for before, block in zip(PAGE.blocks, PAGE.blocks[1:], strict=False):
        if block.language == "yaml":
            assert before.language == "python", f"line {block.line} has no Python form before it"
            yield block.line, before.text, whole(block.text)


def whole(text: str) -> str:
    """The file of a fragment: steps become a workflow, which is given the steps that the page only speaks of."""
    return f"name: fragment\ntimeout: 0\nsteps:\n{text}" if text.startswith("- ") else text


def built(text: str) -> Workflow:
    (statement,) = ast.parse(text if text.startswith("onboarding") else f"({text})").body
    if isinstance(statement, ast.Assign):
        names: dict[str, Any] = dict(FORMS)
        exec(text, names)
        found = names["onboarding"]
        assert isinstance(found, Workflow)
        return found
    nodes = eval(f"({text})", dict(FORMS))
    return orchestrator.workflow("fragment", *(nodes if isinstance(nodes, tuple) else (nodes,)), timeout=0)


SHAPES = list(pairs())


@pytest.mark.parametrize(("line", "python", "yaml"), SHAPES, ids=[f"line {line}" for line, _, _ in SHAPES])
def test_both_forms_of_a_shape_give_one_definition_that_passes_its_checks(line: int, python: str, yaml: str) -> None:
    definition = built(python).definition
    assert load_text(yaml, "page.yaml") == definition
    check(definition, f"line {line}", None)
    assert load_text(dump_yaml(definition), "dump.yaml") == definition
    assert load_text(dump_json(definition), "dump.json") == definition


def test_the_page_shows_every_kind_and_every_form() -> None:
    assert set(KINDS) <= {step.kind for _, python, _ in SHAPES for step in every(built(python).definition)}
    shown = "".join(python for _, python, _ in SHAPES)
    forms = {*vars(shapes), *vars(steps)}
    functions = {name for name in forms & set(FORMS) if name[0].islower()} - {"compensation", "sequence"}
    assert len(functions) > 14
    assert {name for name in functions if f"{name}(" not in shown} == set()


def every(definition: Any) -> Iterator[Any]:
    left = list(definition.steps) + [s for t in (definition.machine or Empty).transitions for s in t.steps]
    while left:
        step = left.pop()
        yield step
        left.extend(step.steps)


class Empty:
    transitions = ()


def test_every_definition_on_the_pages_fits_the_schema_of_editors() -> None:
    validator = Draft202012Validator(schema())
    found = 0
    for page in PAGES:
        for block in page.of("yaml"):
            if "steps:" in whole(block.text) or "machine:" in block.text:
                found += 1
                data = parse(whole(block.text), "page.yaml").data
                assert [error.message for error in validator.iter_errors(data)] == [], f"{page.name}:{block.line}"
    assert found > len(SHAPES)
