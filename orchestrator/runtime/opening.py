"""The sealed values that one attempt opens: in this process's memory, right before the call, and nowhere else.

While the attempt lasts they are masked in texts (logs, errors, tracebacks). In data, which later steps work with, they
are not masked but sealed again: a text that is one or holds one, and a number that is one.
"""

from __future__ import annotations

import json
from typing import Any

from orchestrator.authoring.secret_fields import secret_fields
from orchestrator.engine.admission import sealed_at
from orchestrator.ledger.seals import Seals
from orchestrator.model.payload import canonical
from orchestrator.model.revealed import revealed
from orchestrator.redaction import SHORTEST, Masking, redact_json
from orchestrator.sealed import is_sealed, mapped


class Opening:
    """What an attempt has opened; a block, at whose end it is forgotten."""

    def __init__(self, seals: Seals, tenant: str) -> None:
        self._seals, self._tenant = seals, tenant
        self._masking: Masking | None = None
        self._values: set[str] = set()

    def __enter__(self) -> Opening:
        return self

    def __exit__(self, *_: object) -> None:
        if self._masking is not None:
            self._masking.close()

    def open(self, data: Any) -> Any:
        """Data with its sealed values opened; ConfigurationError when there is no key for one."""
        return mapped(data, self._opened)

    def keep(self, text: str) -> str:
        """JSON text as it may be kept: what was opened is sealed, and secrets of connectors are masked."""
        return redact_json(self.sealed(text))

    def marked(self, value: Any, text: str, schema: dict[str, Any]) -> str:
        """The JSON text of an output whose secret fields, by its schema, are sealed."""
        data, fields = revealed(value, json.loads(text)), secret_fields(schema)
        if fields is not None:
            data = sealed_at(self._seals, self._tenant, data, fields.places(data))
        return json.dumps(data, ensure_ascii=False)

    def sealed(self, text: str) -> str:
        """JSON text in which what was opened is sealed again."""
        if self._masking is None:
            return text
        data = json.loads(text)
        found = self._sealed(data)
        return text if found is data else json.dumps(found, ensure_ascii=False)

    def _opened(self, envelope: Any) -> Any:
        value = self._seals.open(self._tenant, envelope)
        self._note(value)
        return value

    def _note(self, value: Any) -> None:
        """Know a value, and whatever is in it, by its text."""
        if isinstance(value, dict):
            for item in value.values():
                self._note(item)
        elif isinstance(value, list):
            for item in value:
                self._note(item)
        elif value is not None and not isinstance(value, bool):
            text = value if isinstance(value, str) else canonical(value)
            if self._masking is None:
                self._masking = Masking()
            if len(text) >= SHORTEST:
                self._masking.add(text)
                self._values.add(text)

    def _sealed(self, data: Any) -> Any:
        if isinstance(data, str):
            return self._seals.seal(self._tenant, data) if self._holds(data) else data
        if isinstance(data, int | float) and not isinstance(data, bool):
            return self._seals.seal(self._tenant, data) if canonical(data) in self._values else data
        if isinstance(data, dict) and not is_sealed(data):
            entries = {key: self._sealed(item) for key, item in data.items()}
            return entries if any(entries[key] is not item for key, item in data.items()) else data
        if isinstance(data, list):
            items = [self._sealed(item) for item in data]
            return items if any(new is not old for new, old in zip(items, data, strict=True)) else data
        return data

    def _holds(self, text: str) -> bool:
        return text in self._values or (self._masking is not None and self._masking.found_in(text))
