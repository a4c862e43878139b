"""A reference interpreter: what must have become of an execution, told from its definition and input alone.

Where the documentation leaves something open, and only there, it looks at what did happen, checks that it is one of the
things that may, and goes on from it: what lost a race to a join was cut short or not, and what stood beside a failure
that nobody bears had begun or not. So of a definition without either everything is predicted exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.model.definition import Definition, Step
from random_workflows import rules
from random_workflows.mixing import mixed
from random_workflows.observation import Row
from random_workflows.rules import FAILED, PENDING, SKIPPED
from random_workflows.values import UNKNOWN, Incomputable, computed, holds


class Unpredictable(Exception):
    """The reference does not know what the documentation makes of this."""


@dataclass(kw_only=True)
class Expected:
    """What must have become of a step."""

    #: succeeded, failed, skipped; never: nothing can lead here.
    status: str
    #: How edges see it.
    exit: str | None = None
    output: Any = None
    #: The activity's parameter `values`.
    values: Any = UNKNOWN
    #: Whether it may as well have been cut short, or not have begun.
    loose: bool = False
    #: Whether an attempt of it fails.
    stumbles: bool = False


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A failure for good that was not borne where it happened."""

    path: str
    category: str
    name: str
    #: Whether the execution then undoes what it did.
    rollback: bool


@dataclass(kw_only=True)
class Scope:
    """A body, or an iteration of one."""

    prefix: str
    steps: Sequence[Step]
    around: Scope | None = None
    #: The step of the scope around whose body it is.
    holder: str = ""
    #: `item` and `index`.
    names: Mapping[str, Any] = field(default_factory=dict)
    ends: dict[str, Expected] = field(default_factory=dict)
    #: Steps that lost a race, or may have.
    racy: set[str] = field(default_factory=set)

    @cached_property
    def before(self) -> Mapping[str, frozenset[str]]:
        """Step -> those that have surely ended when it starts."""
        return rules.surely_before(self.steps)


