"""A definition's graph, worked out once and kept for the life of the process: definitions never change.

A path names a step wherever it stands: `charge`, `notify[3].send` (in iteration 3 of the loop `notify`), and
`2:NEXT/verify` (in the second transition of a machine, by the event NEXT). What stands before the last id is its
prefix, and leads to the body that the step belongs to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

from orchestrator.compiler.body import Body
from orchestrator.compiler.own_tasks import Queues, Route, default_retry
from orchestrator.compiler.place import Following, Place
from orchestrator.expressions import Template, compile_value
from orchestrator.kinds.kind import Kind
from orchestrator.kinds.kinds import ACTIVITY, ENGINE_KINDS
from orchestrator.model.definition import Compensation, Definition, Step
from orchestrator.model.identity import undone_path
from orchestrator.model.loop import Lanes
from orchestrator.model.policy import RetryPolicy

#: Segments remembered per definition.
SEGMENT_CACHE = 1_000
#: The one step of a machine, and the kind that it is of.
MACHINE = "machine"

_ITERATION = re.compile(r"(?P<container>.*)\[(?P<index>[0-9]+)\]\.")
_TRANSITION = re.compile(r"[0-9]+:[^/]+/")


#: Gives the lanes of the loop at a path.
LanesOf = Callable[[str], Lanes]


class Graph:
    """Who follows whom, on which queue, and which steps may share a Celery task."""

    def __init__(self, definition: Definition, default_queue: str, route: Route | None = None) -> None:
        self.definition = definition
        self.name, self.version = definition.name, definition.version
        self._queues = Queues(default=definition.queue or default_queue, route=route)
        steps = definition.steps
        if definition.machine is not None:
            steps = (Step(id=MACHINE, kind=MACHINE, spec=definition.machine.model_dump(mode="json")),)
        self.root = self._body(steps)
        self._bodies: dict[str, Body] = {}
        self._places: dict[str, Place] = {}
        self._followings: dict[tuple[str, str | None], Following] = {}
        self._segments: dict[str, tuple[str, ...]] = {}

    def _body(self, steps: tuple[Step, ...]) -> Body:
        return Body(steps, self._queues.of, self.definition.fuse)

    @property
    def roots(self) -> tuple[str, ...]:
        """The steps that a start makes ready."""
        return self.root.roots

    # Finding a step.

    def place(self, path: str) -> Place:
        """Where a step's path leads; LookupError when the definition has none there."""
        if path in self.root.steps:
            return Place(body=self.root, prefix="", id=path, container=None, index=0)
        cut = max(path.rfind("."), path.rfind("/")) + 1
        prefix, step_id = path[:cut], path[cut:]
        # A transition's prefix names its event, which others from other states may have too.
        key = path if prefix.endswith("/") else prefix
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= SEGMENT_CACHE:
                self._places.clear()
            place = self._places[key] = self._frame(prefix, step_id)
        if step_id not in place.body.steps:
            raise LookupError(f"{self.name} has no step {path}")
        return Place(body=place.body, prefix=prefix, id=step_id, container=place.container, index=place.index)

    def _frame(self, prefix: str, step_id: str) -> Place:
        found = _ITERATION.fullmatch(prefix)
        if found is not None:
            container = found["container"]
            body = self.body(container)
            return Place(body=body, prefix=prefix, id=step_id, container=container, index=int(found["index"]))
        machine = self.definition.machine
        if machine is not None and _TRANSITION.fullmatch(prefix):
            for number, transition in enumerate(machine.transitions):
                if any(step.id == step_id for step in transition.steps):
                    body = self.transition_body(number)
                    return Place(body=body, prefix=prefix, id=step_id, container=MACHINE, index=0)
        raise LookupError(f"{self.name} has no step {prefix}{step_id}")

    def body(self, container: str) -> Body:
        """The body of a step that has one."""
        place = self.place(container)
        key = _TRANSITION.sub("", re.sub(r"\[[0-9]+\]", "[]", container))
        return self._remembered(key, place.step.steps)

    def transition_body(self, number: int) -> Body:
        """The steps of a machine's transition."""
        machine = self.definition.machine
        if machine is None:
            raise LookupError(f"{self.name} is no machine")
        return self._remembered(f"{MACHINE} {number}", machine.transitions[number].steps)

    def _remembered(self, key: str, steps: tuple[Step, ...]) -> Body:
        body = self._bodies.get(key)
        if body is None:
            body = self._bodies[key] = self._body(steps)
        return body

    def step(self, path: str) -> Step:
        """The step at a path."""
        found = self.root.steps.get(path)
        return found if found is not None else self.place(path).step

    def kind(self, path: str) -> Kind:
        """The kind of the step at a path, which is no activity."""
        place = self.place(path)
        return place.body.kind(place.id)

    def top(self, path: str) -> str:
        """The step at the top that a path is in, or is."""
        return [path, *self.around(path)][-1]

    def around(self, path: str) -> Iterator[str]:
        """The steps that a step is in the bodies of, from the inside out."""
        while (container := self.place(path).container) is not None:
            yield container
            path = container

    def enclosing(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Container and iteration of each body around a prefix, from the inside out."""
        while (found := _ITERATION.fullmatch(prefix)) is not None:
            yield found["container"], int(found["index"])
            prefix = self.place(found["container"]).prefix

    def has_body(self, path: str) -> bool:
        """Whether the step at a path holds others."""
        kind = self.step(path).kind
        return kind != ACTIVITY and ENGINE_KINDS[kind].has_body

    def exits(self, path: str) -> tuple[str, ...]:
        """By which exits the step at a path may succeed, beside the ordinary one."""
        place = self.place(path)
        return place.body.exits(place.id)

    def visible(self, prefix: str, step_id: str) -> str | None:
        """The path of the step that `step_id` means at a prefix: in the same body, or in one around it."""
        while prefix:
            found = _ITERATION.fullmatch(prefix)
            if found is None:
                # Of a transition's steps the ledger knows which was carried out last.
                return f"{MACHINE}/{step_id}"
            if step_id in self.body(found["container"]).steps:
                return prefix + step_id
            prefix = self.place(found["container"]).prefix
        if step_id not in self.root.steps and self.definition.machine is not None:
            return f"{MACHINE}/{step_id}"
        return step_id if step_id in self.root.steps else None

    # What holds of a step or a compensation.

    def queue(self, path: str) -> str:
        """The queue of a step or of a compensation."""
        undone = undone_path(path)
        if undone is None:
            return self._queues.of(self.step(path))
        compensation = self.step(undone).compensation
        return (compensation.queue if compensation else None) or self._queues.of_undo(self.step(undone))

    def compensation(self, path: str) -> Compensation:
        """The compensation whose path this is."""
        found = self.step(undone_path(path) or path).compensation
        if found is None:
            raise LookupError(f"{self.name}: {path} has no compensation")
        return found

    def call(self, path: str) -> Step | Compensation:
        """What a path calls: the step itself or the compensation."""
        undone = undone_path(path)
        if undone is None:
            return self.step(path)
        return self.step(undone).compensation or self.step(undone)

    def retry(self, path: str) -> RetryPolicy:
        """The retry policy in force: the step's, else the definition's, else the default."""
        return self.call(path).retry or default_retry(self.call(path), self.definition)

    def timeout(self, path: str) -> float | None:
        """Seconds that one attempt may take; None is unlimited."""
        return self.call(path).timeout or self.definition.step_timeout

    def start_timeout(self, path: str) -> float | None:
        """Seconds that a step may be ready without a worker beginning it; None for compensations, which wait."""
        found = self.call(path)
        return found.start_timeout if isinstance(found, Step) and undone_path(path) is None else None

    def heartbeat_timeout(self, path: str) -> float | None:
        """Seconds that an attempt may let pass without saying that it goes on; None: it need not say so."""
        found = self.call(path)
        return found.heartbeat_timeout if isinstance(found, Step) and undone_path(path) is None else None

    def input(self, path: str) -> Template:
        """The compiled parameters of a step or compensation."""
        if undone_path(path) is not None:
            return compile_value(self.call(path).input)
        place = self.place(path)
        return place.body.input(place.id)

    @cached_property
    def output(self) -> Template:
        """The compiled output: as declared, else the last step's, else every last step's by id."""
        return self.root.output if self.definition.output is None else compile_value(self.definition.output)

    # What follows what.

    def children(self, path: str) -> tuple[str, ...]:
        """The steps directly after one, in its own body."""
        place = self.place(path)
        return tuple(place.prefix + child for child in place.body.children[place.id])

    def parents(self, path: str) -> tuple[str, ...]:
        """The steps directly before one, in its own body."""
        place = self.place(path)
        return tuple(place.prefix + parent for parent in place.body.parents[place.id])

    def is_plain_join(self, path: str) -> bool:
        """Whether several steps lead here and all must succeed."""
        place = self.place(path)
        edges = place.body.edges[place.id]
        return len(place.body.parents[place.id]) > 1 and place.step.join == "all" and not any(e.exit for e in edges)

    def following(self, path: str) -> str | None:
        """The only step after `path`, if that one waits for nothing else."""
        place = self.place(path)
        found = place.body.following(place.id)
        return None if found is None else place.prefix + found

    def fused(self, path: str, lanes: LanesOf | None = None) -> str | None:
        """The step that the same segment goes on with: in a lane of a loop, the next iteration's first too."""
        if path in self.root.steps:
            return self.root.fused.get(path)
        place = self.place(path)
        found = place.body.fused.get(place.id)
        if found is not None:
            return place.prefix + found
        body = place.body
        if lanes is None or body.ends != (place.id,) or len(body.roots) != 1 or body.exits(place.id):
            return None
        root = body.roots[0]
        following = self._next_iteration(place, lanes)
        fits = following is not None and body.fuses(place.id) and body.fuses(root)
        return f"{following}{root}" if fits and body.queue(place.id) == body.queue(root) else None

    def _next_iteration(self, place: Place, lanes: LanesOf) -> str | None:
        """The prefix of the iteration that follows in the same lane."""
        if place.container is None or self.step(place.container).kind != "each":
            return None
        following = lanes(place.container).following(place.index)
        return None if following is None else f"{place.container}[{following}]."

    def follow(self, path: str, exit_by: str | None, lanes: LanesOf) -> Following:
        """What the end of a step by an exit brings about."""
        key = (path, exit_by)
        found = self._followings.get(key)
        if found is not None:
            return found
        place = self.place(path)
        within = place.body.follow(place.id, exit_by)
        if not place.prefix:
            following = Following(
                rows=json.dumps(within.rows),
                joins=within.joins,
                wakes=None,
                ends=within.ends,
                races=_races(within.rows),
            )
            self._followings[key] = following
            return following
        rows = [self._prefixed(row, place.prefix) for row in within.rows]
        joins = [place.prefix + join for join in within.joins]
        wakes = None
        if within.ends:
            following_prefix = self._next_iteration(place, lanes)
            if following_prefix is None:
                wakes = None if place.container is None else (place.container, place.inner)
            elif len(place.body.ends) == 1:
                rows += [self._prefixed(row, following_prefix) for row in place.body.first_rows()]
            else:
                ends = [place.prefix + end for end in place.body.ends]
                heads = [row | {"path": following_prefix + row["path"]} for row in place.body.rows_after(ends)]
                rows += heads
                joins += [row["path"] for row in heads]
        return Following(rows=json.dumps(rows), joins=tuple(joins), wakes=wakes, ends=False, races=_races(rows))

    def _prefixed(self, row: dict[str, object], prefix: str) -> dict[str, object]:
        """A row of a body, for one of its iterations."""
        moved = row | {"path": f"{prefix}{row['path']}"}
        if isinstance(parents := row.get("parents"), list | tuple):
            moved["parents"] = [prefix + parent for parent in parents]
        if isinstance(unless := row.get("unless"), list | tuple):
            moved["unless"] = [prefix + join for join in unless]
        if isinstance(edges := row.get("edges"), list | tuple):
            moved["edges"] = [[prefix + parent, exit_by] for parent, exit_by in edges]
        return moved

    def body_rows(self, prefixes: tuple[str, ...], body: Body) -> str:
        """The first rows of a body's iterations, as a JSON array."""
        return json.dumps([self._prefixed(row, prefix) for prefix in prefixes for row in body.first_rows()])

    def root_rows(self) -> list[dict[str, object]]:
        """The rows that starting inserts."""
        return list(self.root.first_rows())

    def losers(self, join: str) -> list[str]:
        """Steps that have lost once a join with a number has what it needs."""
        place = self.place(join)
        return [place.prefix + path for path in place.body.losers(place.id)]

    def segment(self, head: str) -> tuple[str, ...]:
        """The steps that one Celery task runs back to back, beginning with `head`; within one iteration of a loop."""
        found = self._segments.get(head)
        if found is None:
            paths = [head]
            while (following := self.fused(paths[-1])) is not None:
                paths.append(following)
            # Heads are few: roots, joins and branches. Only recovery meets others, and may not fill the memory.
            if len(self._segments) >= SEGMENT_CACHE:
                self._segments.clear()
            found = self._segments[head] = tuple(paths)
        return found

    def fuses(self, path: str) -> bool:
        """Whether a step may share a Celery task with its neighbours."""
        place = self.place(path)
        return place.body.fuses(place.id)


def _races(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(join for row in rows for join in row.get("unless", ())))
