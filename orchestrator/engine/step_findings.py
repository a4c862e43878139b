"""What there is to say of one open step: what it waits for, and the command that helps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from orchestrator.authoring.example import example
from orchestrator.compiler.graph import MACHINE, Graph
from orchestrator.engine.phrases import code, listed, moment, told, when
from orchestrator.kinds.machine import MachineKind
from orchestrator.ledger.explain import AHEAD, Reading
from orchestrator.model.identity import undone_path
from orchestrator.model.state import ExecutionStatus

#: Something that was due so long ago should have been taken up: nobody sweeps. Longer than a slow machine's pauses.
LATE: Final = timedelta(seconds=15)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One reason."""

    #: signal, event, time, retry, blocked, no_consumer ... : the table in docs/operating.md.
    kind: str
    sentence: str
    #: What helps; None where nothing can or need be done.
    command: str | None = None
    #: The step that it is about; None for the execution as a whole.
    path: str | None = None
    #: The execution that it is about, and how deep it is below the one that was asked for.
    execution_id: str = ""
    depth: int = 0
    #: The execution that it waits for, which has reasons of its own.
    child: str | None = None


class StepFindings:
    """The findings on the open steps of one execution, but for blocked ones."""

    def __init__(self, reading: Reading, graph: Graph, dead_after: float, sweep_queue: str) -> None:
        self._reading, self._graph = reading, graph
        self._dead_after, self._sweep_queue = timedelta(seconds=dead_after), sweep_queue
        self._row = reading.execution
        self._id, self._now = str(self._row["id"]), self._row["now"]
        self._rests = self._row["paused_at"] is not None or self._row["status"] in {
            ExecutionStatus.PAUSING,
            ExecutionStatus.PAUSED,
        }
        self._of: dict[str, Callable[[Mapping[str, Any]], Finding | None]] = {
            "ready": self._ready,
            "running": self._running,
            "retrying": self._retrying,
            "waiting": self._waiting,
        }

    def of(self, step: Mapping[str, Any]) -> Finding | None:
        """The finding on a step; None when its execution's own says all."""
        find = self._of.get(step["status"])
        return None if find is None else find(step)

    def sweeper(self) -> str | None:
        """What would have the sweeps carried out; None when they are."""
        if not self._reading.consumers.get(self._sweep_queue):
            return f"orchestrator worker --queues {shlex.quote(self._sweep_queue)}"
        fired = self._reading.fired
        return "orchestrator beat" if fired is None or fired + LATE < self._now else None

    def _found(self, kind: str, sentence: str, command: str | None, path: str) -> Finding:
        return Finding(kind=kind, sentence=sentence, command=command, path=path, execution_id=self._id)

    def _ready(self, step: Mapping[str, Any]) -> Finding | None:
        if self._rests:
            return None
        name, queue = code(step["path"]), step["queue"]
        command = f"orchestrator worker --queues {shlex.quote(queue)}"
        consumers = self._reading.consumers.get(queue, 0)
        since = when(step["ready_at"], self._now)
        if not consumers:
            sentence = f"{name} became ready {since}, but no living worker consumes queue {code(queue)}"
            return self._found("no_consumer", sentence, command, step["path"])
        ahead = f"{step['ahead']}{' or more' if step['ahead'] == AHEAD else ''} ahead of it"
        workers = f"{consumers} living worker{'s' if consumers > 1 else ''}"
        sentence = f"{name} became ready {since} and waits for a free worker: {ahead} in queue {code(queue)}"
        return self._found(
            "backlog", f"{sentence}, which {workers} consume{'' if consumers > 1 else 's'}", command, step["path"]
        )

    def _running(self, step: Mapping[str, Any]) -> Finding:
        name, owner = code(step["path"]), step["owner"]
        node = self._reading.owners.get(owner.partition(".")[0])
        attempt = f"attempt {step['attempt']} at {name}"
        gone = None if node is None else node["stopped_at"] or node["buried_at"]
        sweeper = self.sweeper()
        if node is None or gone is not None:
            since = "" if gone is None else f" and gone since {moment(gone, self._now)}"
            sentence = f"{attempt} is held by {owner}, which is dead{since}; the next sweep of dead owners releases it"
            return self._found("owner_dead", sentence, sweeper, step["path"])
        if node["seen"] + self._dead_after / 2 < self._now:
            at = when(node["seen"] + self._dead_after, self._now)
            sentence = (
                f"{attempt} is held by {owner} on {node['name']}, silent since {moment(node['seen'], self._now)};"
            )
            return self._found(
                "owner_silent", f"{sentence} unless it is heard again, it is released {at}", sweeper, step["path"]
            )
        sentence = f"{attempt} runs under {owner} on {node['name']} since {moment(step['started_at'], self._now)}"
        if step["progress"] is not None:
            sentence += f"; its progress: {json.dumps(step['progress'], ensure_ascii=False)}"
        if step["due_at"] is not None:
            sentence += f"; its timeout ends it {when(step['due_at'], self._now)}"
        return self._found("running", sentence, None, step["path"])

    def _retrying(self, step: Mapping[str, Any]) -> Finding:
        most = self._graph.retry(step["path"]).max_attempts
        undone = undone_path(step["path"])
        for_ever = undone is None and self._graph.step(step["path"]).on_error == "retry"
        number = f"{step['failures'] + 1}{'' if for_ever else f' of {most}'}"
        sentence = f"{code(step['path'])} is tried again {when(step['due_at'], self._now)}, as attempt {number}; "
        sentence += f"the last ended with {told(step['error'])}"
        return self._found("retry", sentence, f"orchestrator retry {self._id}", step["path"])

    def _waiting(self, step: Mapping[str, Any]) -> Finding:
        path, name, awaits = step["path"], code(step["path"]), step["awaits"]
        until = f", at most until {moment(step['due_at'], self._now)}" if step["due_at"] is not None else ""
        if awaits == "signal":
            return self._signal(step, until)
        if awaits == "event":
            return self._machine(path, until)
        if awaits == "child":
            sentence = f"{name} waits for execution {step['wait_name']} to end"
            found = self._found("child", sentence, f"orchestrator explain {step['wait_name']}", path)
            return replace(found, child=step["wait_name"])
        if awaits == "body":
            return self._body(step, until)
        if awaits == "undo":
            return self._part(step)
        command = f"orchestrator complete {self._id} {shlex.quote(path)}"
        at = "" if step["due_at"] is None else f" for its time, {when(step['due_at'], self._now)}"
        return self._found("time", f"{name} waits{at}", command, path)

    def _body(self, step: Mapping[str, Any], until: str) -> Finding:
        path, name = step["path"], code(step["path"])
        if step["woken_by"] == "broken":
            return self._broken(step)
        if step["count"] is None:
            return self._found("body", f"{name} waits for its steps to end{until}", None, path)
        sentence = f"the loop {name} is open: {step['done']} of {step['count']} iterations are done"
        return self._found("loop", sentence + until, None, path)

    def _broken(self, step: Mapping[str, Any]) -> Finding:
        path, within = step["path"], step["inner"]
        steps = [code(each["path"]) for each in self._reading.steps if each["path"].startswith(within)]
        children = [each for each in self._reading.children if each["parent_path"].startswith(within)]
        left = steps + [f"its child {each['id']} ({each['definition_name']})" for each in children]
        late = [(path, owner) for path, owner in self._reading.stragglers if path.startswith(within)]
        left += [f"the attempt at {code(path)} by {owner}, which lost a race," for path, owner in late]
        sentence = f"{code(path)} has failed with {told(step['error'])}; before that is handled, it waits for"
        found = self._found("part", f"{sentence} {listed(left) or 'its steps'} to end", None, path)
        if not children:
            return found
        child = str(children[0]["id"])
        return replace(found, command=f"orchestrator explain {child}", child=child)

    def _part(self, step: Mapping[str, Any]) -> Finding:
        path = step["path"]
        left = [each for each in self._reading.steps if (each["undoes"] or "").startswith(step["inner"])]
        present = next((each["undoes"] for each in left if each["status"] != "blocked"), None)
        at = f"at the undo of {code(present)}" if present else "between two undos"
        sentence = f"{code(path)} has failed with {told(step['error'])}; before that is handled, what it did is undone"
        return self._found("part", f"{sentence}, which is {at}; {len(left)} left", None, path)

    def _signal(self, step: Mapping[str, Any], until: str) -> Finding:
        name, correlation = step["wait_name"], step["correlation"]
        if correlation is None:
            sentence = f"{code(step['path'])} waits for the signal {code(name)}{until}"
            command = f"orchestrator signal {self._id} {shlex.quote(name)}{self._payload(name)}"
            return self._found("signal", sentence, command, step["path"])
        sentence = f"{code(step['path'])} waits for the event {code(name)} about {code(correlation)}{until}"
        command = f"orchestrator emit {shlex.quote(name)} {shlex.quote(correlation)}{self._payload(name)}"
        return self._found("event", sentence, command, step["path"])

    def _machine(self, path: str, until: str) -> Finding:
        kind, state = self._graph.kind(MACHINE), self._row["state"]
        if not isinstance(kind, MachineKind) or state is None:
            return self._found("machine", f"{code(path)} waits for an event{until}", None, path)
        leaving = [found for _, found in kind.leaving(state) if found.event is not None]
        events = list(dict.fromkeys(code(str(found.event)) for found in leaving))
        sentence = f"the machine stands in state {code(state)} and waits for an event{until}; "
        if not leaving:
            return self._found("machine", f"{sentence}none is allowed there", None, path)
        event = str(leaving[0].event)
        role = f" --role {shlex.quote(leaving[0].actors[0])}" if leaving[0].actors else ""
        command = f"orchestrator send {self._id} {shlex.quote(event)}{role}{self._payload(event)}"
        return self._found("machine", f"{sentence}allowed are {listed(events)}", command, path)

    def _payload(self, name: str) -> str:
        """An example of what the definition says must go with a signal."""
        schema = self._graph.definition.signals.get(name)
        return "" if schema is None else f" --payload {shlex.quote(json.dumps(example(schema)))}"
