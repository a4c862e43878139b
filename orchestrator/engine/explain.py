"""Why an execution is where it is: from what was read of it to sentences and the commands that help.

Each open step gives one finding, and so does what holds the execution as a whole. A blocked step is followed to the
steps that it waits for in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.engine.core import Core
from orchestrator.engine.phrases import code, listed, moment, told, when
from orchestrator.engine.step_findings import LATE, Finding, StepFindings
from orchestrator.errors import ExecutionNotFound
from orchestrator.ledger.explain import Reading, read
from orchestrator.model.state import DRAINING_EXECUTIONS, FINAL_EXECUTIONS, ExecutionStatus

X = ExecutionStatus
#: So deep children are explained below what was asked for, and so many of each execution.
DEEPEST: Final = 5
MOST_CHILDREN: Final = 5
#: A deadline further away is told only if it comes before something that is waited for.
WITHIN_REACH: Final = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why an execution is where it is, the weightiest reason first."""

    execution_id: str
    definition: str
    version: int
    status: str
    findings: tuple[Finding, ...]

    def as_data(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self)


def explanation(core: Core, connection: Connection, execution_id: str) -> Explanation:
    """Why an execution is where it is, and each child that it waits for; ExecutionNotFound when there is none."""
    reading = _read(core, connection, execution_id)
    if reading is None:
        raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
    row = reading.execution
    return Explanation(
        execution_id=str(row["id"]),
        definition=row["definition_name"],
        version=row["definition_version"],
        status=row["status"],
        findings=tuple(_with_children(core, connection, reading, 0)),
    )


def _read(core: Core, connection: Connection, execution_id: str) -> Reading | None:
    return read(connection, execution_id, core.settings.dead_after)


def _with_children(core: Core, connection: Connection, reading: Reading, depth: int) -> Iterator[Finding]:
    graph = core.graphs.get(connection, str(reading.execution["definition_id"]))
    settings, explained = core.settings, 0
    for found in explain(reading, graph, dead_after=settings.dead_after, sweep_queue=settings.sweep_queue):
        yield replace(found, depth=depth)
        if found.child is None or depth >= DEEPEST or explained >= MOST_CHILDREN:
            continue
        child, explained = _read(core, connection, found.child), explained + 1
        if child is not None:
            yield from _with_children(core, connection, child, depth + 1)


def explain(reading: Reading, graph: Graph, *, dead_after: float, sweep_queue: str) -> list[Finding]:
    """The findings on one execution, without those on its children. Pure.

    Args:
        dead_after: seconds of silence after which a node is taken for dead.
        sweep_queue: the queue of the sweeps.
    """
    return list(_Findings(reading, graph, dead_after, sweep_queue).all())


