"""A definition's graph, worked out once and kept for the life of the process: definitions never change."""

from __future__ import annotations

import json
from functools import cached_property

from orchestrator.expressions import Template, compile_value
from orchestrator.model.definition import Compensation, Definition, Step
from orchestrator.model.identity import undone_path
from orchestrator.model.policy import RetryPolicy
from orchestrator.model.state import StepStatus

_DEFAULT_RETRY = RetryPolicy()
#: Segments remembered per definition.
SEGMENT_CACHE = 1_000


class Graph:
    """Who follows whom, on which queue, and which steps may share a Celery task."""

    def __init__(self, definition: Definition, default_queue: str) -> None:
        self.definition = definition
        self.name, self.version = definition.name, definition.version
        self._default_queue = definition.queue or default_queue
        self.steps: dict[str, Step] = {step.id: step for step in definition.steps}
        self.parents: dict[str, tuple[str, ...]] = {step.id: step.after for step in definition.steps}
        children: dict[str, list[str]] = {step.id: [] for step in definition.steps}
        for step in definition.steps:
            for parent in step.after:
                children[parent].append(step.id)
        self.children: dict[str, tuple[str, ...]] = {path: tuple(found) for path, found in children.items()}
        self.roots = tuple(step.id for step in definition.steps if not step.after)
        self.ends = tuple(path for path, found in self.children.items() if not found)
        #: path -> the step that the same segment goes on with; absent where a segment ends.
        self.fused: dict[str, str] = {}
        for path in self.steps:
            following = self.following(path)
            if following and self._may_fuse(path, following):
                self.fused[path] = following
        self._templates: dict[str, Template] = {}
        self._successors: dict[str, str] = {}
        self._segments: dict[str, tuple[str, ...]] = {}

    def following(self, path: str) -> str | None:
        """The only step after `path`, if that one has no other parent."""
        found = self.children[path]
        return found[0] if len(found) == 1 and len(self.parents[found[0]]) == 1 else None

    def queue(self, path: str) -> str:
        """The queue of a step or of a compensation."""
        undone = undone_path(path)
        if undone is None:
            return self.steps[path].queue or self._default_queue
        return self.compensation(path).queue or self.queue(undone)

    def compensation(self, path: str) -> Compensation:
        """The compensation whose path this is."""
        found = self.steps[undone_path(path) or path].compensation
        if found is None:
            raise LookupError(f"{self.name}: {path} has no compensation")
        return found

    def call(self, path: str) -> Step | Compensation:
        """What a path calls: the step itself or the compensation."""
        return self.steps[path] if undone_path(path) is None else self.compensation(path)

    def retry(self, path: str) -> RetryPolicy:
        """The retry policy in force: the step's, else the definition's, else the default."""
        return self.call(path).retry or self.definition.retry or _DEFAULT_RETRY

    def timeout(self, path: str) -> float | None:
        """Seconds that one attempt may take; None is unlimited."""
        return self.call(path).timeout or self.definition.step_timeout

    def input(self, path: str) -> Template:
        """The compiled parameters of a step or compensation."""
        template = self._templates.get(path)
        if template is None:
            template = self._templates[path] = compile_value(self.call(path).input)
        return template

    @cached_property
    def output(self) -> Template:
        """The compiled output: as declared, else the last step's, else every last step's by id."""
        if self.definition.output is not None:
            return compile_value(self.definition.output)
        outputs = {path: f"{{{{ steps.{path}.output }}}}" for path in self.ends}
        return compile_value(outputs[self.ends[0]] if len(outputs) == 1 else outputs)

    def successors(self, path: str) -> str:
        """The rows that settling `path` inserts, as a JSON array for the settle statement."""
        rows = self._successors.get(path)
        if rows is None:
            rows = self._successors[path] = json.dumps([self._row(child) for child in self.children[path]])
        return rows

    def segment(self, head: str) -> tuple[str, ...]:
        """The steps that one Celery task runs back to back, beginning with `head`."""
        found = self._segments.get(head)
        if found is None:
            paths = [head]
            while (following := self.fused.get(paths[-1])) is not None:
                paths.append(following)
            # Heads are few: roots, joins and branches. Only recovery meets others, and may not fill the memory.
            if len(self._segments) >= SEGMENT_CACHE:
                self._segments.clear()
            found = self._segments[head] = tuple(paths)
        return found

    def _row(self, path: str) -> dict[str, object]:
        parents = self.parents[path]
        row: dict[str, object] = {"path": path, "queue": self.queue(path), "status": StepStatus.READY}
        return row if len(parents) <= 1 else row | {"status": StepStatus.BLOCKED, "parents": parents}

    def root_rows(self) -> list[dict[str, object]]:
        """The rows that starting inserts."""
        return [self._row(path) for path in self.roots]

    def _may_fuse(self, path: str, following: str) -> bool:
        return self.fuses(path) and self.fuses(following) and self.queue(path) == self.queue(following)

    def fuses(self, path: str) -> bool:
        """Whether a step may share a Celery task with its neighbours."""
        fuse = self.steps[path].fuse
        return self.definition.fuse if fuse is None else fuse
