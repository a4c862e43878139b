"""The steps of one level of a definition as a graph: the workflow's own, or a loop's, a block's, a transition's.

Everything here is worked out once for the life of the process and holds for every iteration. Paths are local ids.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.compiler.edges import Edge, verdict
from orchestrator.expressions import Template, compile_value
from orchestrator.kinds.kind import Kind
from orchestrator.kinds.kinds import ACTIVITY, ENGINE_KINDS, TASK
from orchestrator.model.definition import Step
from orchestrator.model.exits import ENDED, FAILED, SKIPPED, UNMET
from orchestrator.model.state import StepStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """What a step's end brings about, up to where something else must decide."""

    #: Rows to insert, their paths local.
    rows: tuple[dict[str, Any], ...]
    #: Joins to be decided after the commit.
    joins: tuple[str, ...]
    #: Whether the step, or one that is skipped with it, is the last of its branch.
    ends: bool


class Body:
    """A graph of steps."""

    def __init__(self, steps: Sequence[Step], queue: Callable[[Step], str], fuses: bool) -> None:
        self._queue, self._fuses = queue, fuses
        self._followings: dict[tuple[str, str | None], Following] = {}
        self._templates: dict[str, Template] = {}
        self._kinds: dict[str, Kind] = {}
        self.steps: dict[str, Step] = {step.id: step for step in steps}
        self.edges: dict[str, tuple[Edge, ...]] = {
            step.id: tuple(Edge.of(written) for written in step.after) for step in steps
        }
        self.parents: dict[str, tuple[str, ...]] = {
            path: tuple(dict.fromkeys(edge.parent for edge in found)) for path, found in self.edges.items()
        }
        children: dict[str, list[str]] = defaultdict(list)
        for path, parents in self.parents.items():
            for parent in parents:
                children[parent].append(path)
        self.children: dict[str, tuple[str, ...]] = {path: tuple(children[path]) for path in self.steps}
        self.roots = tuple(path for path, parents in self.parents.items() if not parents)
        self.ends = tuple(path for path, found in self.children.items() if not found)
        #: path -> the step that the same segment goes on with; absent where a segment ends.
        self.fused: dict[str, str] = {}
        for path in self.steps:
            following = self.following(path)
            if following and self._may_fuse(path, following):
                self.fused[path] = following

    def following(self, path: str) -> str | None:
        """The only step after `path`, if success leads there and it waits for nothing else."""
        found = self.children[path]
        if len(found) != 1 or len(self.parents[found[0]]) != 1 or self.exits(path):
            return None
        return found[0] if verdict(self.steps[found[0]].join, self.edges[found[0]], None) == "ready" else None

    def exits(self, path: str) -> tuple[str, ...]:
        """By which exits a step's kind may succeed, beside the ordinary one."""
        return () if self.steps[path].kind == ACTIVITY else self.kind(path).exits

    def queue(self, path: str) -> str:
        """The queue of a step."""
        return self._queue(self.steps[path])

    def fuses(self, path: str) -> bool:
        """Whether a step may share a Celery task with its neighbours."""
        step = self.steps[path]
        if step.kind == TASK:
            return False
        return self._fuses if step.fuse is None else step.fuse

    def kind(self, path: str) -> Kind:
        """The kind of a step that is no activity, made ready for use."""
        found = self._kinds.get(path)
        if found is None:
            step = self.steps[path]
            found = self._kinds[path] = ENGINE_KINDS[step.kind](step)
        return found

    def input(self, path: str) -> Template:
        """The compiled parameters of a step."""
        found = self._templates.get(path)
        if found is None:
            found = self._templates[path] = compile_value(self.steps[path].input)
        return found

    @cached_property
    def output(self) -> Template:
        """The last step's output, or every last step's by id."""
        outputs = {path: f'{{{{ steps["{path}"].output }}}}' for path in self.ends}
        return compile_value(outputs[self.ends[0]] if len(outputs) == 1 else outputs)

    @cached_property
    def tolerated(self) -> frozenset[str]:
        """Steps that lead only to joins which do without some of their parents: these bear the failures."""
        return frozenset(self._leading_only_to({path for path, step in self.steps.items() if step.join != "all"}))

    def losers(self, join: str) -> tuple[str, ...]:
        """Steps that lead only to this join; those still open have lost once it has what it needs."""
        return self._losers.get(join, ())

    def joins_lost_by(self, path: str) -> Sequence[str]:
        """Joins that a step leads only to, one of them: it has lost once that is decided."""
        return self._races.get(path, ())

    @cached_property
    def _losers(self) -> dict[str, tuple[str, ...]]:
        numbered = [path for path, step in self.steps.items() if step.join == "any" or isinstance(step.join, int)]
        return {join: tuple(self._leading_only_to({join})) for join in numbered}

    @cached_property
    def _races(self) -> dict[str, list[str]]:
        """Step -> joins with a number that it leads only to: once one is decided, it has lost."""
        races: dict[str, list[str]] = defaultdict(list)
        for join, losers in self._losers.items():
            for path in losers:
                races[path].append(join)
        return races

    def _leading_only_to(self, targets: set[str]) -> Iterator[str]:
        # Of a step's children, those that are targets or lead to them: counted, as a step may have thousands.
        counts: dict[str, int] = defaultdict(int)
        waiting = deque(targets)
        while waiting:
            for path in self.parents[waiting.popleft()]:
                counts[path] += 1
                if counts[path] == len(self.children[path]):
                    yield path
                    if path not in targets:
                        waiting.append(path)

    def follow(self, path: str, exit_by: str | None) -> Following:
        """What follows when a step ends by an exit: also whatever is skipped with certainty, and what that brings."""
        found = self._followings.get((path, exit_by))
        if found is None:
            found = self._followings[path, exit_by] = self._follow(path, exit_by)
        return found

    def _follow(self, path: str, exit_by: str | None) -> Following:
        rows: dict[str, dict[str, Any]] = {}
        joins: dict[str, None] = {}
        ends = not self.children[path]
        waiting = deque([(path, exit_by)])
        while waiting:
            at, by = waiting.popleft()
            for child in self.children[at]:
                if len(self.parents[child]) > 1:
                    rows[child] = self.row(child)
                    joins[child] = None
                    continue
                chosen = by in self.exits(at)
                decided = verdict(self.steps[child].join, self.edges[child], by, chosen=chosen)
                rows[child] = self.row(child, decided)
                if decided in {"skipped", "dead"}:
                    ends = ends or not self.children[child]
                    waiting.append((child, FAILED if decided == "dead" else SKIPPED))
        return Following(rows=tuple(rows.values()), joins=tuple(joins), ends=ends)

    def row(self, path: str, decided: str = "ready") -> dict[str, Any]:
        """The row of a step: blocked if it has several parents, else as decided."""
        row: dict[str, Any] = {"path": path, "queue": self.queue(path), "status": StepStatus.READY}
        if path in self._races:
            row["unless"] = self._races[path]
        if len(self.parents[path]) > 1:
            row |= {"status": StepStatus.BLOCKED, "parents": self.parents[path]}
            if any(edge.exit for edge in self.edges[path]):
                row["edges"] = [[edge.parent, edge.exit] for edge in self.edges[path]]
            rule = self.steps[path].join
            need = {"all": None, "settled": 0, "any": 1}[rule] if isinstance(rule, str) else rule
            return row if need is None else row | {"need": need}
        if decided == "unmet":
            return row | {"exit": UNMET}
        if decided == "dead":
            return row | {"status": StepStatus.SKIPPED, "exit": FAILED}
        return row if decided == "ready" else row | {"status": StepStatus.SKIPPED}

    def first_rows(self) -> tuple[dict[str, Any], ...]:
        """The rows that the beginning of this body inserts."""
        return tuple(self.row(path) for path in self.roots)

    def rows_after(self, ends: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """The first rows, blocked until these steps of another body have ended, however they do."""
        blocked = {"status": StepStatus.BLOCKED, "parents": list(ends), "edges": [[end, ENDED] for end in ends]}
        return tuple(self.row(path) | blocked for path in self.roots)

    def _may_fuse(self, path: str, following: str) -> bool:
        return self.fuses(path) and self.fuses(following) and self.queue(path) == self.queue(following)
