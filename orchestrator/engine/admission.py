"""What comes in from outside and may hold secrets: checked, its secret fields sealed, and then text for the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from orchestrator.authoring.schema import validate
from orchestrator.authoring.secret_fields import Place, secret_fields
from orchestrator.ledger.seals import Seals
from orchestrator.model.payload import encode
from orchestrator.model.revealed import revealed
from orchestrator.sealed import SEALED, is_sealed


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """A payload as it may be kept."""

    #: JSON text.
    text: str
    data: Any


def admit(seals: Seals, tenant: str, value: Any, schema: dict[str, Any] | None, *, limit: int, what: str) -> Admitted:
    """Make a payload JSON, hold it against its schema, and seal what that marks as secret.

    Args:
        limit: most bytes of its JSON, before anything is sealed.
        what: names it in errors, such as "input of order".

    Raises:
        InvalidInput: it does not fit, or claims to be sealed and is not by us.
        PayloadError: it is not JSON, or too large.
        ConfigurationError: it has secrets, and there is no key to seal them with.
    """
    text, fields = encode(value, limit=limit, what=what), secret_fields(schema)
    data = json.loads(text)
    if fields is not None:
        seals.require(what)
        data = json.loads(encode(revealed(value, data), limit=limit, what=what))
    if SEALED in text:
        seals.require_ours(tenant, data, what)
    if schema is not None:
        validate(data, schema, what)
    if fields is not None:
        data = sealed_at(seals, tenant, data, fields.places(data))
        text = json.dumps(data, ensure_ascii=False)
    return Admitted(text=text, data=data)


def sealed_at(seals: Seals, tenant: str, data: Any, places: set[Place], at: Place = ()) -> Any:
    """JSON data with what is at some places sealed."""
    if at in places and not is_sealed(data):
        return seals.seal(tenant, data)
    if not any(place[: len(at)] == at for place in places):
        return data
    if isinstance(data, dict):
        return {key: sealed_at(seals, tenant, item, places, (*at, key)) for key, item in data.items()}
    if isinstance(data, list):
        return [sealed_at(seals, tenant, item, places, (*at, index)) for index, item in enumerate(data)]
    return data
