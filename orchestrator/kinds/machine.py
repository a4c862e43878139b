"""machine: a state machine as the one step of its execution. Between events it waits, and costs nothing.

Events are accepted by whoever sends them (engine/machine.py) and taken here, one at a time and in order. A transition's
steps are the body of the machine's step; the state changes once they have succeeded. If they fail, it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.expressions import Condition, Template
from orchestrator.kinds.kind import Break, Decision, Done, Enter, Park, Plain, Refuse, Situation, Spawn
from orchestrator.kinds.truth import condition
from orchestrator.model.definition import Machine, Step, Transition
from orchestrator.model.outcome import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An event, and who sent it."""

    name: str
    payload: Any
    actor: str | None
    roles: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """What expressions see as `event`."""
        return {"name": self.name, "payload": self.payload, "actor": self.actor}


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """What may happen to a machine in a state."""

    #: The number of the transition that an event takes; None when it is refused.
    transition: int | None
    #: Why it is refused.
    reason: str = ""
    #: Events that are allowed there.
    events: tuple[str, ...] = ()


class MachineKind(Plain):
    """Its output is the last state, as {"state": ...}."""

    has_body: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        self.machine = Machine.model_validate(step.spec)
        self._conditions: dict[int, Condition] = {
            number: condition(transition.condition, f"condition of transition to {transition.to}")
            for number, transition in enumerate(self.machine.transitions)
            if transition.condition is not None
        }
        self.templates: tuple[Template, ...] = tuple(found.template for found in self._conditions.values())

    # What is allowed, for senders and for the machine itself.

    def leaving(self, state: str) -> list[tuple[int, Transition]]:
        """The transitions that leave a state, in their order, with their numbers."""
        if self.machine.states[state].final:
            return []
        return [
            (number, transition)
            for number, transition in enumerate(self.machine.transitions)
            if state in transition.from_ or "*" in transition.from_
        ]

    def choose(self, state: str, event: Event, holds: Callable[[Condition], bool]) -> Allowed:
        """The transition that an event takes in a state, or why there is none."""
        leaving = [(number, found) for number, found in self.leaving(state) if found.event is not None]
        events = tuple(dict.fromkeys(str(found.event) for _, found in leaving))
        named = [(number, found) for number, found in leaving if found.event == event.name]
        shown = f"allowed now: {', '.join(events)}" if events else "no event is allowed now"
        if not named:
            return Allowed(
                transition=None, reason=f"event {event.name} is not allowed in state {state}; {shown}", events=events
            )
        permitted = [(number, found) for number, found in named if _may(found, event)]
        if not permitted:
            wanted = sorted({actor for _, found in named for actor in found.actors})
            who = event.actor or "an unnamed actor"
            return Allowed(
                transition=None,
                reason=f"{who} may not send {event.name} in state {state}: it takes {' or '.join(wanted)}; {shown}",
                events=events,
            )
        for number, _ in permitted:
            if self._holds(number, holds):
                return Allowed(transition=number, events=events)
        return Allowed(
            transition=None,
            reason=f"the condition of {event.name} does not hold in state {state}; {shown}",
            events=events,
        )

    def _holds(self, number: int, holds: Callable[[Condition], bool]) -> bool:
        found = self._conditions.get(number)
        return found is None or holds(found)

    # What it does with a claim.

    def decide(self, situation: Situation) -> Decision:
        """Take an event, end a transition, or wait for the next."""
        resume = situation.resume
        if resume is None:
            return Enter(state=self.machine.initial, resume={"state": self.machine.initial, "seq": 0}, data={})
        if "to" in resume:
            return self._doing(situation, resume)
        here = {key: resume[key] for key in ("state", "seq", "waited", "failed") if key in resume}
        if situation.woken_by == "signal":
            event = Event(
                name=resume["name"], payload=resume["signal"], actor=resume["actor"], roles=tuple(resume["roles"])
            )
            allowed = self.choose(resume["state"], event, self._asking(situation, event))
            if allowed.transition is not None:
                return self._take(here, allowed.transition, event, due_at=resume.get("due_at"))
            again = self._wait(here, until=resume.get("due_at"))
            return Refuse(name=event.name, actor=event.actor, reason=allowed.reason, then=again)
        if situation.woken_by == "due":
            return self._time(situation, here)
        return self._rest(situation, here)

    def _asking(self, situation: Situation, event: Event | None) -> Callable[[Condition], bool]:
        own = {} if event is None else {"event": event.as_data()}
        return lambda found: found.holds(situation.value(found.template, own=own))

    def _rest(self, situation: Situation, here: dict[str, Any]) -> Decision:
        """In a state with nothing under way: be done, go on by itself, or wait."""
        if self.machine.states[here["state"]].final:
            return Done(output={"state": here["state"]})
        for number, transition in self.leaving(here["state"]):
            # One that has failed is not taken by itself again: nothing has changed since.
            by_itself = transition.event is None and transition.after is None and number not in here.get("failed", ())
            if by_itself and self._holds(number, self._asking(situation, None)):
                return self._take(here, number, None)
        # Of a transition that failed: the timers of the state go on as they were.
        return self._wait(here, until=(situation.resume or {}).get("due_at"))

    def _timers(self, state: str) -> Sequence[tuple[float, int]]:
        return sorted((found.after, number) for number, found in self.leaving(state) if found.after is not None)

    def _wait(self, here: dict[str, Any], until: str | None = None) -> Park:
        waited = here.get("waited", 0.0)
        coming = [after for after, _ in self._timers(here["state"]) if after > waited]
        seconds = coming[0] - waited if coming and until is None else None
        return Park(resume=here, events=True, seconds=seconds, until=until)

    def _time(self, situation: Situation, here: dict[str, Any]) -> Decision:
        """The next timer of this state has come; one whose condition does not hold lets it pass."""
        waited = here.get("waited", 0.0)
        coming = [(after, number) for after, number in self._timers(here["state"]) if after > waited]
        if not coming:
            return self._wait(here)
        now = coming[0][0]
        for after, number in coming:
            if after == now and self._holds(number, self._asking(situation, None)):
                return self._take(here, number, None)
        return self._wait(here | {"waited": now})

    def _take(self, here: Mapping[str, Any], number: int, event: Event | None, due_at: str | None = None) -> Decision:
        transition = self.machine.transitions[number]
        doing = {
            "state": here["state"],
            "seq": here["seq"],
            "to": transition.to,
            "transition": number,
            "event": None if event is None else event.as_data(),
            "waited": here.get("waited", 0.0) if transition.after is None else transition.after,
            "failed": here.get("failed", []),
            "due_at": due_at,
        }
        if not transition.steps:
            return self._arrive(doing)
        label = transition.event or ("after" if transition.after is not None else "itself")
        inner = f"{here['seq'] + 1}:{label}/"
        return Spawn(resume=doing | {"inner": inner}, inner=inner, transition=number, seconds=transition.timeout)

    def _doing(self, situation: Situation, resume: dict[str, Any]) -> Decision:
        """A transition's steps have ended, well or not."""
        if situation.error is not None:
            error = {key: situation.error.get(key) for key in ("category", "name", "message", "step")}
            failed = sorted({*resume["failed"], resume["transition"]})
            stays = {"state": resume["state"], "seq": resume["seq"] + 1, "waited": resume["waited"], "failed": failed}
            stays["due_at"] = resume.get("due_at")
            return Enter(state=resume["state"], resume=stays, data={"failed": resume["to"], "error": error})
        if situation.woken_by == "due":
            message = f"the transition to {resume['to']} has passed its timeout"
            failure = Failure(category="timeout", name="TransitionTimedOut", message=message)
            return Break(failure=failure, inner=resume["inner"], resume=resume)
        return self._arrive(resume)

    def _arrive(self, doing: Mapping[str, Any]) -> Enter:
        event = doing["event"] or {}
        data = {"from": doing["state"], "event": event.get("name"), "actor": event.get("actor")}
        return Enter(
            state=doing["to"],
            resume={"state": doing["to"], "seq": doing["seq"] + 1},
            data={key: value for key, value in data.items() if value is not None},
            back=self.machine.transitions[doing["transition"]].compensate,
        )


def _may(transition: Transition, event: Event) -> bool:
    """Whether the sender, by name or by role, is among those whom a transition allows."""
    return not transition.actors or bool({event.actor, *event.roles} & set(transition.actors))
