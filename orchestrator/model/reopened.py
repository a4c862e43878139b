"""Rows of an execution that has ended, and what a retry makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from orchestrator.model.state import StepStatus


class Row(NamedTuple):
    """A step or compensation, as the ledger has it."""

    path: str
    status: str
    #: By which exit it ended; None is the ordinary one.
    exit: str | None
    #: Of its error.
    category: str | None
    name: str | None
    #: Where it stood when it was cancelled with its execution, and until when it would have waited.
    was: str | None
    was_due_at: datetime | None
    awaits: str | None
    woken_by: str | None
    #: Whether it has something to remember.
    remembers: bool
    attempt: int
    #: The step that it undoes.
    undoes: str | None
    parents: Sequence[str] | None
    #: What the paths of its body begin with, where that is not always the same: of a machine in a transition.
    inner: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reopened:
    """What becomes of a row."""

    path: str
    status: StepStatus
    exit: str | None = None
    #: JSON text, of a step that is given its output by hand.
    output: str | None = None
    due_at: datetime | None = None
    awaits: str | None = None
    wait_name: str | None = None
    woken_by: str | None = None
    #: Whether what it remembers is replaced by `resume`.
    fresh: bool = False
    resume: Any = None
    #: What a compensation waits for now.
    parents: tuple[str, ...] | None = None
