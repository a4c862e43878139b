from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.authoring import documents
from orchestrator.authoring.builder import compensation, parallel, sequence, step, workflow
from orchestrator.authoring.loader import dump_json, dump_yaml, load_file, load_text
from orchestrator.authoring.nodes import Node
from orchestrator.errors import DefinitionError
from orchestrator.model.definition import Definition

ORDER = """\
name: order
version: 2
description: Sells things.
input_schema: {type: object}
retry: 5
steps:
  - id: reserve
    activity: reserve_stock
    input:
      lines: "{{ input.lines }}"
    compensation: release_stock
  - parallel:
      - {id: charge, activity: charge_card, retry: {max_attempts: 4, never_on: [Declined]}}
      - - {id: pick, activity: pick_goods}
        - id: pack
          activity: pack_goods
          compensation: {activity: unpack, retry: 2, timeout: 5}
  - {id: ship, activity: ship_goods}
  - {id: survey, activity: ask, after: charge}
  - {id: audit, activity: log, after: []}
output: "{{ steps.ship.output }}"
"""


def problems(text: str, source: str = "order.yaml") -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load_text(text, source)
    assert caught.value.source == source
    return list(caught.value.problems)


def built_order() -> Definition:
    return workflow(
        "order",
        step("reserve", "reserve_stock", {"lines": "{{ input.lines }}"}, compensation="release_stock"),
        parallel(
            step("charge", "charge_card", retry={"max_attempts": 4, "never_on": ["Declined"]}),  # type: ignore[arg-type]
            sequence(
                step("pick", "pick_goods"),
                step("pack", "pack_goods", compensation=compensation("unpack", retry=2, timeout=5)),
            ),
        ),
        step("ship", "ship_goods"),
        step("survey", "ask", after=["charge"]),
        step("audit", "log", after=[]),
        version=2,
        description="Sells things.",
        input={"type": "object"},
        retry=5,
        output="{{ steps.ship.output }}",
    ).definition


def test_a_file_loads_as_the_same_definition_as_the_workflow_in_python() -> None:
    assert load_text(ORDER, "order.yaml") == built_order()


def test_json_loads_as_the_same_definition_as_yaml() -> None:
    text = json.dumps(yaml.safe_load(ORDER), indent="\t")
    assert load_text(text, "order.json") == load_text(text, "a text") == built_order()


def test_a_dumped_definition_says_of_every_step_what_it_comes_after() -> None:
    text = dump_yaml(built_order())
    data = yaml.safe_load(text)
    assert {each["id"]: each["after"] for each in data["steps"]} == {
        "reserve": [],
        "charge": ["reserve"],
        "pick": ["reserve"],
        "pack": ["pick"],
        "ship": ["charge", "pack"],
        "survey": ["charge"],
        "audit": [],
    }
    assert list(data)[:2] == ["name", "version"]
    assert json.loads(dump_json(built_order())) == data


def test_a_file_is_read_and_one_that_cannot_be_is_told(tmp_path: Path) -> None:
    path = tmp_path / "order.yaml"
    path.write_text("\ufeff" + ORDER, encoding="utf-8")
    assert load_file(path) == built_order()
    with pytest.raises(DefinitionError, match=r"missing\.yaml: the file cannot be read"):
        load_file(tmp_path / "missing.yaml")
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_file(str(path))


