"""What authors make in Python: a workflow that can be started by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.current import get_current
from orchestrator.model.definition import Definition


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A definition that can be started by itself. Modules hold it under a name, where discovery finds it."""

    #: The canonical form.
    definition: Definition

    @property
    def name(self) -> str:
        """The definition's name."""
        return self.definition.name

    def start(self, input: Any = None, **options: Any) -> Any:  # noqa: A002 - the facade's word
        """Start an execution through the process's orchestrator; takes the options of `Orchestrator.start`.

        Raises:
            ConfigurationError: the process has no orchestrator.
        """
        return get_current().start(self.name, input, **options)

    def delay(self, **input: Any) -> Any:  # noqa: A002 - the facade's word
        """Start an execution whose input is the keywords; ConfigurationError when the process has no orchestrator."""
        return self.start(input)
