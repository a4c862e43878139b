"""The JSON Schema of definitions in YAML and JSON, for editors: built from the models, and from every kind's spec.

It knows shapes, not meanings: what steps refer to, and whether a graph makes sense, is for the checks.
"""

from __future__ import annotations

import ast
import inspect
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchestrator.authoring.forms import OTHERWISE, keys_of, spec_model
from orchestrator.kinds.kinds import ACTIVITY, KINDS
from orchestrator.model.definition import Catch, Compensation, Definition, Machine, State, Step, Transition
from orchestrator.model.policy import ErrorRule, RetryPolicy

Schema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Models that files write almost as they are.
_MODELS: tuple[type[BaseModel], ...] = (
    Definition,
    Step,
    Compensation,
    Catch,
    RetryPolicy,
    ErrorRule,
    Machine,
    Transition,
    State,
)
_DURATION: Schema = {
    "anyOf": [{"type": ["number", "null"], "minimum": 0}, {"type": "string", "pattern": "^[^{]+$"}],
    "description": "Seconds, or a text such as 90s, 1h30m or 7d.",
}
_NODES: Schema = {"$ref": "#/$defs/Nodes"}
_CONDITION: Schema = {"type": ["string", "boolean"], "description": "A {{ }} value that is true or false."}
_ONE_OR_MORE: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_RETRY: Schema = {"anyOf": [{"type": ["integer", "null"], "minimum": 1}, {"$ref": "#/$defs/RetryPolicy"}]}
#: Fields that files may write in a shorter way than the model has them.
_SHORT: dict[str, Schema] = {
    "timeout": _DURATION,
    "heartbeat_timeout": _DURATION,
    "start_timeout": _DURATION,
    "step_timeout": _DURATION,
    "backoff": _DURATION,
    "max_delay": _DURATION,
    "budget": _DURATION,
    "retry": _RETRY,
    "execution_retry": _RETRY,
    "compensation": {"anyOf": [{"type": ["string", "null"]}, {"$ref": "#/$defs/Compensation"}]},
    "steps": _NODES,
}


def schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a definition's file."""
    specs = {name: spec for name, kind in KINDS.items() if (spec := spec_model(kind)) is not None}
    found: list[type[BaseModel]] = [*_MODELS, *specs.values()]
    refs, combined = models_json_schema([(model, "validation") for model in found], ref_template="#/$defs/{model}")
    definitions: dict[str, Schema] = combined["$defs"]
    by_model = {model: definitions[refs[model, "validation"]["$ref"].rpartition("/")[2]] for model in found}
    for model, made in by_model.items():
        _describe(model, made)
    for model in _MODELS:
        _shorten(by_model[model])
    _step(by_model[Step], {name: refs[spec, "validation"] for name, spec in specs.items()})
    _machine(by_model)
    by_model[Catch]["properties"] |= {"errors": _ONE_OR_MORE, "steps": _NODES}
    top = by_model[Definition]
    top["properties"] |= {"$schema": {"type": "string"}, "steps": {**_NODES, "minItems": 1}}
    top["oneOf"] = [{"required": ["steps"]}, {"required": ["machine"]}]
    definitions |= {"Nodes": _nodes(), "Cases": _cases()}
    used = {name: made for name, made in definitions.items() if made is not top}
    return {"$schema": DIALECT, **top, "title": "Workflow definition", "$defs": used}


def _nodes() -> Schema:
    """Steps, blocks of `parallel`, and lists of these as branches."""
    parallel = {
        "type": "object",
        "properties": {"parallel": {"type": "array", "items": {"$ref": "#/$defs/Nodes/items"}, "minItems": 1}},
        "required": ["parallel"],
        "additionalProperties": False,
    }
    # By what is there, not by trial: an editor can then say what is wrong with the one form that was meant.
    mapping = {"if": {"required": ["parallel"]}, "then": parallel, "else": {"$ref": "#/$defs/Step"}}
    item = {"if": {"type": "array"}, "then": {"$ref": "#/$defs/Nodes"}, "else": {"type": "object", **mapping}}
    return {"type": "array", "items": item}


def _cases() -> Schema:
    """A choice as a list of cases."""
    name = {"type": "string", "pattern": Step.model_json_schema()["$defs"]["Catch"]["properties"]["exit"]["pattern"]}
    case = {
        "type": "object",
        "properties": {"exit": name, "when": _CONDITION, "steps": _NODES},
        "required": ["when"],
        "additionalProperties": False,
    }
    otherwise = {
        "type": "object",
        "properties": {OTHERWISE: _NODES},
        "required": [OTHERWISE],
        "additionalProperties": False,
    }
    item = {"if": {"required": [OTHERWISE]}, "then": otherwise, "else": case}
    return {"type": "array", "items": item, "minItems": 1}


