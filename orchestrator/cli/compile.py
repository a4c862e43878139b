"""compile: what becomes of a definition in Celery, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from rich.markup import escape
from rich.tree import Tree

from orchestrator.authoring.checks import check
from orchestrator.authoring.loader import load_file
from orchestrator.cli.output import console, json_option, write_json
from orchestrator.cli.reach import catalog, ledger
from orchestrator.cli.timeline import name as shown
from orchestrator.cli.walk import Stage, as_data, segments, undo, walk
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.plan import Chain, Chord, Segment
from orchestrator.config import Settings, load
from orchestrator.errors import UnknownDefinition
from orchestrator.ledger import definitions
from orchestrator.model.definition import Definition


@click.command("compile")
@click.argument("name", required=False)
@click.option("--version", type=click.IntRange(min=1), help="Of the definition; the newest by default.")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A YAML or JSON definition."
)
@json_option
def compile_command(name: str | None, version: int | None, file: Path | None, as_json: bool) -> None:
    """Print the plan of the definition NAME, or of one in a FILE: its chains and chords, their queues, and which
    steps share a Celery task.

    The whole graph is walked as if every step succeeded; each stage is published when the steps before it have
    settled. A database is needed only for a definition that the configured modules do not have.
    """
    if (name is None) == (file is None):
        raise click.UsageError("give the NAME of a definition, or --file")
    settings = load()
    if file is not None:
        definition = load_file(file)
        check(definition, str(file), None)
    else:
        definition = _find(settings, name or "", version)
    graph = Graph(definition, settings.default_queue)
    stages, undone = list(walk(graph)), undo(graph)
    if as_json:
        _print_json(definition, stages, undone)
    else:
        console().print(_tree(definition, stages, undone))


def _find(settings: Settings, name: str, version: int | None) -> Definition:
    """Of the configured modules, else as published."""
    try:
        return catalog(settings).get(name, version)
    except UnknownDefinition:
        if settings.database_url is None:
            raise
        with ledger(settings) as connection:
            found = definitions.find(connection, settings.tenant, name, version)
        if found is None:
            raise
        return found.definition()


def _print_json(definition: Definition, stages: Iterable[Stage], undone: Iterable[Chain | Chord]) -> None:
    write_json(
        {
            "name": definition.name,
            "version": definition.version,
            "checksum": definition.checksum(),
            "stages": [
                {
                    "after": list(stage.after),
                    "in_place": stage.in_place,
                    "parts": [as_data(part) for part in stage.parts],
                }
                for stage in stages
            ],
            "compensation": [as_data(part) for part in undone],
        }
    )


def _tree(definition: Definition, stages: list[Stage], undone: Iterable[Chain | Chord]) -> Tree:
    messages = sum(len(segments(part)) for stage in stages if not stage.in_place for part in stage.parts)
    head = f"[bold]{definition.name}[/] v{definition.version}"
    root = Tree(f"{head}  [dim]{len(definition.steps)} steps in {messages} Celery tasks[/]")
    for stage in stages:
        branch = root.add(_heading(stage))
        for part in stage.parts:
            _add(branch, part)
    if parts := list(undone):
        branch = root.add("[magenta]if it fails after all that[/]  [dim]one task each, in reverse order[/]")
        for part in parts:
            _add(branch, part)
    return root


def _heading(stage: Stage) -> str:
    if not stage.after:
        return "at the start"
    after = f"after {escape(', '.join(stage.after))}"
    return f"{after}  [dim]in place: the worker goes on without a message[/]" if stage.in_place else after


def _add(branch: Tree, part: Chain | Chord) -> None:
    if isinstance(part, Chord):
        chord = branch.add("[yellow]chord[/]")
        header = chord.add("header")
        for segment in part.header:
            header.add(_label(segment))
        chord.add("body").add(_label(part.body))
    elif len(part.segments) == 1:
        branch.add(_label(part.segments[0]))
    else:
        chain = branch.add("[blue]chain[/]")
        for segment in part.segments:
            chain.add(_label(segment))


def _label(segment: Segment) -> str:
    return f"{escape(' > '.join(map(shown, segment.paths)))}  [cyan]{segment.queue}[/]"
