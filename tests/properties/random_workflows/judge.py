"""Holds what an execution has left behind against the reference."""

from __future__ import annotations

from typing import Any

from orchestrator.model.definition import Definition, Step
from random_workflows import trace
from random_workflows.mixing import mixed
from random_workflows.observation import Observation, Row
from random_workflows.places import is_place, prefix_of, step_at
from random_workflows.reference import Expected, Reference
from random_workflows.rules import parent_of
from random_workflows.values import UNKNOWN


class Verdict:
    """What is wrong with one execution.

    Args:
        value: the execution's input.
    """

    def __init__(self, definition: Definition, value: Any, seen: Observation) -> None:
        self._definition, self._seen = definition, seen
        strange = [path for path in seen.rows if not is_place(definition, path)]
        self._reference = Reference(definition, value, seen.rows)
        #: In words; empty when all is well.
        self.problems = [f"the definition has no step at {path}" for path in strange] or [
            *self._reference.problems(),
            *self._rows(),
            *self._end(),
            *self._undone(),
            *trace.problems(definition, seen),
        ]

    @property
    def exact(self) -> bool:
        """Whether the reference had to look at nothing."""
        return self._reference.exact

    def result(self) -> Any:
        """What every execution of the same definition must have in common, if it is exact."""
        rows = {path: (row.status, row.exit, row.output) for path, row in self._seen.rows.items()}
        return self._seen.status, self._seen.output, rows

    def _rows(self) -> list[str]:
        found = []
        for path, row in self._seen.rows.items():
            if path not in self._reference.expected and row.status != "cancelled":
                found.append(f"{path} is {row.status}, and nothing leads there")
        for path, expected in self._reference.expected.items():
            problem = self._row(path, expected, self._seen.rows.get(path))
            if problem:
                found.append(f"{path}: {problem}")
        return found

    def _row(self, path: str, expected: Expected, row: Row | None) -> str | None:
        if row is None or row.status == "cancelled":
            may_lack = expected.loose or expected.status == "never"
            return None if may_lack else f"must be {expected.status}, and is {row.status if row else 'not there'}"
        if expected.loose and ((row.status == "failed" and expected.stumbles) or self._is_behind_cancelled(path)):
            return None
        if row.status != expected.status:
            return f"must be {expected.status}, and is {row.status}"
        if row.status == "succeeded":
            # What a loop gives is gathered where it is referred to.
            known = expected.output is not UNKNOWN and step_at(self._definition, path).kind != "each"
            return self._unlike("output", expected.output, row.output) if known else None
        if expected.exit == "pending":
            return None
        # A row that was skipped says only of a failure why.
        is_plain = row.status == "skipped" and expected.exit != "failed"
        return self._unlike("exit", None if is_plain else expected.exit, row.exit)

    def _is_behind_cancelled(self, path: str) -> bool:
        """Whether something before a step that lost a race was cut short, so that it may have ended otherwise."""
        parents = {prefix_of(path) + parent_of(edge) for edge in step_at(self._definition, path).after}
        rows = {parent: self._seen.rows[parent] for parent in parents if parent in self._seen.rows}
        return any(row.status == "cancelled" or self._is_behind_cancelled(parent) for parent, row in rows.items())

    def _unlike(self, what: str, must: Any, found: Any) -> str | None:
        return None if must == found else f"{what} must be {must!r}, and is {found!r}"

    def _end(self) -> list[str]:
        faults, seen = {fault.path: fault for fault in self._reference.faults}, self._seen
        if not faults:
            if seen.status != "succeeded":
                return [f"the execution must have succeeded, and is {seen.status}: {seen.error}"]
            must = self._reference.output
            problem = None if must is UNKNOWN else self._unlike("output", must, seen.output)
            return [f"the execution's {problem}"] if problem else []
        if seen.status not in {"failed", "compensated"}:
            return [f"the execution must have failed by one of {list(faults)}, and is {seen.status}"]
        first = (seen.error or {}).get("step")
        if first not in faults:
            return [f"the execution failed by {first}, which must be one of {list(faults)}"]
        left = any(not self._is_in_failed_part(path) for path in self._to_undo())
        must_status = "compensated" if faults[first].rollback and left else "failed"
        problem = self._unlike("status", must_status, seen.status)
        return [f"the execution's {problem}"] if problem else []

    def _undone(self) -> list[str]:
        """Compensations: of exactly those steps that need one, with the right data."""
        seen = self._seen
        whole = seen.status == "compensated"
        must = {f"undo:{path}" for path in self._to_undo() if whole or self._is_in_failed_part(path)}
        if must != seen.undone.keys():
            return [f"compensations must be {sorted(must)}, and are {sorted(seen.undone)}"]
        found = []
        for path, row in seen.undone.items():
            values = self._reference.expected[path.removeprefix("undo:")].values
            if row.status != "succeeded":
                found.append(f"{path} is {row.status}")
            elif values is not UNKNOWN:
                done = seen.rows[path.removeprefix("undo:")]
                problem = self._unlike("output", mixed([values, done.output]), row.output)
                found += [f"{path}: {problem}"] if problem else []
        return found

    def _is_in_failed_part(self, path: str) -> bool:
        """Whether a step around this one has failed and the workflow went on: then its part was undone."""
        holders = (self._seen.rows[path[:at]] for at, letter in enumerate(path) if letter == "[")
        return any(row.status == "failed" and row.exit is not None for row in holders)

    def _to_undo(self) -> list[str]:
        return [path for path, row in self._seen.rows.items() if _needs_undo(step_at(self._definition, path), row)]


def _needs_undo(step: Step, row: Row) -> bool:
    if step.compensation is None or row.attempt == 0:
        return False
    return row.status == "succeeded" or step.compensate_on != "completed"