def _step(step: Schema, specs: dict[str, Schema]) -> None:
    """Turn the model's schema of a step into that of a step as files write it."""
    properties = step["properties"]
    properties["kind"] = {
        "enum": [ACTIVITY, *KINDS],
        "description": "What it does; `<kind>: <spec>` is short for it.",
    }
    properties["after"] = {**_ONE_OR_MORE, "description": "What it comes after: ids, or id:exit; [] starts the body."}
    properties["join"]["description"] = "Which of those must have succeeded; settled: all have ended, however."
    properties["on_error"]["description"] = "What its failure for good means to the execution."
    catch = {"$ref": "#/$defs/Catch"}
    properties["catch"] = {"anyOf": [catch, {"type": "array", "items": catch}], "description": "Handlers of errors."}
    properties["fallback"] = {**_NODES, "description": "Steps that follow any error that catch does not handle."}
    properties["exits"] = {
        "type": "object",
        "additionalProperties": _NODES,
        "description": "Steps that follow the kind's exits, by exit.",
    }
    properties["when"] = {**_CONDITION, "description": "If this holds then is carried out, else otherwise."}
    properties |= {"then": _NODES, "otherwise": _NODES}
    for name, kind in KINDS.items():
        properties[name] = {**_short_spec(name, specs.get(name, {})), "description": _first_sentence(kind)}
    means = [{"required": ["kind"], "properties": {"kind": {"enum": list(KINDS)}}}]
    means += [{"required": [name]} for name in (*KINDS, "when")]
    activity = {"required": ["activity"], "properties": {"kind": {"const": ACTIVITY}}}
    step["oneOf"] = [activity, *means]
    step["dependentRequired"] = {"then": ["when"], "otherwise": ["when"], "spec": ["kind"]}
    step["allOf"] = [rule for name in KINDS for rule in _rules(name, specs.get(name, {}))]
    step["allOf"].append({"if": {"required": ["activity"]}, "then": {"properties": {"steps": False, "spec": False}}})


def _short_spec(name: str, spec: Schema) -> Schema:
    """What may stand behind a kind's name: its spec, or the value of the spec's first key."""
    model = spec_model(KINDS[name])
    keys = () if model is None else keys_of(model)
    forms: list[Schema] = [spec]
    if not keys:
        forms += [{"type": "null"}, *([_NODES] if KINDS[name].has_body else [])]
    elif name == "choice":
        forms.append({"$ref": "#/$defs/Cases"})
    else:
        forms.append({"not": {"type": ["object", "null"]}})
    return {"anyOf": forms}


def _rules(name: str, spec: Schema) -> list[Schema]:
    """What a kind asks of its step: a body or none, and its spec when that is written out."""
    written_out = {"required": ["kind"], "properties": {"kind": {"const": name}}}
    is_kind = {"anyOf": [{"required": [name]}, written_out]}
    if not KINDS[name].has_body:
        return [
            {"if": is_kind, "then": {"properties": {"steps": False}}},
            {"if": written_out, "then": {"properties": {"spec": spec}}},
        ]
    in_place = {"required": [name], "properties": {name: {"type": "array"}}}
    model = spec_model(KINDS[name])
    needs = [{"required": ["steps"]}, *([] if model is not None and keys_of(model) else [in_place])]
    return [
        {"if": is_kind, "then": {"anyOf": needs}},
        {"if": written_out, "then": {"properties": {"spec": spec}}},
    ]


def _machine(by_model: dict[type[BaseModel], Schema]) -> None:
    names = {"type": "array", "items": {"type": "string"}}
    machine, transition = by_model[Machine]["properties"], by_model[Transition]["properties"]
    state = {"anyOf": [{"$ref": "#/$defs/State"}, {"type": "null"}]}
    by_name = {"type": "object", "additionalProperties": state, "minProperties": 1}
    machine["states"] = {"anyOf": [by_name, {**names, "minItems": 1}]}
    machine["final"] = {**_ONE_OR_MORE, "description": "States in which the execution ends."}
    transition |= {"after": _DURATION, "from": _ONE_OR_MORE, "actors": _ONE_OR_MORE, "condition": _CONDITION}


def _shorten(made: Schema) -> None:
    for name, short in _SHORT.items():
        if name in made["properties"]:
            said = made["properties"][name].get("description")
            made["properties"][name] = short | ({"description": said} if said else {})


def _describe(model: type[BaseModel], made: Schema) -> None:
    """Say of each property what the `#:` lines above its field say, if the sources are there to be read."""
    for place in made["properties"].values():
        place.pop("title", None)
    try:
        lines = inspect.getsource(model).splitlines()
    except OSError:
        return
    aliases = {name: field.alias or name for name, field in model.model_fields.items()}
    for found in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(found, ast.AnnAssign) and isinstance(found.target, ast.Name):
            at, comment = found.lineno - 2, list[str]()
            while lines[at].strip().startswith("#:"):
                comment.insert(0, lines[at].strip().removeprefix("#:").strip())
                at -= 1
            place = made["properties"].get(aliases.get(found.target.id))
            if comment and place is not None:
                place["description"] = " ".join(comment)


def _first_sentence(kind: type) -> str:
    module = inspect.getmodule(kind)
    return (inspect.getdoc(module) or "").partition("\n")[0]
