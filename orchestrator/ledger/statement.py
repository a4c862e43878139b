"""Statements on every step's path, handed to psycopg as they are.

SQLAlchemy's own execution of a constant text costs 70 us of CPU on top of psycopg's 90 (measured side by side with the
settle-and-claim statement); at some 500 us a step that is the largest single saving left. The connection, its
transaction and the exceptions are SQLAlchemy's all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.ledger import fellows

#: `:name`, but no cast (`::`).
_NAME = re.compile(r"(?<!:):(\w+)")


class Statement:
    """One constant statement with `:name` parameters."""

    def __init__(self, text: str) -> None:
        if "%" in text:
            raise ValueError("a percent sign would be read as a placeholder")
        self.text = text
        self._sql = _NAME.sub(r"%(\1)s", text).encode()

    def first(self, connection: Connection, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Carry it out and return its first row, None when it has none; errors are SQLAlchemy's."""
        raw = connection.connection.driver_connection
        if not isinstance(raw, psycopg.Connection):
            raise TypeError(f"the ledger needs psycopg 3, not {type(raw).__module__}")
        try:
            return raw.execute(self._sql, parameters).fetchone()
        except psycopg.Error as error:
            # psycopg marks a connection that broke under a statement as closed.
            if lost := raw.closed:
                fellows.lost(connection.engine)
            raise DBAPIError.instance(
                self.text, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost
            ) from error
