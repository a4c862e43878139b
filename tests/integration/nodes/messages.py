"""Messages as the tests see them, whatever the broker."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Message:
    """One message as it was published."""

    #: The queue's name, its priority aside.
    queue: str
    #: The envelope as JSON, which is how it lies in Redis.
    raw: bytes

    @cached_property
    def content(self) -> dict[str, Any]:
        """The envelope: headers, properties, body."""
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def headers(self) -> dict[str, Any]:
        """Celery's headers."""
        found: dict[str, Any] = self.content["headers"]
        return found

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.headers["task"])

    @property
    def args(self) -> list[Any]:
        """The task's positional arguments."""
        found: list[Any] = self._body[0]
        return found

    @property
    def chord_body(self) -> str | None:
        """The head of the segment that follows the chord which this message is a header of."""
        chord = self._body[2].get("chord")
        return None if chord is None else chord["args"][2]

    @cached_property
    def _body(self) -> list[Any]:
        """Arguments, keyword arguments, and the canvas around them."""
        body = base64.b64decode(self.content["body"])
        if self.headers.get("compression"):
            body = zlib.decompress(body)
        found: list[Any] = json.loads(body)
        return found
