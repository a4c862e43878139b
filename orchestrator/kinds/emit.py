"""emit: an event that other executions wait for, by name and correlation."""

from __future__ import annotations

from typing import Any

from orchestrator.kinds.kind import Decision, Emit, Plain, Situation, Spec, read, template
from orchestrator.model.definition import Name, Step


class EmitSpec(Spec):
    """The event; values may be expressions."""

    event: Name
    payload: Any = None
    correlation: str


class Emits(Plain):
    """Records the event and succeeds with its payload."""

    def __init__(self, step: Step) -> None:
        self._spec = read(EmitSpec, step)
        self._payload = template(self._spec.payload, "payload")
        self._correlation = template(self._spec.correlation, "correlation")
        self.templates = (self._payload, self._correlation)

    def decide(self, situation: Situation) -> Decision:
        """Always the event."""
        correlation = str(situation.plain(self._correlation))
        return Emit(name=self._spec.event, payload=situation.plain(self._payload), correlation=correlation)
