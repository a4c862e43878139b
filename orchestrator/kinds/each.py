"""each: the body once for every item of a list.

notify:
  items: "{{ input.customers }}"
  concurrency: 10

Items are shared out among `concurrency` lanes, each an unbroken range; within a lane one iteration follows the other,
so that a worker goes through it as through a chain. One lane is a loop in order. Lanes end at one join. The items are
kept once, on the step's row; results are not copied anywhere, but gathered, in order, when something refers to them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from orchestrator.kinds.kind import Decision, Done, Plain, Situation, Spawn, Spec, broken, failure, read, template
from orchestrator.model.definition import Step
from orchestrator.model.loop import Lanes

#: Most lanes of one loop: each is a row that starts ready, and a message.
MAX_LANES = 1_000
#: Most items, unless the loop says otherwise.
MAX_ITERATIONS = 10_000


class EachSpec(Spec):
    """The list and how it is gone through."""

    #: The list, or an expression that gives it.
    items: str | list[Any]
    #: Iterations at the same time; 1 is in order.
    concurrency: int = Field(default=1, ge=1, le=MAX_LANES)
    #: A longer list fails the step before anything of it is done.
    max_iterations: int = Field(default=MAX_ITERATIONS, ge=0, le=1_000_000)


class Each(Plain):
    """A loop over a list. Its output is the list of the iterations' results."""

    has_body: ClassVar[bool] = True
    names: ClassVar[frozenset[str]] = frozenset({"item", "index"})

    def __init__(self, step: Step) -> None:
        self._spec = read(EachSpec, step)
        self._items = template(self._spec.items, "items")
        self.templates = (self._items,)

    def decide(self, situation: Situation) -> Decision:
        """Begin the lanes; later, be done."""
        if situation.error is not None:
            return broken(situation.error)
        if situation.resume is not None:
            return Done()
        items = situation.plain(self._items)
        if not isinstance(items, list):
            return failure("NoList", f"items of {situation.path} gave no list but a {type(items).__name__}")
        if len(items) > self._spec.max_iterations:
            limit = self._spec.max_iterations
            return failure("TooManyIterations", f"{situation.path} has {len(items)} items, over max_iterations {limit}")
        lanes = Lanes(count=len(items), lanes=min(len(items), self._spec.concurrency))
        resume = {"items": items, "count": lanes.count, "lanes": lanes.lanes}
        return Spawn(resume=resume, iterations=lanes.heads()) if items else Done(output=[])
