"""Random canonical definitions with their inputs. Smaller draws mean plainer workflows: hypothesis shrinks to those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from orchestrator.model.definition import Definition

#: A second queue, so that canvases change queues.
OTHER_QUEUE = "other"
#: Containers within containers.
DEPTH = 2
SOON = {"backoff": 0.02, "jitter": 0.0}

#: What a drawn percentage stands for: the first kind whose bound is above it.
KINDS = ((58, "activity"), (71, "choice"), (81, "each"), (86, "repeat"), (94, "block"), (98, "fail"), (100, "delay"))


@dataclass
class Sight:
    """What the steps of a body may refer to beside those before them."""

    #: Paths of {{ }} values that are numbers or null.
    numbers: list[str]
    #: Paths of any values.
    values: list[str]
    #: Paths of values that are lists.
    lists: list[str]
    depth: int = 0
    #: Whether failures that nobody bears may be drawn.
    fatal: bool = False


@dataclass
class Placed:
    """A step of a body while that is being drawn."""

    step: dict[str, Any]
    before: set[str]
    #: Exits that edges may name.
    exits: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A definition and the input that its executions are given."""

    definition: Definition
    input: dict[str, Any]


class Builder:
    """Draws the steps of one definition."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], budget: int) -> None:
        self._draw, self.left, self._count = draw, budget, 0

    def upto(self, most: int) -> int:
        """From 0 to `most`."""
        return int(self._draw(st.integers(0, most)))

    def chance(self, percent: int) -> bool:
        """The plainest is False."""
        return self.upto(99) >= 100 - percent

    def pick(self, items: list[Any]) -> Any:
        """The plainest is the first."""
        return items[self.upto(len(items) - 1)]

    # Bodies.

    def body(self, sight: Sight, most: int) -> list[dict[str, Any]]:
        """Steps side by side, in an order in which they might run."""
        placed: dict[str, Placed] = {}
        closed: set[str] = set()
        for _ in range(1 + self.upto(max(0, min(most, self.left) - 1))):
            self.left -= 1
            self._count += 1
            step_id = f"s{self._count}"
            edges, join = self._edges(placed, closed)
            parents = {edge.partition(":")[0] for edge in edges}
            before = parents | {early for parent in parents for early in placed[parent].before}
            step: dict[str, Any] = {"id": step_id, "after": edges}
            if join != "all":
                step["join"] = join
            placed[step_id] = Placed(step=step, before=before)
            self._fill(placed[step_id], self._seen(placed, before, sight))
        steps = [found.step for found in placed.values()]
        return steps[::-1] if self.chance(10) else steps

    def _seen(self, placed: dict[str, Placed], before: set[str], sight: Sight) -> Sight:
        numbers, values, lists = list(sight.numbers), list(sight.values), list(sight.lists)
        for step_id in sorted(before):
            kind = placed[step_id].step.get("kind", "activity")
            path = f"steps.{step_id}.output"
            values.append(path)
            if kind == "activity":
                numbers.append(path)
            if kind == "each" and not placed[step_id].step.get("on_error") and not placed[step_id].step.get("catch"):
                lists.append(path)
        return Sight(numbers=numbers, values=values, lists=lists, depth=sight.depth, fatal=sight.fatal)

    def _edges(self, placed: dict[str, Placed], closed: set[str]) -> tuple[list[str], Any]:
        """Edges to earlier steps, and the rule that joins them."""
        open_ = [step_id for step_id in placed if step_id not in closed]
        if not open_ or self.chance(12):
            return [], "all"
        sinks = [
            step_id
            for step_id in open_
            if not any(step_id == edge.partition(":")[0] for other in placed.values() for edge in other.step["after"])
        ]
        if len(sinks) > 1 and self.chance(30):
            return self._tolerant(placed, closed, sinks)
        if self.chance(35):
            parents = sorted({self.pick(open_) for _ in range(2 + self.upto(2))})
        else:
            parents = [open_[-1 - self.upto(min(2, len(open_) - 1))]]
        edges = list(dict.fromkeys(self._edge(placed[parent]) for parent in parents))
        if self.chance(8):
            return edges, self.pick(["settled", "any", len(parents)])
        return edges, "all"

    def _tolerant(self, placed: dict[str, Placed], closed: set[str], sinks: list[str]) -> tuple[list[str], Any]:
        """A join that does without some of its parents, which lead nowhere else: so they may fail."""
        parents = sorted({self.pick(sinks) for _ in range(2 + self.upto(2))})
        closed.update(parents)
        for parent in parents:
            step = placed[parent].step
            if "activity" in step and "catch" not in step and self.chance(40):
                step["input"] = {**step["input"], "fails": 99, "business": self.chance(50)}
                step.pop("on_error", None)
        rule = self.pick(["settled", "any", 1 + self.upto(len(parents) - 1)])
        return [self._edge(placed[parent]) for parent in parents], rule

    def _edge(self, parent: Placed) -> str:
        step_id: str = parent.step["id"]
        plain = parent.step.get("kind") != "choice" or self.chance(5)
        if parent.exits and not (plain and self.upto(99) < 50):
            return f"{step_id}:{self.pick(parent.exits)}"
        return step_id

    # Steps.

    def _fill(self, placed: Placed, sight: Sight) -> None:
        drawn = self.upto(99)
        kind = next(name for bound, name in KINDS if drawn < bound)
        holds = kind in {"each", "repeat", "block"}
        too_deep = sight.depth >= DEPTH or self.left < 1
        if (holds and too_deep) or (kind == "fail" and not sight.fatal):
            kind = "activity"
        if kind != "activity":
            placed.step["kind"] = kind
        getattr(self, f"_{kind}")(placed, sight)

    def _activity(self, placed: Placed, sight: Sight) -> None:
        step = placed.step
        step["activity"] = "mix"
        values = [f"{{{{ {self.pick(sight.values)} }}}}" for _ in range(self.upto(2))]
        step["input"] = {"values": values}
        drawn = self.upto(99)
        if drawn >= 88:
            self._fails(placed, sight)
        elif drawn >= 80:
            step["input"]["fails"] = 1 + self.upto(1)
            step["retry"] = {**SOON, "max_attempts": 3}
        if self.chance(12):
            step["queue"] = OTHER_QUEUE
        if self.chance(25):
            step["compensation"] = {
                "activity": "unmix",
                "input": {"values": ["{{ undo.input.values }}", "{{ undo.output }}"], "fails": self.upto(1)},
            }
            if self.chance(40):
                step["compensate_on"] = self.pick(["completed", "attempted"])

    def _fails(self, placed: Placed, sight: Sight) -> None:
        """For good, or so long that only patience helps."""
        step = placed.step
        step["input"] |= {"fails": 99, "business": self.chance(60)}
        ways = ["continue", "catch", "catch", "retry"] + (["none", "stop"] if sight.fatal else [])
        way = self.pick(ways)
        if way == "catch":
            self._catch(placed)
        elif way == "retry":
            step["input"] |= {"fails": 2, "business": False}
            step["retry"] = {**SOON, "max_attempts": 1}
            step["on_error"] = "retry"
        elif way != "none":
            step["on_error"] = way

    def _catch(self, placed: Placed) -> None:
        errors = self.pick([[], ["business"], ["TransientError", "TooManyIterations"]])
        placed.step["catch"] = [{"errors": errors, "exit": "error"}]
        placed.exits.append("error")
        if errors:
            placed.step["catch"].append({"exit": "other"})
            placed.exits.append("other")

    def _guard(self, placed: Placed, sight: Sight) -> bool:
        """How a container bears failures of its body; whether it does."""
        way = self.pick(["none", "catch", "continue", "catch"])
        if way == "catch":
            self._catch(placed)
        elif way == "continue":
            placed.step["on_error"] = "continue"
        elif sight.fatal and self.chance(10):
            placed.step["on_error"] = "stop"
        return bool(way != "none")

    def _choice(self, placed: Placed, sight: Sight) -> None:
        cases = [{"exit": name, "when": self._condition(sight)} for name in ("x", "y")[: 1 + self.upto(1)]]
        spec: dict[str, Any] = {"cases": cases}
        if self.chance(6):
            cases[0]["when"] = "{{ input.missing > 1 }}"
            if sight.fatal and self.chance(30):
                pass
            elif self.chance(50):
                spec["default_on_error"] = True
            else:
                self._catch(placed)
        placed.step["spec"] = spec
        placed.exits += [*(case["exit"] for case in cases), "default"]

    def _condition(self, sight: Sight) -> str:
        modulus = 2 + self.upto(1)
        return f"{{{{ coalesce({self.pick(sight.numbers)}, 0) % {modulus} == {self.upto(modulus - 1)} }}}}"

    def _each(self, placed: Placed, sight: Sight) -> None:
        literal = [self.upto(9) for _ in range(self.upto(4))]
        items: Any = self.pick([literal, "{{ input.items }}", "{{ input.rows }}", None])
        if items is None:
            items = f"{{{{ {self.pick(sight.lists)} }}}}"
        spec = {"items": items, "concurrency": 1 + self.upto(3)}
        bears = self._guard(placed, sight)
        if (bears or sight.fatal) and self.chance(10):
            spec["max_iterations"] = self.upto(3)
        placed.step["spec"] = spec
        lists = [*sight.lists, "item"] if items == "{{ input.rows }}" else list(sight.lists)
        values = [*sight.values, "item", "index"]
        inner = Sight(numbers=[*sight.numbers, "index"], values=values, lists=lists, depth=sight.depth + 1)
        inner.fatal = sight.fatal or bears
        placed.step["steps"] = self.body(inner, 4)

    def _repeat(self, placed: Placed, sight: Sight) -> None:
        bears = self._guard(placed, sight)
        values = [*sight.values, "index"]
        inner = Sight(numbers=[*sight.numbers, "index"], values=values, lists=list(sight.lists), depth=sight.depth + 1)
        inner.fatal = sight.fatal or bears
        steps = self.body(inner, 3)
        most = 3 if not inner.fatal else 1 + self.upto(2)
        bound = self.upto(most if inner.fatal else most - 1)
        spec: dict[str, Any] = {"max_iterations": most}
        activities = [step["id"] for step in steps if "activity" in step]
        if self.chance(30):
            spec["while"] = f"{{{{ index < {bound} }}}}"
        elif inner.fatal and activities and self.chance(50):
            spec["until"] = f"{{{{ coalesce(steps.{activities[-1]}.output, 0) % 3 == {self.upto(2)} }}}}"
        else:
            spec["until"] = f"{{{{ index >= {bound} }}}}"
        if self.chance(10):
            spec["pause"] = 0.05
        placed.step |= {"spec": spec, "steps": steps}

    def _block(self, placed: Placed, sight: Sight) -> None:
        bears = self._guard(placed, sight)
        inner = Sight(
            numbers=list(sight.numbers), values=list(sight.values), lists=list(sight.lists), depth=sight.depth + 1
        )
        inner.fatal = sight.fatal or bears
        placed.step["steps"] = self.body(inner, 5)

    def _fail(self, placed: Placed, sight: Sight) -> None:
        name, category = self.pick([("Refused", "business"), ("TransientError", "transient")])
        placed.step["spec"] = {"message": "as {{ input.a }} told", "name": name, "category": category}
        if self.chance(50):
            self._catch(placed)

    def _delay(self, placed: Placed, sight: Sight) -> None:
        placed.step["spec"] = {"for": 0.05}


@st.composite
def examples(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Example:
    """A definition of up to 40 steps, its loops' counted once, and an input."""
    builder = Builder(draw, draw(st.integers(1, 40)))
    value = {
        "a": builder.upto(9),
        "b": builder.upto(9),
        "items": [builder.upto(9) for _ in range(builder.upto(4))],
        "rows": [[builder.upto(9) for _ in range(builder.upto(2))] for _ in range(builder.upto(3))],
    }
    sight = Sight(numbers=["input.a", "input.b"], values=["input.a", "input.b"], lists=["input.items"])
    sight.fatal = builder.chance(35)
    fields: dict[str, Any] = {"fuse": not builder.chance(15), "retry": {**SOON, "max_attempts": 2}}
    steps = builder.body(sight, 40)
    if builder.chance(30):
        ids = [step["id"] for step in steps]
        fields["output"] = {found: f"{{{{ steps.{found}.output }}}}" for found in {builder.pick(ids) for _ in range(3)}}
    return Example(definition=Definition.model_validate({"name": "random", "steps": steps, **fields}), input=value)
