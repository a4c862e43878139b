"""wait: for a signal or event by name. One that came early counts; none is taken twice by the same execution."""

from __future__ import annotations

from orchestrator.durations import seconds
from orchestrator.kinds.kind import Decision, Done, Park, Plain, Situation, Spec, failure, read, template
from orchestrator.model.definition import Name, Step


class WaitSpec(Spec):
    """What to wait for."""

    signal: Name
    #: Wait for an event with this correlation, whoever emits it, instead of a signal to the execution itself.
    correlation: str | None = None
    #: Give up after this long, with an error of category timeout and name WaitTimedOut.
    timeout: float | str | None = None


class Wait(Plain):
    """Its output is the signal's payload."""

    def __init__(self, step: Step) -> None:
        self._spec = read(WaitSpec, step)
        self._correlation = None if self._spec.correlation is None else template(self._spec.correlation, "correlation")
        self._timeout = template(self._spec.timeout, "timeout")
        if self._timeout.is_constant and self._timeout.constant is not None:
            seconds(self._timeout.constant)
        self.templates = (self._timeout, *(() if self._correlation is None else (self._correlation,)))

    def decide(self, situation: Situation) -> Decision:
        """Park; later, hand on the payload or give up."""
        resume = situation.resume
        if resume is not None and "signal" in resume:
            return Done(output=resume["signal"])
        if resume is not None and situation.woken_by == "due":
            return failure("WaitTimedOut", f"{situation.path}: no signal {self._spec.signal} came in time", "timeout")
        limit = situation.plain(self._timeout)
        correlation = None if self._correlation is None else situation.plain(self._correlation)
        if correlation is not None and not isinstance(correlation, str):
            correlation = str(correlation)
        try:
            longest = None if limit is None else seconds(limit)
        except ValueError as error:
            return failure("NoDuration", f"{situation.path}: {error}")
        return Park(resume={}, signal=self._spec.signal, correlation=correlation, seconds=longest)