def test_every_problem_of_a_file_is_told_with_its_line_and_step() -> None:
    text = """\
name: order
timeot: 5
steps:
  - id: reserve
    activty: reserve_stock
    retry: {max_atempts: 3}
  - 3
  - parallel: []
    id: x
  - parallel: {id: y}
  - id: charge
    activity: charge_card
    timeout: -1
    compensation:
      activity: refund
      fuse: true
"""
    assert problems(text) == [
        "line 7: 3 is no step; write a mapping with id and activity",
        "line 8: a parallel block has no id; move it to its steps",
        "line 10: parallel takes a list of branches; write each behind a dash",
        "line 8: a parallel block or a branch of it is empty; give it a step, or remove it",
        'line 6: step reserve: unknown key "retry.max_atempts"; did you mean "max_attempts"?',
        'line 5: step reserve: unknown key "activty"; did you mean "activity"?',
        'line 13: step charge: "timeout": Input should be greater than 0; correct it',
        'line 16: step charge: unknown key "compensation.fuse"; known are activity, input, retry, timeout, queue',
        'line 2: unknown key "timeot"; did you mean "timeout" or "on_timeout"?',
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 'line 4: key "c" stands twice in one mapping; remove one'),
        ("{a: 1, a: 2}", 'line 1: key "a" stands twice'),
        ('{"a": {"b": 1, "b": 2}}', 'key "b" stands twice in one object'),
        ("a: 1\nb: [\n", "line 3: this is not YAML: "),
        ("a: \x01", "this is not YAML: unacceptable character"),
        ("a: 1\n---\nb: 1", "line 2: this is not YAML: expected a single document"),
        ("x: 1\n2: 3", "line 2: key 2 is no text; quote it"),
        ("? [a]\n: 1", "line 1: key of this mapping is no text"),
        ("a: 1e999", "line 1: 1e999 is not a JSON number"),
        ("a:\n  !!python/object/apply:os.getcwd []", "is not JSON; remove it"),
        ("a: !Ref b", "line 1: this is not YAML: could not determine a constructor"),
        ("a: !!binary aGk=", "line 1: a bytes is not JSON"),
        ("a: !!timestamp 2020-01-01", "line 1: a date is not JSON"),
        ("a: !!bool maybe", "line 1: this value cannot be read"),
        (f"a: {'9' * 5000}", "line 1: this value cannot be read"),
        ("a: &a [*a]", "line 1: values are nested more than 100 deep"),
        ("a: " + "[" * 3000 + "]" * 3000, "values are nested more than 100 deep"),
        ("", "a definition is a mapping"),
        ("[1]", "a definition is a mapping"),
        ("name: x\nsteps: {}", 'line 2: a definition is a mapping with "name" and a list of "steps"'),
        ("name: x\nsteps: []", "a definition has either steps or a machine; give one of them"),
    ],
)
def test_what_is_no_definition_is_refused(text: str, problem: str) -> None:
    (found,) = problems(text)[-1:]
    assert problem in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{\n"a": }', "line 2: this is not JSON: Expecting value at column 6; correct it"),
        ('{"a": NaN}', "this is not JSON: NaN is no JSON number"),
        ('{"a": -1e999}', "this is not JSON: -1e999 is no JSON number"),
        ("[" * 100_000, "this is not JSON: maximum recursion depth"),
        ("a: 1", "line 1: this is not JSON"),
    ],
)
def test_a_json_file_may_hold_nothing_but_json(text: str, problem: str) -> None:
    assert problem in problems(text, "order.json")[0]


def test_aliases_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 1000)
    layers = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "more than 1,000 values" in problems("\n".join(["a0: &a0 [x]", *layers]))[0]


def test_yaml_values_are_those_of_json_and_all_else_is_text() -> None:
    text = """\
name: w
steps:
  - id: a
    activity: act
    input:
      texts: [yes, no, on, Off, 2026-01-02, 01234, 0x1F, 1_000, 12:30:45, .inf, NaN, '1', =]
      numbers: [1, -2, 1.5, 1e3, -1.5E-2, 0]
      others: [true, false, null, ~, ]
      <<: {merged: 1, texts: lost}
"""
    (loaded,) = load_text(text, "w.yaml").steps
    texts = ["yes", "no", "on", "Off", "2026-01-02", "01234", "0x1F", "1_000", "12:30:45", ".inf", "NaN", "1", "="]
    assert loaded.input == {
        "texts": texts,
        "numbers": [1, -2, 1.5, 1000.0, -0.015, 0],
        "others": [True, False, None, None],
        "merged": 1,
    }


