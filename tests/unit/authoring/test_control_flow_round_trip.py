"""Whatever definition there is, its dumps load as an equal one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestrator.authoring.documents import parse
from orchestrator.authoring.editor import schema
from orchestrator.authoring.loader import dump_json, dump_yaml, load_text
from orchestrator.kinds.kinds import KINDS
from orchestrator.model.definition import Definition

# Another process on the machine must not fail a test, so an example may take its time.
patient = settings(deadline=None)
VALIDATOR = Draft202012Validator(schema())
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
objects = st.dictionaries(texts, values, max_size=3)
edges = names | st.tuples(names, names).map(":".join)
catches = st.fixed_dictionaries({}, optional={"errors": st.lists(texts, max_size=2), "exit": names})
options = {
    "after": st.lists(edges, max_size=3),
    "join": st.sampled_from(["all", "settled", "any"]) | st.integers(1, 9),
    "on_error": st.sampled_from(["compensate", "stop", "continue", "retry"]),
    "catch": st.lists(catches, max_size=2),
    "retry": st.fixed_dictionaries({}, optional={"max_attempts": st.integers(1, 9), "backoff": st.floats(0, 99)}),
    "timeout": st.floats(0.1, 1e6),
    "queue": names,
    "fuse": st.booleans(),
}
activities = st.fixed_dictionaries({"id": names, "activity": names}, optional={"input": objects, **options})


def of_kinds(inner: Any) -> Any:
    """Steps of any kind, an unknown one too, with any spec and any body: loading is not checking."""
    kinds = st.sampled_from([*KINDS, "unknown"])
    body = {"steps": st.lists(inner, max_size=3)}
    return st.fixed_dictionaries({"id": names, "kind": kinds}, optional={"spec": objects, **body, **options})


bodies = st.lists(st.recursive(activities, of_kinds, max_leaves=5), min_size=1, max_size=3)
transitions = st.fixed_dictionaries(
    {"from": st.lists(names | st.just("*"), min_size=1, max_size=2), "to": names},
    optional={
        "event": names,
        "actors": st.lists(texts, max_size=2),
        "condition": texts | st.booleans(),
        "after": st.floats(0.1, 1e6),
        "steps": bodies,
        "timeout": st.floats(0.1, 1e6),
        "compensate": st.booleans(),
    },
)
machines = st.fixed_dictionaries(
    {
        "initial": names,
        "states": st.dictionaries(names, st.fixed_dictionaries({}, optional={"final": st.booleans()}), min_size=1),
    },
    optional={"transitions": st.lists(transitions, max_size=3)},
)
heads = st.fixed_dictionaries(
    {"name": names}, optional={"signals": st.dictionaries(names, objects, max_size=2), "timeout": st.floats(0.1, 1e6)}
)
definitions = st.builds(
    lambda head, content: Definition.model_validate(head | content),
    heads,
    bodies.map(lambda steps: {"steps": steps}) | machines.map(lambda machine: {"machine": machine}),
)


@patient
@given(definitions)
def test_dumps_load_as_what_was_dumped(definition: Definition) -> None:
    for text, source in ((dump_yaml(definition), "w.yaml"), (dump_json(definition), "w.json")):
        loaded = load_text(text, source)
        assert loaded == definition
        assert loaded.checksum() == definition.checksum()


@patient
@given(st.lists(activities, min_size=1))
def test_dumps_fit_the_schema_of_editors(steps: Any) -> None:
    text = dump_yaml(Definition.model_validate({"name": "w", "steps": steps}))
    assert [error.message for error in VALIDATOR.iter_errors(parse(text, "w.yaml").data)] == []
