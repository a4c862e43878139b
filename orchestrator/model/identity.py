"""Names that identify: executions, compensations, idempotency keys."""

from __future__ import annotations

import uuid

import uuid_utils.compat

#: A compensation's path is this and the path of the step that it undoes.
UNDO_PREFIX = "undo:"


def new_id() -> uuid.UUID:
    """A UUIDv7: ordered by creation time, so that indexes grow at one end."""
    return uuid.UUID(int=uuid_utils.compat.uuid7().int)


def undo_path(path: str) -> str:
    """The path of the compensation of a step."""
    return UNDO_PREFIX + path


def undone_path(path: str) -> str | None:
    """The step that a path's compensation undoes; None for a step's own path."""
    return path.removeprefix(UNDO_PREFIX) if path.startswith(UNDO_PREFIX) else None


def step_key(execution_id: str, path: str) -> str:
    """The idempotency key that every attempt of a step hands to the outside service."""
    return f"{execution_id}/{path}"
