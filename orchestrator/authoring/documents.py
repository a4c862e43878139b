"""Reads and writes YAML and JSON text: data only, and with it the line that every value stands on.

YAML is read by the types of JSON: `yes`, `no`, `on`, dates and numbers with a leading 0 are texts, so that nothing
turns into what JSON cannot say or its author did not mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.authoring.nodes import Where
from orchestrator.errors import DefinitionError

#: Values in one file, aliases counted as often as they are used: a few lines of nested aliases could fill the memory.
MAX_VALUES = 500_000
#: Lists and mappings may be nested this deep.
MAX_DEPTH = 100

_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_MAP, _SEQ, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "merge"))
_LINE_END = re.compile("[\x85\u2028\u2029\ufeff]")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file's content."""

    #: The file or module that it came from.
    source: str
    #: JSON data.
    data: Any
    #: The line, from 1, of every key and item; empty for JSON.
    lines: Mapping[Where, int] = field(default_factory=dict)

    def locate(self, where: Where) -> str:
        """`line 12: ` for a place, or for the nearest one around it that is known; empty when none is."""
        while where and where not in self.lines:
            where = where[:-1]
        return f"line {self.lines[where]}: " if where else ""


class _Loader(yaml.SafeLoader):
    """A safe loader that knows JSON's types only."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the class is what PyYAML registers types with


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not read as text, and what other readers would not."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value in full."""
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Quote text with YAML's own line ends so that they are escaped; as they are, they would be read as spaces."""
        style = '"' if _LINE_END.search(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)

for _dialect in (_Loader, _Dumper):
    for _tag, _pattern, _first in (
        (_NULL, r"null|~|", ["n", "~", ""]),
        (_BOOL, r"true|false", ["t", "f"]),
        (_INT, r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
        (_FLOAT, r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
        (_MERGE, r"<<", ["<"]),
    ):
        _dialect.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


def parse(text: str, source: str) -> Document:
    """Data of a YAML or JSON text; what begins with `{` and is JSON is read as that.

    Raises:
        DefinitionError: the text is neither, a key stands twice, or a value is not JSON; names the line.
    """
    if source.endswith(".json") or text.lstrip().startswith("{"):
        try:
            return Document(source=source, data=_parse_json(text, source))
        except json.JSONDecodeError as error:
            if source.endswith(".json"):
                problem = f"line {error.lineno}: this is not JSON: {error.msg} at column {error.colno}; correct it"
                raise DefinitionError(source, [problem]) from None
        except (ValueError, RecursionError) as error:
            raise DefinitionError(source, [f"this is not JSON: {error}; correct it"]) from None
    return _parse_yaml(text, source)


def render_yaml(data: Any) -> str:
    """YAML text that `parse` reads as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def render_json(data: Any) -> str:
    """JSON text that `parse` reads as the same data."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _parse_json(text: str, source: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise DefinitionError(source, [f'key "{key}" stands twice in one object; remove one'])
            found[key] = value
        return found

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no JSON number")

    def finite(written: str) -> float:
        value = float(written)
        return value if math.isfinite(value) else refuse(written)

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)


def _parse_yaml(text: str, source: str) -> Document:
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        builder = _Builder(loader, source)
        data = None if root is None else builder.build(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        detail = "; ".join(part for part in (error.context, error.problem) if part)
        raise DefinitionError(source, [f"{line}this is not YAML: {detail}; correct it"]) from None
    except yaml.YAMLError as error:
        raise DefinitionError(source, [f"this is not YAML: {' '.join(str(error).split())}; correct it"]) from None
    except RecursionError:
        raise DefinitionError(source, [f"values are nested more than {MAX_DEPTH} deep; flatten them"]) from None
    return Document(source=source, data=data, lines=builder.lines)


class _Builder:
    """Turns YAML's nodes into data and remembers their lines."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self._loader = loader
        self._source = source
        self._count = 0
        self._merged: set[int] = set()
        self.lines: dict[Where, int] = {}

    def build(self, node: yaml.Node, where: Where) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(node, f"there are more than {MAX_VALUES:,} values, aliases included; use fewer")
        if len(where) > MAX_DEPTH:
            raise self._error(node, f"values are nested more than {MAX_DEPTH} deep; flatten them")
        if where not in self.lines:
            self.lines[where] = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in {_MAP, _SEQ}:
            raise self._error(node, f"the tag {node.tag} is not JSON; remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        return [self.build(item, (*where, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        self._merge(node)
        data: dict[str, Any] = {}
        for key, value in node.value:
            name = self._key(key)
            self.lines[(*where, name)] = key.start_mark.line + 1
            data[name] = self.build(value, (*where, name))
        return data

    def _merge(self, node: yaml.MappingNode) -> None:
        """Put the pairs that `<<` names before the mapping's own.

        As YAML's merge key says (https://yaml.org/type/merge.html), the mapping's own keys win, then those of the
        earlier mappings in a list. PyYAML's releases disagree on the latter, so it is not left to them. An alias
        brings the same node again, with what was merged into it: no second look then.
        """
        if id(node) in self._merged:
            return
        self._merged.add(id(node))
        self._refuse_duplicates(node)
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        known = {key.value for key, _ in own}
        merged = []
        for mapping in self._merged_mappings(node):
            self._merge(mapping)
            merged += [pair for pair in mapping.value if pair[0].value not in known]
            known |= {key.value for key, _ in merged}
        node.value = [*merged, *own]

    def _merged_mappings(self, node: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
        for value in (value for key, value in node.value if key.tag == _MERGE):
            for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(each, yaml.MappingNode):
                    raise self._error(each, "<< takes a mapping or a list of mappings; name one")
                yield each

    def _refuse_duplicates(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            name = "<<" if key.tag == _MERGE else self._key(key)
            if name in seen:
                raise self._error(key, f'key "{name}" stands twice in one mapping; remove one')
            seen.add(name)

    def _key(self, node: yaml.Node) -> str:
        value = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(value, str):
            raise self._error(
                node, f"key {node.value if value is not None else 'of this mapping'} is no text; quote it"
            )
        return value

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (ValueError, LookupError, AttributeError) as error:  # what PyYAML's constructors let through
            raise self._error(node, f"this value cannot be read: {error}; quote it") from None
        if value is not None and not isinstance(value, str | bool | int | float):
            raise self._error(node, f"a {type(value).__name__} is not JSON; write a text, and no !! tag")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(node, f"{node.value} is not a JSON number; quote it, or write another")
        return value

    def _error(self, node: yaml.Node, problem: str) -> DefinitionError:
        return DefinitionError(self._source, [f"line {node.start_mark.line + 1}: {problem}"])
