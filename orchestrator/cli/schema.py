"""schema: what editors check and complete definitions in YAML and JSON by."""

from __future__ import annotations

import click

from orchestrator.authoring.editor import schema
from orchestrator.cli.output import write_json


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema (draft 2020-12) of definitions in YAML and JSON, for editors.

    Write it to a file, and name that in the first line of a definition: `# yaml-language-server: $schema=FILE`.
    """
    write_json(schema())