def test_anchors_may_be_merged_into_several_steps() -> None:
    text = """\
name: w
defaults: &d {activity: act, timeout: 5}
steps:
  - &a {<<: *d, id: a, timeout: 6}
  - {<<: *a, id: b}
  - parallel: [{<<: *a, id: c}, {<<: [*d, *a], id: d}]
"""
    assert problems(text) == ['line 2: unknown key "defaults"; known are ' + ", ".join(Definition.model_fields)]
    loaded = load_text(text.replace("defaults: ", "output: "), "w.yaml")
    assert [(each.id, each.timeout) for each in loaded.steps] == [("a", 6), ("b", 6), ("c", 6), ("d", 5)]
    assert [each.activity for each in loaded.steps] == ["act"] * 4
    assert problems(text.replace("defaults: ", "output: ").replace("[*d, *a]", "[*d, 1]")) == [
        "line 6: << takes a mapping or a list of mappings; name one"
    ]


ids = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
# Another process on the machine must not fail a test, so an example may take its time.
patient = settings(deadline=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
inputs = st.dictionaries(st.text(), json_values, max_size=3)
retries = st.integers(1, 9) | st.fixed_dictionaries(
    {},
    optional={
        "max_attempts": st.integers(1, 9),
        "backoff": st.floats(0, 99),
        "never_on": st.lists(st.text(), max_size=2),
    },
)
compensations = ids | st.fixed_dictionaries({"activity": ids}, optional={"input": inputs, "retry": retries})
steps = st.fixed_dictionaries(
    {"activity": ids},
    optional={
        "input": inputs,
        "retry": retries,
        "timeout": st.floats(0.1, 1e6),
        "queue": ids,
        "fuse": st.booleans(),
        "compensation": compensations,
        "compensate_on": st.sampled_from(["attempted", "completed"]),
        "after": st.lists(ids, max_size=2) | ids,
    },
)
trees = st.lists(
    st.recursive(
        steps,
        lambda inner: st.lists(inner | st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=3).map(
            lambda branches: {"parallel": branches}
        ),
        max_leaves=6,
    ),
    min_size=1,
    max_size=4,
)
heads = st.fixed_dictionaries(
    {"name": ids},
    optional={
        "version": st.integers(1, 99),
        "description": st.text(),
        "output": json_values,
        "retry": retries,
        "timeout": st.floats(0.1, 1e6),
        "fuse": st.booleans(),
    },
)


def numbered(tree: Any, count: list[int]) -> Any:
    """The tree with an id for each step."""
    if isinstance(tree, list):
        return [numbered(each, count) for each in tree]
    if "parallel" in tree:
        return {"parallel": numbered(tree["parallel"], count)}
    count[0] += 1
    return {"id": f"s{count[0]}", **tree}


def node(tree: Any) -> Node:
    if isinstance(tree, list):
        return sequence(*map(node, tree))
    if "parallel" in tree:
        return parallel(*map(node, tree["parallel"]))
    options = dict(tree)
    if isinstance(given := options.get("compensation"), dict):
        options["compensation"] = compensation(**given)
    return step(**options)


@patient
@given(heads, trees)
def test_python_yaml_and_json_give_the_same_definition_and_dumps_load_as_what_was_dumped(head: Any, tree: Any) -> None:
    nodes = numbered(tree, [0])
    options = {key: value for key, value in head.items() if key != "name"}
    expected = workflow(head["name"], *map(node, nodes), **options).definition
    written = {**head, "steps": nodes}
    assert load_text(documents.render_yaml(written), "w.yaml") == expected
    assert load_text(documents.render_json(written), "w.json") == expected
    assert load_text(dump_yaml(expected), "w.yaml") == expected
    assert load_text(dump_json(expected), "w.json") == expected
    assert load_text(dump_yaml(expected), "w.yaml").checksum() == expected.checksum()


@patient
@given(json_values)
def test_any_json_value_survives_both_formats_with_its_types(value: Any) -> None:
    data = {"value": value}
    for text, source in ((documents.render_yaml(data), "x.yaml"), (documents.render_json(data), "x.json")):
        assert repr(documents.parse(text, source).data) == repr(data)


@patient
@given(json_values)
def test_yaml_is_written_so_that_other_readers_find_the_same_texts(value: Any) -> None:
    assert repr(yaml.safe_load(documents.render_yaml([value]))) == repr([value])
