"""Writes the tables of reference.md from the code: `python docs/build_reference.py`.

The page's own sentences stay; what lies between `<!-- begin: NAME -->` and `<!-- end -->` is replaced. A setting's or a
key's meaning is the `#:` comment above its field; a field without one has its sentence in MEANINGS.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from orchestrator import errors
from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.main import cli
from orchestrator.config import Settings
from orchestrator.model.definition import Catch, Compensation, Definition, Machine, State, Step, Transition
from orchestrator.model.policy import ErrorRule, RetryPolicy

PAGE = Path(__file__).with_name("reference.md")
_PART = re.compile(r"(<!-- begin: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: Units of numbers; every other number of the settings is a duration.
UNITS = {"max_payload": "bytes", "pool_size": "connections", "log_limit": "records", "max_crashes": "deaths"}

#: What stands under a key that has keys of its own.
NESTED = {
    RetryPolicy: "policy or int",
    ErrorRule: "entries",
    Compensation: "compensation or text",
    Step: "nodes",
    Catch: "catches",
    Machine: "machine",
    State: "states",
    Transition: "transitions",
}

#: What the keys of a file are fields of.
KEYED = (Definition, Step, Compensation, RetryPolicy, ErrorRule, Catch, Machine, Transition)

#: Of fields whose names say it all to readers of the code.
MEANINGS = {
    "Definition.name": "What it is started by: letters, digits and `_.-`, the first a letter or `_`, at most 200.",
    "Definition.version": "Raise it when the content changes.",
    "Definition.description": "For people.",
    "Definition.output": "With {{ }} values. By default the last step's output, or of several last steps each, by id.",
    "Definition.steps": "Steps, blocks of `parallel`, and lists of these as branches.",
    "Definition.timeout": "Seconds a whole execution may take.",
    "Definition.queue": "Queue of the steps that name none; by default `default_queue`.",
    "Definition.fuse": "Whether steps in a row on one queue may share a Celery task.",
    "Step.id": "Names the step: letters, digits, `_` and `-`, the first a letter or `_`, at most 100.",
    "Definition.machine": "In the place of steps: [a state machine](control-flow.md).",
    "Step.kind": "What the step does; a kind's name may also be written as a key, with its `spec` as the value.",
    "Step.activity": "Name of the activity that it calls, if its kind is `activity`.",
    "Step.join": "Which steps before it must have succeeded: `all` that were not skipped, `any`, so many, or none of "
    "them, as long as all have `settled`.",
    "Step.on_error": "What a failure for good means: undo and end, end as it is, go on with null, or try for ever.",
    "Step.catch": "Errors that lead to handlers instead: the keys below, with `steps`.",
    "Machine.initial": "The state that it begins in.",
    "Machine.states": "States by name, or a list of names; `{final: true}` ends the execution.",
    "Machine.transitions": "The keys below, each with its `steps`.",
    "Transition.to": "The state that it leads to.",
    "Step.retry": "A policy, or the number of attempts in all; by default the definition's, else 3 attempts.",
    "Step.queue": "Queue whose workers carry it out; by default the definition's.",
    "Step.compensation": "What undoes it: the keys below, or just an activity's name.",
    "Compensation.activity": "Name of the activity that it calls.",
    "Compensation.retry": "As a step's; by default the definition's.",
    "Compensation.queue": "By default the step's.",
    # These mean something else to an author than to the engine, which has every step's parents.
    "Step.after": "Ids of the steps that must have succeeded; by default the node before. `[]` starts the workflow.",
    "Step.timeout": "Seconds one attempt may take; by default the definition's `step_timeout`, else unlimited.",
    "Step.fuse": "Whether it may share a Celery task with its neighbours; by default as the definition says.",
    "Step.compensate_on": "By default `completed` for transactional activities, `attempted` for others.",
    "Compensation.timeout": "Seconds one attempt may take; by default the definition's `step_timeout`.",
    "Compensation.input": "Parameters, by name; strings may hold {{ }} values, also of `undo`.",
    "Definition.errors": "What exceptions are taken for that do not say it themselves: the keys below; the first entry "
    "that means one counts.",
    "Definition.retry": "For steps and compensations that say nothing: a policy, or the number of attempts in all.",
    "Definition.step_timeout": "Seconds one attempt may take, for steps that say nothing; by default unlimited.",
}


def render(page: str) -> str:
    """The page with its tables made anew."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}{PARTS[found[2]]()}\n{found[3]}"

    return _PART.sub(part, page)


