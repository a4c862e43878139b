"""Workflows in YAML and JSON.

name: order
steps:
  - id: reserve
    activity: reserve_stock
    input: {lines: "{{ input.lines }}"}
    compensation: release_stock
  - parallel:
      - {id: charge, activity: charge_card}
      - - {id: pick, activity: pick_goods}
        - {id: pack, activity: pack_goods}
  - {id: ship, activity: ship_goods}

A kind's name is a key that stands for `kind` and `spec`, as in `delay: {for: 24h}`; a body lies under `steps`. Every
other key is a field of the definition, of its steps or of their policies. A step without `after` comes after the node
before it; `after: []` starts the workflow. docs/control-flow.md shows all shapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.authoring.assemble import assemble
from orchestrator.authoring.documents import Document, parse, render_json, render_yaml
from orchestrator.authoring.reading import Reader
from orchestrator.errors import DefinitionError
from orchestrator.kinds.kinds import KINDS
from orchestrator.model.definition import Definition


def load_text(text: str, source: str) -> Definition:
    """The definition in a YAML or JSON text.

    Args:
        source: names the text in errors; a name in `.json` allows nothing but JSON.

    Raises:
        DefinitionError: every key that is unknown, missing or wrong, with its line where the format has lines.
    """
    return load_document(parse(text, source))


def load_file(path: Path | str) -> Definition:
    """The definition in a UTF-8 file; DefinitionError as in `load_text`, and when the file cannot be read."""
    return load_text(read_text(Path(path)), str(path))


def read_text(path: Path) -> str:
    """A file's text; DefinitionError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(str(path), [f"the file cannot be read: {error}"]) from None


def load_document(document: Document) -> Definition:
    """The definition in a parsed file; DefinitionError as in `load_text`."""
    data = document.data
    otherwise: Any = [] if isinstance(data, dict) and "machine" in data else None
    if not isinstance(data, dict) or not isinstance(data.get("steps", otherwise), list):
        problem = 'a definition is a mapping with "name" and a list of "steps", or a "machine"; write them'
        raise DefinitionError(document.source, [document.locate(("steps",)) + problem])
    reader = Reader(document=document)
    nodes = reader.nodes(data.get("steps", []), ("steps",))
    machine = reader.machine(data["machine"], ("machine",)) if "machine" in data else None
    # Editors of JSON look for the schema's address in the file itself.
    fields = {key: value for key, value in data.items() if key not in {"steps", "machine", "$schema"}}
    return assemble(document.source, fields, nodes, machine=machine, problems=reader.problems, locate=document.locate)


def dump_yaml(definition: Definition) -> str:
    """YAML text that loads as an equal definition."""
    return render_yaml(_written(definition))


def dump_json(definition: Definition) -> str:
    """JSON text that loads as an equal definition."""
    return render_json(_written(definition))


def _written(definition: Definition) -> dict[str, Any]:
    """The definition's content in the order in which people read it."""
    spec = definition.spec()
    # Without a word on it a step would come after the one above, and a first version is worth its line.
    steps = {"steps": _steps(spec.pop("steps"))} if "steps" in spec else {}
    machine = {"machine": _machine(spec.pop("machine"))} if "machine" in spec else {}
    head = {"name": spec.pop("name"), "version": spec.pop("version", 1)}
    tail = {"output": spec.pop("output")} if "output" in spec else {}
    return {**head, **spec, **steps, **machine, **tail}


def _machine(spec: dict[str, Any]) -> dict[str, Any]:
    for transition in spec.get("transitions", ()):
        if "steps" in transition:
            transition["steps"] = _steps(transition.pop("steps"))
    return spec


def _steps(specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_step(spec) for spec in specs]


def _step(spec: dict[str, Any]) -> dict[str, Any]:
    kind = spec.get("kind")
    if kind in KINDS and "activity" not in spec:
        spec[spec.pop("kind")] = spec.pop("spec", {})
    body = {"steps": _steps(spec.pop("steps"))} if "steps" in spec else {}
    names = [key for key in ("id", "activity", "kind", kind) if key in spec]
    head = {key: spec.pop(key) for key in names} | {"after": spec.pop("after", [])}
    return {**head, **spec, **body}
