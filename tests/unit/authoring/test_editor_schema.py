"""The editors' JSON Schema takes what loads, refuses what is broken, and knows new kinds by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pages import ROOT

from orchestrator.authoring.documents import parse
from orchestrator.authoring.editor import schema
from orchestrator.authoring.loader import load_text
from orchestrator.authoring.schema import schema_problems
from orchestrator.errors import DefinitionError
from orchestrator.kinds.kinds import KINDS

VALIDATOR = Draft202012Validator(schema())


def fits(text: str) -> bool:
    return VALIDATOR.is_valid(parse(text, "w.yaml").data)


def with_steps(text: str) -> str:
    return f"name: w\nsteps:\n{text}"


def test_it_is_a_schema_that_is_whole_in_itself() -> None:
    assert schema_problems(schema()) == []
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_example_definition_fits() -> None:
    found = [path for path in (ROOT / "definitions").rglob("*.yaml") if "steps" in path.read_text()]
    assert found
    assert [path for path in found if not fits(path.read_text())] == []


@pytest.mark.parametrize(
    "text",
    [
        "- {id: a, delay: 24h}",
        "- {id: a, delay: 60, retry: ~}",
        "- {id: a, delay: {until: x}, after: b, join: any}",
        "- {id: a, kind: delay, spec: {for: 5}, after: ['b:c'], join: 2, on_error: stop}",
        "- {id: a, activity: x, timeout: 1m, retry: 3, compensation: undo, catch: {errors: x}, fallback: []}",
        "- {id: a, activity: x, retry: {backoff: 500ms}, compensation: {activity: y, timeout: 5}}",
        "- {id: a, kind: activity, activity: x}",
        "- {id: a, each: '{{ input.x }}', steps: [{id: b, wait: go}]}",
        "- {id: a, each: [1, 2], steps: [{id: b, wait: {signal: go}}]}",
        "- {id: a, block: [{id: b, activity: x}]}",
        "- {id: a, block: , steps: [{id: b, activity: x}, [{id: c, activity: x}]]}",
        "- {id: a, when: true, then: [{id: b, activity: x}]}",
        "- {id: a, choice: [{when: true, steps: []}, {exit: x, when: '{{ input.x }}'}, {default: []}]}",
        "- parallel: [{id: a, activity: x}, [{id: b, activity: x}, {parallel: [{id: c, activity: x}]}]]",
    ],
)
def test_what_loads_fits(text: str) -> None:
    load_text(with_steps(text), "w.yaml")
    assert fits(with_steps(text))


@pytest.mark.parametrize(
    "text",
    [
        "- {activity: x}",
        "- {id: a}",
        "- {id: 'a b', activity: x}",
        "- {id: a, activity: x, timeot: 5}",
        "- {id: a, dealy: 5}",
        "- {id: a, activity: x, delay: 5}",
        "- {id: a, wait: x, delay: 5}",
        "- {id: a, activity: x, retry: 0}",
        "- {id: a, activity: x, join: some}",
        "- {id: a, activity: x, join: 0}",
        "- {id: a, activity: x, on_error: ignore}",
        "- {id: a, activity: x, catch: [{erors: [x]}]}",
        "- {id: a, choice: [{steps: []}]}",
        "- {id: a, then: []}",
        "- {id: a, activity: x, steps: [{}]}",
        "- {id: a, each: '{{ x }}', steps: {}}",
        "- parallel: []",
        "- {parallel: [{id: a, activity: x}], id: b}",
        "- 3",
    ],
)
def test_what_does_not_load_does_not_fit(text: str) -> None:
    assert not fits(with_steps(text))
    with pytest.raises(DefinitionError):
        load_text(with_steps(text), "w.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "- {id: a, choice: []}",
        "- {id: a, delay: {fro: 5}}",
        "- {id: a, kind: delay, spec: {fro: 5}}",
        "- {id: a, each: {items: [], concurrency: 0}, steps: [{id: b, activity: x}]}",
        "- {id: a, each: '{{ x }}'}",
        "- {id: a, kind: each, spec: {items: []}}",
        "- {id: a, delay: 5, steps: [{id: b, activity: x}]}",
        "- {id: a, kind: delya, spec: {}}",
        "- {id: a, activity: x, spec: {x: 1}}",
    ],
)
def test_what_the_checks_would_refuse_of_a_kind_does_not_fit(text: str) -> None:
    load_text(with_steps(text), "w.yaml")
    assert not fits(with_steps(text))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("{initial: A, states: [A], final: B, transitions: [{from: A, to: B, after: 1d, steps: []}]}", True),
        ("{initial: A, states: {A: , B: {final: true}}, transitions: [{from: ['*'], to: B, event: X}]}", True),
        ("{initial: A, states: {A: {finl: true}}}", False),
        ("{initial: A, states: [A], transitions: [{from: A}]}", False),
        ("{states: [A]}", False),
        ("{initial: A, states: [A], transitions: [{from: A, to: B, evnt: X}]}", False),
    ],
)
def test_machines_fit_when_they_are_written_well(text: str, good: bool) -> None:
    assert fits(f"name: m\nmachine: {text}") is good


@pytest.mark.parametrize(
    "text",
    [
        "name: x",
        "steps: []",
        "name: x\nsteps: []",
        "name: x\nsteps: [{id: a, activity: b}]\nmachine: {initial: A, states: [A]}",
    ],
)
def test_a_file_has_a_name_and_either_steps_or_a_machine(text: str) -> None:
    assert not fits(text)


def test_a_new_kind_shows_up_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    text = with_steps("- {id: a, nap: {for: 5s}}")
    wrong = with_steps("- {id: a, nap: {fro: 5s}}")
    assert not fits(text)
    monkeypatch.setitem(KINDS, "nap", KINDS["delay"])
    validator = Draft202012Validator(schema())
    assert validator.is_valid(parse(text, "w.yaml").data)
    assert not validator.is_valid(parse(wrong, "w.yaml").data)


def test_editors_are_told_what_kinds_and_fields_mean() -> None:
    step = schema()["$defs"]["Step"]["properties"]
    assert {name for name in (*KINDS, "after", "on_error", "timeout") if not step[name].get("description")} == set()


def test_the_command_prints_it() -> None:
    told: Any = json.loads(
        subprocess.run([sys.executable, "-m", "orchestrator.cli", "schema"], check=True, capture_output=True).stdout
    )
    assert told == schema()
