"""repeat: the body again and again, while or until a condition holds.

poll:
  until: "{{ steps.ask.output.ready }}"
  max_iterations: 20
  pause: 5s
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from orchestrator.durations import seconds
from orchestrator.kinds.kind import Decision, Done, Park, Plain, Situation, Spawn, Spec, broken, failure, read
from orchestrator.kinds.truth import condition
from orchestrator.model.definition import Step

MAX_ITERATIONS = 100


class RepeatSpec(Spec):
    """When to go on, and how often at most."""

    #: Asked before each iteration, the first included; `index` is that iteration's, steps are those of the one before.
    while_: str | bool | None = Field(default=None, alias="while")
    #: Asked after each iteration.
    until: str | bool | None = None
    #: A further iteration fails the step.
    max_iterations: int = Field(default=MAX_ITERATIONS, ge=1, le=1_000_000)
    #: Wait this long between two iterations: seconds, or a text such as 5s.
    pause: float | str = 0

    @model_validator(mode="after")
    def _one(self) -> RepeatSpec:
        if (self.while_ is None) == (self.until is None):
            raise ValueError("give either while or until")
        return self


class Repeat(Plain):
    """A loop with a condition. Its output is the last iteration's; null when there was none."""

    has_body: ClassVar[bool] = True
    names: ClassVar[frozenset[str]] = frozenset({"index"})

    def __init__(self, step: Step) -> None:
        spec = read(RepeatSpec, step)
        self._max = spec.max_iterations
        self._pause = seconds(spec.pause)
        written = spec.until if spec.while_ is None else spec.while_
        self._is_until = spec.while_ is None
        self._condition = condition(True if written is None else written, "until" if self._is_until else "while")
        self.inner_templates = (self._condition.template,)

    def decide(self, situation: Situation) -> Decision:
        """Ask the condition, and begin the next iteration or be done."""
        if situation.error is not None:
            return broken(situation.error)
        done: int = (situation.resume or {}).get("done", 0)
        if situation.woken_by == "body":
            done += 1
        paused = situation.woken_by == "due"
        if not paused and not self._goes_on(situation, done):
            return Done(output=self._result(situation, done))
        if done >= self._max:
            return failure("TooManyIterations", f"{situation.path} is not done after max_iterations {self._max}")
        if self._pause and done and not paused:
            return Park(resume={"done": done}, seconds=self._pause)
        return Spawn(resume={"done": done}, iterations=(done,))

    def _goes_on(self, situation: Situation, done: int) -> bool:
        if self._is_until and not done:
            return True
        # `until` is asked of the iteration that has ended, `while` of the one that would begin.
        last = max(done - 1, 0)
        found = situation.value(self._condition.template, last, {"index": last if self._is_until else done})
        return self._condition.holds(found) is not self._is_until

    def _result(self, situation: Situation, done: int) -> Any:
        return situation.result(done - 1) if done else None
