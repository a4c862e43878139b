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

Every other key is a field of the definition, of its steps or of their policies. A step without `after` comes after the
node before it; `after: []` starts the workflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.authoring.documents import Document, parse, render_json, render_yaml
from orchestrator.authoring.nodes import Node, ParallelNode, SequenceNode, Where, assemble, step_node
from orchestrator.errors import DefinitionError
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
    if not isinstance(data, dict) or not isinstance(data.get("steps"), list):
        problem = 'a definition is a mapping with "name" and a list of "steps"; write them'
        raise DefinitionError(document.source, [document.locate(("steps",)) + problem])
    problems: list[str] = []
    nodes = _nodes(data["steps"], ("steps",), document, problems)
    fields = {key: value for key, value in data.items() if key != "steps"}
    return assemble(document.source, fields, nodes, problems=problems, locate=document.locate)


def dump_yaml(definition: Definition) -> str:
    """YAML text that loads as an equal definition."""
    return render_yaml(_written(definition))


def dump_json(definition: Definition) -> str:
    """JSON text that loads as an equal definition."""
    return render_json(_written(definition))


def _nodes(items: list[Any], where: Where, document: Document, problems: list[str]) -> tuple[Node, ...]:
    found = (_node(item, (*where, index), document, problems) for index, item in enumerate(items))
    return tuple(node for node in found if node is not None)


def _node(item: Any, where: Where, document: Document, problems: list[str]) -> Node | None:
    if isinstance(item, list):
        return SequenceNode(nodes=_nodes(item, where, document, problems), where=where)
    if not isinstance(item, dict):
        problems.append(f"{document.locate(where)}{item!r} is no step; write a mapping with id and activity")
        return None
    if "parallel" not in item:
        return step_node(item, where=where)
    if others := [str(key) for key in item if key != "parallel"]:
        problems.append(f"{document.locate(where)}a parallel block has no {', '.join(others)}; move it to its steps")
    branches = item["parallel"]
    if not isinstance(branches, list):
        problems.append(f"{document.locate(where)}parallel takes a list of branches; write each behind a dash")
        return None
    inner = (*where, "parallel")
    return ParallelNode(branches=_nodes(branches, inner, document, problems), where=where)


def _written(definition: Definition) -> dict[str, Any]:
    """The definition's content in the order in which people read it."""
    spec = definition.spec()
    # Without a word on it a step would come after the one above, and a first version is worth its line.
    steps = [_step(step) for step in spec.pop("steps")]
    head = {"name": spec.pop("name"), "version": spec.pop("version", 1)}
    tail = {"output": spec.pop("output")} if "output" in spec else {}
    return {**head, **spec, "steps": steps, **tail}


def _step(spec: dict[str, Any]) -> dict[str, Any]:
    head = {"id": spec.pop("id"), "activity": spec.pop("activity"), "after": spec.pop("after", [])}
    return {**head, **spec}
