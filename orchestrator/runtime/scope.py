"""What {{ }} values may refer to, fetched only as far as they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.compiler.graph import Graph
from orchestrator.expressions import Template
from orchestrator.ledger import executions
from orchestrator.ledger.claims import Facts
from orchestrator.runtime.link import Link


class Scope:
    """The values of one execution, as far as a segment has met them. Outputs never change once recorded."""

    def __init__(self, link: Link, graph: Graph, execution_id: str, facts: Facts) -> None:
        self._link = link
        self._graph = graph
        self._execution_id = execution_id
        self._outputs: dict[str, dict[str, Any]] = {}
        self._base = {
            "input": facts.input,
            "steps": self._outputs,
            "execution": {"id": execution_id, "correlation_id": facts.correlation_id, "labels": facts.labels},
        }

    def remember(self, path: str, output: Any) -> None:
        """Keep the output of a step that this segment has made."""
        self._outputs[path] = {"output": output}

    def parameters(self, path: str) -> Mapping[str, Any]:
        """The input of a step."""
        found: Mapping[str, Any] = self._graph.input(path).resolve(self.values(self._graph.input(path)))
        return found

    def undo_parameters(self, path: str, undone: str) -> Mapping[str, Any]:
        """The input of the compensation `path`, which may refer to what the undone step took and left."""
        template = self._graph.input(path)
        values = dict(self.values(template))
        if "undo" in template.roots:
            output, error = self._link.call(executions.step_result, self._execution_id, undone)
            values["undo"] = {"input": self.parameters(undone), "output": output, "error": error}
        found: Mapping[str, Any] = template.resolve(values)
        return found

    def values(self, template: Template) -> Mapping[str, Any]:
        """The scope with everything that a template refers to; one round trip if something is missing."""
        missing = [path for path in template.steps if path not in self._outputs]
        if missing:
            found = self._link.call(executions.outputs, self._execution_id, missing)
            for path, output in found.items():
                self.remember(path, output)
        return self._base