class _Findings:
    """The findings on one execution."""

    def __init__(self, reading: Reading, graph: Graph, dead_after: float, sweep_queue: str) -> None:
        self._reading, self._graph = reading, graph
        self._sweep_queue = sweep_queue
        self._row = reading.execution
        self._id, self._now, self._status = str(self._row["id"]), self._row["now"], X(self._row["status"])
        self._steps = {step["path"]: step for step in reading.steps}
        self._of = StepFindings(reading, graph, dead_after, sweep_queue)

    def all(self) -> Iterator[Finding]:
        """The execution's own reasons, then its steps', the deadline last."""
        if self._status in FINAL_EXECUTIONS:
            yield self._ended()
            return
        yield from self._whole()
        roots: dict[str, Finding] = {}
        if self._status != X.CREATED:
            for path, step in self._steps.items():
                found = self._of.of(step)
                if found is not None:
                    roots[path] = found
        yield from roots.values()
        for step in self._steps.values():
            if step["status"] == "blocked" and step["undoes"] is None:
                yield self._blocked(step, roots)
        yield from self._late()
        yield from self._rest()

    def _found(self, kind: str, sentence: str, command: str | None = None, path: str | None = None) -> Finding:
        return Finding(kind=kind, sentence=sentence, command=command, path=path, execution_id=self._id)

    # The execution as a whole.

    def _whole(self) -> Iterator[Finding]:
        row = self._row
        if self._status == X.CREATED:
            if row["start_at"] is not None:
                yield self._found("starts_at", f"it starts {when(row['start_at'], self._now)}")
            elif row["maintenance_since"] is None:
                yield self._found("starts_at", "it was held by maintenance that has ended, and starts in a moment")
            if row["maintenance_since"] is not None:
                yield self._maintenance()
        if self._status in {X.PAUSING, X.PAUSED} or row["paused_at"] is not None:
            yield self._paused()
        if self._status in DRAINING_EXECUTIONS:
            yield from self._draining()
        if self._status == X.COMPENSATING:
            left = [step for step in self._steps.values() if step["undoes"] is not None]
            present = next((step["undoes"] for step in left if step["status"] != "blocked"), None)
            at = f"at the undo of {code(present)}" if present else "between two undos"
            yield self._found("compensating", f"it goes back{self._because()}, and is {at}; {len(left)} left")
        goes_on = self._steps or self._reading.children or self._reading.stragglers
        if not goes_on and self._status != X.PAUSED:
            sentence = "nothing of it is open: a crash left it so, and the sweep of stalled executions takes it up"
            yield self._found("stalled", sentence)

    def _maintenance(self) -> Finding:
        row = self._row
        why = f" because {row['maintenance_reason']}" if row["maintenance_reason"] else ""
        sentence = f"maintenance mode holds it: {row['maintenance_by']} turned it on"
        sentence += f" {when(row['maintenance_since'], self._now)}{why}, and nothing new starts"
        return self._found("maintenance", sentence, "orchestrator maintenance off")

    def _paused(self) -> Finding:
        row = self._row
        by = f" by {row['paused_by']}" if row["paused_by"] else ""
        why = f" because {row['pause_reason']}" if row["pause_reason"] else ""
        since = row["paused_at"] or row["pause_asked_at"]
        at = f" {when(since, self._now)}" if since is not None else ""
        running = [code(step["path"]) for step in self._steps.values() if step["status"] == "running"]
        resume = f"orchestrator resume {self._id}"
        if running and self._status != X.PAUSED:
            until = f"; it comes to rest once {listed(running)} {'has' if len(running) == 1 else 'have'} ended"
            return self._found("pausing", f"it is being paused{by}{at}{why}{until}", resume)
        return self._found("paused", f"it was paused{by}{at}{why}", resume)

    def _draining(self) -> Iterator[Finding]:
        forward = [step for step in self._steps.values() if step["undoes"] is None]
        running = [code(step["path"]) for step in forward if step["status"] == "running"]
        what = {X.FAILING: "is failing", X.CANCELLING: "is being cancelled"}.get(self._status, "is timing out")
        undos = [code(step["undoes"]) for step in self._steps.values() if step["undoes"] is not None]
        late = listed([f"{code(path)} by {owner}" for path, owner in self._reading.stragglers])
        waits = f"waits for the running attempt of {listed(running)} to end" if running else "comes to its end"
        if late and not running:
            waits = f"waits for the attempt at {late} to end: it lost a race, and is still at work"
        if undos and not running:
            waits = f"waits for the undo of {listed(undos)} in a part of it that goes back by itself"
        yield self._found(str(self._status), f"it {what}{self._because()}, and {waits}")
        for child in self._reading.children:
            sentence = f"it waits for its child {child['id']} ({child['definition_name']}), which is {child['status']}"
            found = self._found("child", f"{sentence}, to go back", f"orchestrator explain {child['id']}")
            yield replace(found, child=str(child["id"]))

    def _because(self) -> str:
        error = self._row["error"]
        return f" because of {told(error)}" if error else ""

    def _ended(self) -> Finding:
        row = self._row
        at = when(row["settled_at"], self._now)
        if self._status == X.SUCCEEDED:
            return self._found("succeeded", f"it succeeded {at}")
        if self._status == X.COMPENSATED:
            return self._found("compensated", f"it went back, which ended {at}{self._because()}")
        if self._status == X.COMPENSATION_FAILED:
            undos = [f"{code(undo['undoes'])} ({told(undo['error'])})" for undo in self._reading.failed_undos]
            sentence = f"it went back{self._because()}, but could not undo {listed(undos)}; that ended {at}"
            return self._found("compensation_failed", sentence, f"orchestrator compensate {self._id}")
        word = {X.FAILED: "failed", X.CANCELLED: "was cancelled"}.get(self._status, "timed out")
        again = ""
        if row["retry_at"] is not None:
            again = f"; it is retried by itself {when(row['retry_at'], self._now)}, for the {row['retries'] + 1}. time"
        return self._found(
            str(self._status), f"it {word} {at}{self._because()}{again}", f"orchestrator retry {self._id}"
        )

    # Blocked steps.

    def _blocked(self, step: Mapping[str, Any], roots: Mapping[str, Finding]) -> Finding:
        path = step["path"]
        pending = listed([code(parent) for parent in step["pending"] or ()])
        sentence = f"{code(path)} is blocked behind {pending}" if pending else f"{code(path)} is about to be decided"
        behind = [roots[found] for found in dict.fromkeys(self._behind(path, set())) if found in roots]
        if behind:
            sentence += ": " + "; ".join(found.sentence for found in behind[:3])
        command = behind[0].command if len(behind) == 1 else None
        return self._found("blocked", sentence, command, path)

    def _behind(self, path: str, seen: set[str]) -> Iterator[str]:
        """The open steps, none of them blocked, that a step waits for in the end."""
        if path in seen:
            return
        seen.add(path)
        step = self._steps.get(path)
        if step is not None and step["status"] != "blocked":
            yield path
            return
        # A step without a row is settled, or will have one once something before it has settled.
        for parent in (step["pending"] or ()) if step is not None else self._graph.parents(path):
            yield from self._behind(parent, seen)

    # What else there is to know.

    def _late(self) -> Iterator[Finding]:
        """Something is long due: nobody sweeps."""
        due = [step["due_at"] for step in self._steps.values() if step["due_at"] and step["status"] != "running"]
        fired = self._reading.fired
        if not due or min(due) + LATE > self._now:
            return
        if command := self._of.sweeper():
            what = (
                "no beat has ever fired" if fired is None else f"the last fire of a beat was {moment(fired, self._now)}"
            )
            if command != "orchestrator beat":
                what = f"no living worker consumes the sweeps' queue {code(self._sweep_queue)}"
            sentence = f"something is due since {moment(min(due), self._now)}, but nobody looks: {what}"
            yield self._found("no_sweeps", sentence, command)

    def _rest(self) -> Iterator[Finding]:
        deadline = self._row["deadline"]
        if deadline is not None and self._status in {X.CREATED, X.RUNNING}:
            due = [step["due_at"] for step in self._steps.values() if step["due_at"] is not None]
            if deadline - self._now < WITHIN_REACH or any(deadline < other for other in due):
                sentence = f"the whole execution has a deadline {when(deadline, self._now)}, and is ended then"
                yield self._found("deadline", sentence)
        more = (self._reading.steps[0]["open"] if self._reading.steps else 0) - len(self._reading.steps)
        if more > 0:
            yield self._found("more", f"{more} more of its steps are open")
