"""delay: until some time has passed, or until a time has come. Kept in the ledger; no worker waits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, model_validator

from orchestrator.durations import seconds
from orchestrator.kinds.kind import Decision, Done, Park, Plain, Situation, Spec, failure, read, template
from orchestrator.model.definition import Step


class DelaySpec(Spec):
    """How long; values may be expressions."""

    #: Seconds, or a text such as 90m, 7d or P1D.
    for_: Any = Field(default=None, alias="for")
    #: A time with its zone, in ISO 8601.
    until: str | None = None

    @model_validator(mode="after")
    def _one(self) -> DelaySpec:
        if (self.for_ is None) == (self.until is None):
            raise ValueError("give either for or until")
        return self


class Delay(Plain):
    """Waits."""

    def __init__(self, step: Step) -> None:
        spec = read(DelaySpec, step)
        self._is_until = spec.for_ is None
        self._when = template(spec.until if self._is_until else spec.for_, "until" if self._is_until else "for")
        if self._when.is_constant:
            _moment(self._when.constant) if self._is_until else seconds(self._when.constant)
        self.templates = (self._when,)

    def decide(self, situation: Situation) -> Decision:
        """Park; later, be done."""
        if situation.resume is not None:
            return Done()
        when = situation.plain(self._when)
        try:
            return Park(resume={}, until=_moment(when)) if self._is_until else Park(resume={}, seconds=seconds(when))
        except ValueError as error:
            return failure("NoTime" if self._is_until else "NoDuration", f"{situation.path}: {error}")


def _moment(value: object) -> str:
    """A time as ISO 8601 text; ValueError for anything else, which the ledger would guess at or choke on."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{str(value)[:60]!r} is no time with a zone; write it as 2026-01-31T09:00:00+01:00")
    return found.isoformat()
