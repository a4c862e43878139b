"""A plan: what to hand to Celery now, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One Celery task: the steps that a worker runs back to back.

    Its message names only the head; the worker, who has the definition, knows how it goes on.
    """

    paths: tuple[str, ...]
    queue: str
    #: The task of the application's own that its only step is. It stands alone: no chain or chord goes on from it.
    task: str | None = None

    @property
    def head(self) -> str:
        """The first path."""
        return self.paths[0]

    @property
    def tail(self) -> str:
        """The last path."""
        return self.paths[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Segments one after another: a linear part whose steps cannot share a task."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chord:
    """Segments side by side, and the one that follows when all have succeeded."""

    header: tuple[Segment, ...]
    body: Segment


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that may be published now. Parts are independent of each other."""

    parts: tuple[Chain | Chord, ...]
