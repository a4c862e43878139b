"""Random workflows on real workers do what a reference interpreter of the documentation says they must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from random_workflows import drawing, harness
from random_workflows.harness import Tried
from random_workflows.judge import Verdict
from random_workflows.observation import Observation, Row
from random_workflows.reference import Reference

from orchestrator.authoring.loader import dump_yaml
from orchestrator.model.definition import Definition

COUNT, SEED, TIMES = 40, 20_261_120, 2


@pytest.fixture(scope="module")
def tried() -> Iterator[list[Tried]]:
    """Examples of a seed that stays the same, carried out twice each, the second half with some messages doubled."""
    print(f"seed {SEED}: make properties N={COUNT} SEED={SEED}")  # noqa: T201 - shown when a test fails
    examples = drawing.drawn(COUNT, SEED)
    half = len(examples) // 2
    with harness.site() as site:
        found = harness.attempt(site, examples[:half], seed="first", times=TIMES)
        found += harness.attempt(site, examples[half:], seed="second", times=TIMES, doubling=True)
        claims = harness.broken_claims(site)
        assert not claims, claims
        yield found


def test_random_workflows_do_what_the_documentation_says(tried: list[Tried]) -> None:
    failed = [each for each in tried if each.problems]
    told = [f"{each.problems}\n{dump_yaml(each.example.definition)}{each.example.input}" for each in failed]
    assert not failed, f"seed {SEED}\n" + "\n".join(told)


def test_the_random_workflows_are_worth_it(tried: list[Tried]) -> None:
    """Of every kind and of every end there are some, and most are predicted to the last output."""
    statuses = {seen.status for each in tried for seen in each.seen}
    assert {"succeeded", "failed", "compensated"} <= statuses
    shapes = {row.status for each in tried for seen in each.seen for row in seen.rows.values()}
    assert {"succeeded", "failed", "skipped", "cancelled"} <= shapes
    assert sum(each.exact for each in tried) >= COUNT // 4
    assert all(each.predicted for each in tried)


def _without(seen: Observation, path: str) -> Observation:
    return replace(seen, rows={at: row for at, row in seen.rows.items() if at != path})


def _with(seen: Observation, path: str, **changes: Any) -> Observation:
    return replace(seen, rows=seen.rows | {path: replace(seen.rows[path], **changes)})


def test_nothing_that_is_wrong_passes(tried: list[Tried]) -> None:
    """A wrong output, a step too many or too few, a call too many, a join too early."""
    found, child = next(
        (each, step.id)
        for each in tried
        for step in each.example.definition.steps
        if each.exact and step.kind == "activity" and step.after and each.seen[0].rows[step.id].status == "succeeded"
    )
    definition, value, seen = found.example.definition, found.example.input, found.seen[0]
    extra = replace(seen.rows[child], path="nowhere[0].s0")
    started = next(event for event in seen.events if event.path == child and event.type == "step_started")
    wrong = [
        _with(seen, child, output=-1),
        _with(seen, child, status="skipped"),
        _without(seen, child),
        replace(seen, rows=seen.rows | {extra.path: extra}),
        replace(seen, calls=[*seen.calls, *[call for call in seen.calls if call.path == child]]),
        replace(seen, events=[replace(started, id=0), *seen.events]),
        replace(seen, events=[event for event in seen.events if event.path != child]),
        replace(seen, output="another"),
        replace(seen, status="failed"),
    ]
    assert not Verdict(definition, value, seen).problems
    passed = [number for number, each in enumerate(wrong) if not Verdict(definition, value, each).problems]
    assert not passed


def test_a_handler_follows_where_the_error_is_caught() -> None:
    definition, rows = _chain()
    reference = Reference(definition, {"a": 1}, rows)
    assert not reference.problems()
    assert reference.exact
    assert {path: end.status for path, end in reference.expected.items()} == {
        "one": "failed",
        "other": "skipped",
        "handler": "succeeded",
        "last": "succeeded",
    }
    assert reference.expected["handler"].output == reference.output


def _chain() -> tuple[Definition, dict[str, Row]]:
    steps: list[dict[str, Any]] = [
        {
            "id": "one",
            "activity": "mix",
            "input": {"values": ["{{ input.a }}"], "fails": 99, "business": True},
            "catch": [{"exit": "error"}],
        },
        {"id": "other", "activity": "mix", "input": {"values": []}, "after": ["one"]},
        {"id": "handler", "activity": "mix", "input": {"values": []}, "after": ["one:error"]},
        {"id": "last", "kind": "delay", "spec": {"for": 1}, "after": ["other", "handler"]},
    ]
    output = "{{ steps.handler.output }}"
    retry = {"max_attempts": 2}
    return Definition.model_validate({"name": "chain", "steps": steps, "output": output, "retry": retry}), {}