def settings() -> str:
    """A row for each setting."""
    meanings = _comments(Settings)
    rows = [
        (
            f"`{name}`",
            _type(field.annotation),
            _default(field),
            UNITS.get(name, "s") if _type(field.annotation) in {"float", "int"} else "",
            meanings[name],
        )
        for name, field in Settings.model_fields.items()
    ]
    return _table(("name", "type", "default", "unit", "meaning"), rows)


def keys(model: type[BaseModel]) -> Callable[[], str]:
    """A row for each key that a file may have there."""

    def rows() -> Iterator[tuple[str, ...]]:
        comments = _comments(model)
        for name, field in model.model_fields.items():
            # Without a word on it, a step comes after the one above.
            default = "" if name == "after" else _default(field)
            meaning = MEANINGS.get(f"{model.__name__}.{name}") or comments[name]
            yield f"`{field.alias or name}`", _type(field.annotation), default, meaning

    return lambda: _table(("key", "type", "default", "meaning"), list(rows()))


def fields() -> set[str]:
    """Every key of a file, as MEANINGS names it."""
    return {f"{model.__name__}.{name}" for model in KEYED for name in model.model_fields}


def commands() -> str:
    """A section for each command."""
    return "\n\n".join(_command(command, name) for name, command in _commands(cli, ""))


def exit_codes() -> str:
    """A row for each exit code."""
    found = re.findall(r"^ +(\d+) +(.+)$", EXIT_CODES, re.MULTILINE)
    return _table(("exit code", "meaning"), found)


def error_tree() -> str:
    """The tree as errors.py draws it."""
    lines = (errors.__doc__ or "").splitlines()
    return "```\n" + "\n".join(line[4:] for line in lines if line.startswith("    ")) + "\n```"


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "definition keys": keys(Definition),
    "step keys": keys(Step),
    "compensation keys": keys(Compensation),
    "retry keys": keys(RetryPolicy),
    "error keys": keys(ErrorRule),
    "catch keys": keys(Catch),
    "machine keys": keys(Machine),
    "transition keys": keys(Transition),
    "commands": commands,
    "exit codes": exit_codes,
    "errors": error_tree,
}


def _commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")


def _command(command: click.Command, name: str) -> str:
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    shown = [_value(each) if each.required else f"[{_value(each)}]" for each in arguments]
    about = [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help or "").split("\n\n")]
    parts = [f"### {' '.join([name, *shown])}", "\n\n".join(about)]
    if rows := [_option(each) for each in command.params if isinstance(each, click.Option)]:
        parts.append(_table(("option", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _option(option: click.Option) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" `{_value(option)}`".replace("|", "\\|")
    given = isinstance(option.default, str | int) and not option.is_flag
    return names + value, f"`{option.default}`" if given else "", option.help or ""


def _value(parameter: click.Parameter) -> str:
    """What is written for a value. Releases of click differ in theirs."""
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter, click.Argument):
        return (parameter.name or "").upper()
    if isinstance(parameter.type, click.Choice):
        return "|".join(parameter.type.choices)
    if isinstance(parameter.type, click.types.IntParamType):
        return "N"
    return {"float": "SECONDS", "path": "FILE", "file": "FILE", "directory": "FOLDER"}.get(
        parameter.type.name, parameter.type.name.upper()
    )


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """The `#:` lines above each field, as one sentence or two."""
    lines = inspect.getsource(model).splitlines()
    (body,) = ast.parse("\n".join(lines)).body
    found: dict[str, str] = {}
    for node in typing.cast("ast.ClassDef", body).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment: list[str] = []
            at = node.lineno - 2
            while lines[at].strip().startswith("#:"):
                comment.insert(0, lines[at].strip().removeprefix("#:").strip())
                at -= 1
            if comment:
                found[node.target.id] = " ".join(comment)
    return found


def _type(annotation: Any) -> str:
    """A type as people read it: what JSON has, and names of our own."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_type(each) for each in arguments if each is not type(None))
    if origin is typing.Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return NESTED[annotation]
    plain = {str: "text", dict: "object", Any: "any", "SecretStr": "text", bool: "bool", int: "int", float: "float"}
    return plain.get(origin or annotation) or plain[annotation.__name__]


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ((), {}, ""):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |").replace("|  |", "| |") for line in lines)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
