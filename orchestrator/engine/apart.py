"""Work on many executions, of which one that cannot be worked on does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from orchestrator.ledger import database

logger = logging.getLogger("orchestrator.engine")


class Apart:
    """Each piece of work is done, whatever becomes of the others; at the end the first error is raised.

    A definition that a newer release wrote cannot be read here, say, or somebody holds a row for long. What is left
    undone is found again by the next sweep; a connection that is lost ends all of it at once, as there is none to go on
    with. A context manager.
    """

    def __init__(self) -> None:
        self._first: Exception | None = None

    @contextmanager
    def one(self, execution_id: str = "") -> Iterator[None]:
        """One piece, of an execution or of several."""
        try:
            yield
        except Exception as error:
            if database.is_lost(error):
                raise
            if execution_id:
                logger.exception("one execution is left for later", extra={"execution_id": execution_id})
            self._first = self._first or error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._first is not None:
            raise self._first
