"""What {{ }} values may refer to, fetched only as far as they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.compiler.graph import MACHINE, Graph
from orchestrator.errors import ExpressionError
from orchestrator.expressions import Template
from orchestrator.ledger import parks, results
from orchestrator.ledger.claims import Facts
from orchestrator.model.loop import Lanes

#: Calls a statement's function with a connection in front of the arguments given.
Call = Callable[..., Any]
#: Items of a loop that are fetched at once.
WINDOW = 64
#: Of a step that has no outcome, because nothing led to it.
_NONE: dict[str, Any] = {"status": None, "exit": None, "output": None, "error": None}


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """The execution's own values."""

    execution_id: str
    input: Any
    correlation_id: str | None
    labels: Mapping[str, str]


def about(execution_id: str, facts: Facts | None) -> About:
    """The execution's own values as a claim brings them; none for who computes no values."""
    if facts is None:
        return About(execution_id=execution_id, input=None, correlation_id=None, labels={})
    return About(execution_id=execution_id, input=facts.input, correlation_id=facts.correlation_id, labels=facts.labels)


class Scope:
    """The values of one execution, as far as somebody has met them. Outcomes never change once recorded."""

    def __init__(self, call: Call, graph: Graph, about: About) -> None:
        self._call, self._graph, self._execution_id = call, graph, about.execution_id
        self._is_machine = graph.definition.machine is not None
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._gone_through: set[str] = set()
        self._loops: dict[str, tuple[Lanes, int, list[Any]]] = {}
        self._base: dict[str, Any] = {
            "input": about.input,
            "steps": self._outcomes,
            "execution": {
                "id": about.execution_id,
                "correlation_id": about.correlation_id,
                "labels": about.labels,
            },
        }

    def remember(self, path: str, output: Any, exit_by: str | None = None) -> None:
        """Keep the output of a step that has just been made; of a loop, only the present iteration's."""
        if "[" in path:
            prefix = path[: path.rfind(".") + 1]
            loop = prefix[: prefix.rfind("[") + 1]
            for known in [known for known in self._outcomes if known.startswith(loop) and not known.startswith(prefix)]:
                del self._outcomes[known]
        self._outcomes[path] = {"status": "succeeded", "exit": exit_by, "output": output, "error": None}

    def remember_loop(self, path: str) -> None:
        """Know that a loop has succeeded; its results are gathered when something refers to them."""
        self._gone_through.add(path)

    def parameters(self, path: str) -> Mapping[str, Any]:
        """The input of a step."""
        place = self._graph.place(path)
        found: Mapping[str, Any] = self.value(place.body.input(place.id), place.prefix)
        return found

    def undo_parameters(self, path: str, undone: str) -> Mapping[str, Any]:
        """The input of the compensation `path`, which may refer to what the undone step took and left."""
        template = self._graph.input(path)
        own: dict[str, Any] = {}
        if "undo" in template.roots:
            output, error = self._call(results.step_result, self._execution_id, undone)
            own["undo"] = {"input": self.parameters(undone), "output": output, "error": error}
        found: Mapping[str, Any] = self.value(template, self._graph.place(undone).prefix, own)
        return found

    def value(self, template: Template, prefix: str = "", own: Mapping[str, Any] | None = None) -> Any:
        """A template's value where paths have this prefix.

        Args:
            own: names beside the execution's.
        """
        if template.is_constant:
            return template.constant
        if not prefix and not own and not self._is_machine:
            self._fetch(set(template.steps))
            return template.resolve(self._base)
        values = dict(self._base)
        if template.steps:
            values["steps"] = self._visible(template.steps, prefix)
        if template.roots & {"item", "index"}:
            values |= self._iteration(prefix)
        values |= own or {}
        if "event" in template.roots and "event" not in values:
            values["event"] = self._event()
        return template.resolve(values)

    def has_all(self, template: Template) -> bool:
        """Whether everything that a template refers to, at the top, was seen to have ended."""
        return all(self._outcomes.get(path, _NONE) is not _NONE for path in template.steps)

    def result(self, container: str, index: int) -> Any:
        """What an iteration of a step's body gave."""
        return self.value(self._graph.body(container).output, f"{container}[{index}].")

    def lanes(self, container: str) -> Lanes:
        """How a loop's iterations are shared out."""
        return self._loop(container, None)[0]

    def _visible(self, ids: frozenset[str], prefix: str) -> dict[str, Any]:
        paths = {step_id: self._graph.visible(prefix, step_id) or step_id for step_id in ids}
        self._fetch(set(paths.values()))
        return {step_id: self._outcomes[path] for step_id, path in paths.items() if path in self._outcomes}

    def _fetch(self, paths: set[str]) -> None:
        """Bring in what is missing; a step of the definition that has not left anything counts as null."""
        # What has left nothing so far may have by now.
        missing = [path for path in paths if self._outcomes.get(path, _NONE) is _NONE or path.startswith(f"{MACHINE}/")]
        if not missing:
            return
        transitions = [path for path in missing if path.startswith(f"{MACHINE}/")]
        plain = [path for path in missing if path not in transitions]
        found: dict[str, dict[str, Any]] = {}
        if plain:
            found = self._call(results.outcomes, self._execution_id, plain)
        if transitions:
            ids = [path.removeprefix(f"{MACHINE}/") for path in transitions]
            last = self._call(results.of_transitions, self._execution_id, ids)
            # Asked each time: another transition may carry the same step out again.
            found |= {f"{MACHINE}/{step_id}": outcome for step_id, outcome in last.items()}
        for path in plain:
            known = found.get(path, _NONE)
            if path in self._gone_through or known["output"] is results.ELSEWHERE:
                found[path] = known | {"status": "succeeded", "output": self._gather(path)}
        for path in missing:
            self._outcomes[path] = found.get(path, _NONE)

    def _gather(self, loop: str) -> list[Any]:
        """The results of a loop's iterations in order: the output of the last step, or of all last steps by id."""
        body = self._graph.body(loop)
        gathered = []
        for index, ends in self._call(results.iterations, self._execution_id, loop, body.ends).items():
            outputs = dict.fromkeys(body.ends)
            for end, output in ends.items():
                outputs[end] = self._gather(f"{loop}[{index}].{end}") if output is results.ELSEWHERE else output
            gathered.append(outputs[body.ends[0]] if len(body.ends) == 1 else outputs)
        return gathered

    def _iteration(self, prefix: str) -> dict[str, Any]:
        """`item` and `index` of the loops around a prefix, the innermost first."""
        values: dict[str, Any] = {}
        for container, index in self._graph.enclosing(prefix):
            names = self._graph.kind(container).names
            if "index" in names:
                values.setdefault("index", index)
            if "item" in names and "item" not in values:
                values["item"] = self._item(container, index)
        return values

    def _item(self, container: str, index: int) -> Any:
        _, begin, items = self._loop(container, index)
        if index - begin >= len(items):
            raise ExpressionError(f"{container} has no item {index}")
        return items[index - begin]

    def _loop(self, container: str, index: int | None) -> tuple[Lanes, int, list[Any]]:
        known = self._loops.get(container)
        if known is not None and (index is None or known[1] <= index < known[1] + len(known[2])):
            return known
        begin = index or 0
        end = begin + WINDOW - 1 if index is not None else begin
        count, lanes, items = self._call(parks.loop, self._execution_id, container, begin, end)
        if len(self._loops) > WINDOW:
            self._loops.clear()
        found = self._loops[container] = (Lanes(count=count, lanes=lanes), begin, items)
        return found

    def _event(self) -> Any:
        """The event of the transition under way."""
        return self._call(parks.resume, self._execution_id, MACHINE).get("event")
