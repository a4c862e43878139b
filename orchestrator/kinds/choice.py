"""choice: the first case whose condition holds is the step's exit, else `default`.

route:
  cases:
    - {exit: express, when: "{{ input.total > 100 }}"}
    - {exit: pickup, when: "{{ input.method == 'pickup' }}"}
"""

from __future__ import annotations

from pydantic import Field

from orchestrator.errors import ExpressionError
from orchestrator.kinds.kind import Decision, Done, Plain, Situation, Spec, read
from orchestrator.kinds.truth import condition
from orchestrator.model.definition import Name, Step

DEFAULT = "default"


class ChoiceSpec(Spec):
    """Conditions and the exits that they lead to."""

    #: In the order in which they are asked; a list, as the ledger's jsonb keeps no order of keys.
    cases: tuple[Case, ...] = Field(min_length=1)
    #: Take the default exit when a condition cannot be computed; otherwise the step fails.
    default_on_error: bool = False


class Case(Spec):
    """A condition and the exit that it leads to."""

    exit: Name
    when: str | bool


class Choice(Plain):
    """Chooses an exit. Its output is the exit's name."""

    def __init__(self, step: Step) -> None:
        spec = read(ChoiceSpec, step)
        self._default_on_error = spec.default_on_error
        self._cases = {case.exit: condition(case.when, f'case "{case.exit}"') for case in spec.cases}
        if len(self._cases) < len(spec.cases):
            raise ValueError("two cases have one exit; name another")
        self.exits = tuple(dict.fromkeys([*self._cases, DEFAULT]))
        self.templates = tuple(case.template for case in self._cases.values())

    def decide(self, situation: Situation) -> Decision:
        """The first exit whose condition holds."""
        try:
            for name, case in self._cases.items():
                if case.holds(situation.plain(case.template)):
                    return Done(output=name, exit=name)
        except ExpressionError:
            if not self._default_on_error:
                raise
        return Done(output=DEFAULT, exit=DEFAULT)
