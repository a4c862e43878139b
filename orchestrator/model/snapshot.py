"""What the ledger tells the compiler about one execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.model.state import ExecutionStatus, StepStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """An execution at a moment.

    After a settle it holds only what that settle made ready: a plan of the newly ready never needs the rest. Recovery
    reads it whole.
    """

    #: Forward steps start only while it is running.
    status: ExecutionStatus
    #: Paths that are ready and shall be published now.
    ready: tuple[str, ...]
    #: Paths known to have succeeded. Right after a settle it is empty: no join behind the newly ready can have a
    #: settled parent that matters to a chord.
    settled: frozenset[str] = field(default_factory=frozenset)
    #: The step that all the ready ones are the beginning of the body of.
    container: str | None = None
    #: Of each ready compensation: those still blocked behind it, in the order in which they follow.
    pending_undo: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempted:
    """A forward step that was attempted and has ended."""

    path: str
    status: StepStatus
    #: Its effect committed together with its success, so that without success there is none.
    transactional: bool
    #: How its compensation stands; None when it has none so far.
    undo: StepStatus | None = None
