"""From a file's data to authoring nodes: keys that stand for whole shapes, such as `parallel`, `choice` or `catch`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.authoring.documents import Document
from orchestrator.authoring.forms import OTHERWISE, THEN, cases_of, is_body, spec_of
from orchestrator.authoring.machines import machine_node, transition_node
from orchestrator.authoring.nodes import (
    Handler,
    MachineNode,
    Node,
    ParallelNode,
    SequenceNode,
    StepNode,
    TransitionNode,
    Where,
    listed,
    step_node,
)
from orchestrator.kinds.kinds import KINDS


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads the nodes of one document; what is wrong with their shape is added to the problems, and they go on."""

    document: Document
    problems: list[str] = field(default_factory=list)

    def nodes(self, items: Any, where: Where) -> tuple[Node, ...]:
        """The nodes of a list."""
        if not isinstance(items, list):
            self._tell(where, f"{where[-1] if where else 'this'} takes a list of steps; write each behind a dash")
            return ()
        found = (self._node(item, (*where, index)) for index, item in enumerate(items))
        return tuple(node for node in found if node is not None)

    def machine(self, data: Any, where: Where) -> MachineNode | None:
        """A state machine."""
        if not isinstance(data, dict):
            self._tell(where, "a machine is a mapping with initial, states and transitions; write them")
            return None
        fields = dict(data)
        transitions = fields.pop("transitions", [])
        if not isinstance(transitions, list):
            self._tell((*where, "transitions"), "transitions takes a list; write each behind a dash")
            transitions = []
        inner = (*where, "transitions")
        found = (self._transition(item, (*inner, index)) for index, item in enumerate(transitions))
        return machine_node(fields, [each for each in found if each is not None])

    def _transition(self, data: Any, where: Where) -> TransitionNode | None:
        if not isinstance(data, dict):
            self._tell(where, f"{data!r} is no transition; write a mapping with from and to")
            return None
        fields = dict(data)
        nodes = self.nodes(fields.pop("steps"), (*where, "steps")) if "steps" in fields else ()
        return transition_node(fields, nodes, where=where)

    def _node(self, item: Any, where: Where) -> Node | None:
        if isinstance(item, list):
            return SequenceNode(nodes=self.nodes(item, where), where=where)
        if not isinstance(item, dict):
            self._tell(where, f"{item!r} is no step; write a mapping with id and activity")
            return None
        if "parallel" not in item:
            return self._step(item, where)
        if others := [str(key) for key in item if key != "parallel"]:
            self._tell(where, f"a parallel block has no {', '.join(others)}; move it to its steps")
        branches = item["parallel"]
        if not isinstance(branches, list):
            self._tell(where, "parallel takes a list of branches; write each behind a dash")
            return None
        return ParallelNode(branches=self.nodes(branches, (*where, "parallel")), where=where)

    def _step(self, item: dict[str, Any], where: Where) -> StepNode:
        fields = dict(item)
        exits = self._exits(fields.pop("exits"), (*where, "exits")) if "exits" in fields else {}
        body = self.nodes(fields.pop("steps"), (*where, "steps")) if "steps" in fields else None
        handlers = self._handlers(fields.pop("catch"), (*where, "catch")) if "catch" in fields else []
        fallback = self.nodes(fields.pop("fallback"), (*where, "fallback")) if "fallback" in fields else None
        if "when" in fields:
            exits |= self._condition(fields, where)
        kinds = [key for key in fields if key in KINDS]
        others = [key for key in ("activity", "kind", "spec") if key in fields]
        for kind in kinds:
            value, inner = fields.pop(kind), (*where, kind)
            if other := next((key for key in (*others, kinds[0]) if key != kind), None):
                word = kind if kind in item else "when"
                self._tell(inner, f"step {item.get('id')}: {word} and {other} do not go together; remove one of them")
                continue
            fields["kind"] = kind
            if kind == "choice" and isinstance(value, list):
                fields["spec"], more = self._cases(value, inner)
                exits |= more
            elif is_body(kind, value):
                body = self.nodes(value, inner)
            else:
                fields["spec"] = spec_of(kind, value)
        return step_node(fields, body=body, exits=exits, catch=handlers, fallback=fallback, where=where)

    def _condition(self, fields: dict[str, Any], where: Where) -> dict[str, tuple[Node, ...]]:
        """The branches of if and else; the step becomes a choice."""
        condition = fields.pop("when")
        exits = {}
        for key, name in (("then", THEN), ("otherwise", OTHERWISE)):
            if key in fields:
                exits[name] = self.nodes(fields.pop(key), (*where, key))
        if not exits:
            self._tell((*where, "when"), f"step {fields.get('id')}: when has no then; add it, or otherwise")
        fields["choice"] = cases_of([(THEN, condition)])
        return exits

    def _cases(self, items: list[Any], where: Where) -> tuple[dict[str, Any], dict[str, tuple[Node, ...]]]:
        """A choice's spec and branches, from a list of `{when, steps, exit}` that may end by a `{default}`."""
        cases: list[tuple[str, Any]] = []
        exits: dict[str, tuple[Node, ...]] = {}
        for number, item in enumerate(items, 1):
            inner = (*where, number - 1)
            if isinstance(item, dict) and set(item) == {OTHERWISE}:
                exits[OTHERWISE] = self.nodes(item[OTHERWISE], (*inner, OTHERWISE))
                if number < len(items):
                    self._tell(inner, "cases behind the default are never asked; move it to the end")
                continue
            if not isinstance(item, dict) or "when" not in item or not set(item) <= {"exit", "when", "steps"}:
                self._tell(inner, "a case has when, steps and perhaps an exit, or it is just default; write that")
                continue
            name = item.get("exit", f"case_{number}")
            if not isinstance(name, str) or name in dict(cases):
                self._tell(inner, f"exit {name} stands twice or is no text; give each case another")
                continue
            cases.append((name, item["when"]))
            if "steps" in item:
                exits[name] = self.nodes(item["steps"], (*inner, "steps"))
        return cases_of(cases), exits

    def _handlers(self, value: Any, where: Where) -> list[Any]:
        found: list[Any] = []
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(item, dict):
                found.append(item)
                continue
            fields = dict(item)
            if "errors" in fields:
                fields["errors"] = listed(fields["errors"])
            inner = (*where, index, "steps")
            nodes = self.nodes(fields.pop("steps"), inner) if "steps" in fields else None
            found.append(Handler(fields=fields, nodes=nodes))
        return found

    def _exits(self, value: Any, where: Where) -> dict[str, tuple[Node, ...]]:
        if not isinstance(value, dict):
            self._tell(where, "exits takes a mapping from an exit to the steps behind it; write that")
            return {}
        return {name: self.nodes(items, (*where, name)) for name, items in value.items()}

    def _tell(self, where: Where, problem: str) -> None:
        self.problems.append(self.document.locate(where) + problem)