class Reference:
    """Interprets one execution.

    Args:
        rows: what did happen.
    """

    def __init__(self, definition: Definition, value: Any, rows: Mapping[str, Row]) -> None:
        self._definition, self._input, self._rows = definition, value, rows
        self.expected: dict[str, Expected] = {}
        #: Of each of these lists one failure at least must have happened, unless all were cut short by another.
        self._must: list[list[Fault]] = []
        #: What may have failed the execution.
        self.faults: list[Fault] = []
        #: Whether everything was predicted.
        self.exact = True
        scope = Scope(prefix="", steps=definition.steps)
        self.faults = self._body(scope)
        self.output = UNKNOWN if self.faults else self._output(scope)

    def problems(self) -> list[str]:
        """What must have failed and did not."""
        return [
            f"none of {[fault.path for fault in faults]} has failed"
            for faults in [*self._must, self.faults]
            if faults
            and not any(self._happened(fault) for fault in faults)
            and (faults is self.faults or not all(self.expected[fault.path].loose for fault in faults))
        ]

    def _output(self, scope: Scope) -> Any:
        if self._definition.output is not None:
            return computed(self._definition.output, lambda path: self._look(scope, path, None))
        return self._result(scope)

    # Values.

    def _look(self, scope: Scope, path: str, by: str | None) -> Any:
        """The value that a step of the scope sees at a path; None sees what is there when all have ended."""
        root, _, rest = path.partition(".")
        if root == "input":
            return self._input[rest]
        at: Scope | None = scope
        while at is not None:
            if root in {"item", "index"} and root in at.names:
                return at.names[root]
            if root == "steps" and (name := rest.partition(".")[0]) in {step.id for step in at.steps}:
                return UNKNOWN if by is not None and name not in at.before[by] else self._left(at, name)
            by, at = at.holder, at.around
        raise AssertionError(f"nothing is at {path}")

    def _left(self, scope: Scope, name: str) -> Any:
        """The output of a step, null if it has none."""
        if name in scope.racy:
            return UNKNOWN
        found = scope.ends.get(name)
        return None if found is None else found.output

    def _result(self, scope: Scope) -> Any:
        """What a body gives: its last step's output, or all last steps' by id."""
        children = rules.children_of(scope.steps)
        outputs = {step.id: self._left(scope, step.id) for step in scope.steps if not children[step.id]}
        if any(output is UNKNOWN for output in outputs.values()):
            return UNKNOWN
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    # Bodies.

    def _body(self, scope: Scope) -> list[Fault]:
        """Interpret a body; the failures that break it off."""
        faults: list[Fault] = []
        borne = rules.tolerated(scope.steps)
        for step in rules.in_order(scope.steps):
            path = scope.prefix + step.id
            ends = {name: rules.End(end.exit, end.status == "succeeded") for name, end in scope.ends.items()}
            fate = rules.fate(step, ends)
            if fate is None:
                end = Expected(status="never", exit=PENDING)
            elif fate in {"skipped", "dead"}:
                end = Expected(status="skipped", exit=FAILED if fate == "dead" else SKIPPED)
            else:
                for loser in rules.losers(step, scope.steps):
                    self._loosen(scope.prefix + loser)
                    scope.racy.add(loser)
                if fate == "unmet":
                    end, fault = self._fails(step, path, ("business", "JoinUnmet"), step.id in borne)
                    own = [] if fault is None else [fault]
                else:
                    end, own = self._carried_out(scope, step, path, step.id in borne)
                faults += own
            self.expected[path] = scope.ends[step.id] = end
        # What lost a race before it failed has broken nothing off.
        racy = tuple(scope.prefix + name for name in scope.racy)
        lost = [fault for fault in faults if _within(fault.path, racy) and not self._happened(fault)]
        faults = [fault for fault in faults if fault not in lost]
        if faults:
            self._must.append(faults)
            # Whatever stands beside a failure that breaks its body off may have been cut short.
            for step in scope.steps:
                self._loosen(scope.prefix + step.id, but=faults)
        return faults

    def _happened(self, fault: Fault) -> bool:
        row = self._rows.get(fault.path)
        return row is not None and row.status == "failed"

    def _loosen(self, path: str, but: Sequence[Fault] = ()) -> None:
        """A step, and what is in its body, may have been cut short; a failure that is alone must have happened."""
        self.exact = False
        spared = but[0].path if len(but) == 1 else None
        for at, end in self.expected.items():
            if at != spared and (at == path or at.startswith(f"{path}[")):
                end.loose = True

    # Steps.

    def _carried_out(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, list[Fault]]:
        try:
            if step.kind in {"each", "repeat", "block"}:
                return getattr(self, f"_{step.kind}")(scope, step, path, borne)  # type: ignore[no-any-return]
            end, fault = getattr(self, f"_{step.kind}")(scope, step, path, borne)
            return end, [] if fault is None else [fault]
        except Incomputable:
            end, fault = self._fails(step, path, ("system", "ExpressionError"), borne)
            return end, [] if fault is None else [fault]

    def _fails(
        self, step: Step, path: str, error: tuple[str, str], borne: bool, values: Any = UNKNOWN
    ) -> tuple[Expected, Fault | None]:
        """What becomes of a step that has failed for good with an error of this category and name."""
        category, name = error
        exit_by = rules.exit_of_failure(step, category, name, is_tolerated=borne)
        end = Expected(status="failed", exit=PENDING if exit_by is None else exit_by, stumbles=True, values=values)
        if exit_by is not None:
            return end, None
        return end, Fault(path=path, category=category, name=name, rollback=step.on_error != "stop")

    def _activity(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, Fault | None]:
        values = computed(step.input["values"], lambda at: self._look(scope, at, step.id))
        fails, business = step.input.get("fails", 0), step.input.get("business", False)
        policy = step.retry or self._definition.retry
        assert policy is not None
        if fails and (business or not (fails < policy.max_attempts or step.on_error == "retry")):
            error = ("business", "BusinessError") if business else ("transient", "TransientError")
            return self._fails(step, path, error, borne, values)
        output = mixed(values) if values is not UNKNOWN else self._seen(path)
        return Expected(status="succeeded", output=output, values=values, stumbles=fails > 0), None

    def _seen(self, path: str) -> Any:
        """What a step gave that had to do with what lost a race."""
        self.exact = False
        row = self._rows.get(path)
        return None if row is None else row.output

    def _choice(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, Fault | None]:
        taken = "default"
        try:
            for case in step.spec["cases"]:
                found = holds(case["when"], lambda at: self._look(scope, at, step.id))
                if found is UNKNOWN:
                    taken = self._seen(path) or "default"
                    break
                if found:
                    taken = case["exit"]
                    break
        except Incomputable:
            if not step.spec.get("default_on_error"):
                raise
        return Expected(status="succeeded", exit=taken, output=taken), None

    def _fail(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, Fault | None]:
        return self._fails(step, path, (step.spec["category"], step.spec["name"]), borne)

    def _delay(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, Fault | None]:
        return Expected(status="succeeded"), None

    # Steps that hold others.

    def _block(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, list[Fault]]:
        inner = Scope(prefix=f"{path}[0].", steps=step.steps, around=scope, holder=step.id)
        faults = self._body(inner)
        return self._broken(step, path, borne, faults) or (
            Expected(status="succeeded", output=self._result(inner)),
            [],
        )

    def _each(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, list[Fault]]:
        items = computed(step.spec["items"], lambda at: self._look(scope, at, step.id))
        if items is UNKNOWN:
            raise Unpredictable(f"items of {path}")
        if not isinstance(items, list):
            return self._alone(self._fails(step, path, ("business", "NoList"), borne))
        if len(items) > step.spec.get("max_iterations", 10_000):
            return self._alone(self._fails(step, path, ("business", "TooManyIterations"), borne))
        results: list[Any] = []
        faults: list[Fault] = []
        for index, item in enumerate(items):
            names = {"item": item, "index": index}
            inner = Scope(prefix=f"{path}[{index}].", steps=step.steps, around=scope, holder=step.id, names=names)
            if faults and step.spec["concurrency"] == 1:
                break
            faults += self._body(inner)
            results.append(self._result(inner))
        if faults:
            self._loosen_below(path)
        output = UNKNOWN if any(result is UNKNOWN for result in results) else results
        return self._broken(step, path, borne, faults) or (Expected(status="succeeded", output=output), [])

    def _repeat(self, scope: Scope, step: Step, path: str, borne: bool) -> tuple[Expected, list[Fault]]:
        done, result = 0, None
        inner: Scope | None = None
        while True:
            if "while" in step.spec:
                goes_on = holds(step.spec["while"], {"index": done}.__getitem__)
            else:
                goes_on = inner is None or not self._until(inner, step)
            if not goes_on:
                return Expected(status="succeeded", output=result), []
            if done >= step.spec["max_iterations"]:
                return self._alone(self._fails(step, path, ("business", "TooManyIterations"), borne))
            inner = Scope(
                prefix=f"{path}[{done}].", steps=step.steps, around=scope, holder=step.id, names={"index": done}
            )
            faults = self._body(inner)
            if broken := self._broken(step, path, borne, faults):
                return broken
            done, result = done + 1, self._result(inner)

    def _until(self, inner: Scope, step: Step) -> bool:
        found = holds(step.spec["until"], lambda at: self._look(inner, at, None))
        if found is UNKNOWN:
            raise Unpredictable(f"until of {inner.prefix}")
        return bool(found)

    def _alone(self, failed: tuple[Expected, Fault | None]) -> tuple[Expected, list[Fault]]:
        end, fault = failed
        return end, [] if fault is None else [fault]

    def _loosen_below(self, path: str) -> None:
        for at, end in self.expected.items():
            if at.startswith(f"{path}["):
                end.loose = True

    def _broken(
        self, step: Step, path: str, borne: bool, faults: Sequence[Fault]
    ) -> tuple[Expected, list[Fault]] | None:
        """What becomes of a step whose body was broken off; None when it was not."""
        if not faults:
            return None
        exits = {
            fault.path: rules.exit_of_failure(step, fault.category, fault.name, is_tolerated=borne) for fault in faults
        }
        happened = [fault for fault in faults if self._happened(fault)]
        outwards = [fault for fault in happened or faults if exits[fault.path] is None]
        if outwards:
            stops = step.on_error == "stop"
            return Expected(status="never", exit=PENDING, loose=True), [
                Fault(
                    path=fault.path,
                    category=fault.category,
                    name=fault.name,
                    rollback=fault.rollback and not stops,
                )
                for fault in outwards
            ]
        # The first failure counts, and which was the first is not for us to say.
        row = self._rows.get(path)
        first = (row.error or {}).get("step") if row is not None else None
        if first not in exits:
            first = (happened or faults)[0].path
        return Expected(status="failed", exit=exits[first], stumbles=True), []


def _within(path: str, steps: Sequence[str]) -> bool:
    return any(path == step or path.startswith(f"{step}[") for step in steps)
