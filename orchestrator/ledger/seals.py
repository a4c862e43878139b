"""Seals values with the keys of the ledger's secrets: fields that a schema marks as secret, from their start on.

A token is bound to its tenant. Two of the same value differ; only their keyed hashes are equal, so that a start that is
sent twice is known for the same, and the hash gives nothing away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pydantic import SecretStr

from orchestrator.errors import ConfigurationError, InvalidInput
from orchestrator.ledger.secrets import Keys
from orchestrator.model.payload import canonical, digest
from orchestrator.sealed import SEALED, composed, mapped

#: No secret of a connector can have this name, so that neither is ever taken for the other.
_NAME = SEALED


class Seals:
    """Seals and opens values; needs its keys only once there is one to seal or open.

    Args:
        keys: the first seals, all open.
    """

    def __init__(self, keys: Sequence[SecretStr] = ()) -> None:
        self._given = tuple(keys)

    @cached_property
    def _keys(self) -> Keys:
        return Keys(self._given)

    def require(self, what: str) -> None:
        """ConfigurationError unless there are keys to seal with; `what` says whose."""
        if not self._given:
            raise ConfigurationError(
                f"{what} has fields that its schema marks as secret, and there is no key to seal them with: set "
                "ORCHESTRATOR_SECRET_KEYS, to what `orchestrator secrets key` prints, here and on the workers"
            )

    def seal(self, tenant: str, value: Any) -> dict[str, Any]:
        """The envelope of a value, which only these keys open, and only for this tenant."""
        return {SEALED: self._keys.encrypt(tenant, _NAME, canonical(value))}

    def open(self, tenant: str, envelope: Any) -> Any:
        """The value in an envelope; ConfigurationError when no key fits, or it is none of ours."""
        content = envelope[SEALED]
        if isinstance(content, list):
            parts = [part if isinstance(part, str) else self.open(tenant, part) for part in content]
            return "".join(part if isinstance(part, str) else canonical(part) for part in parts)
        try:
            return json.loads(self._keys.decrypt(tenant, _NAME, content))
        except ConfigurationError:
            self._require_any()
            raise ConfigurationError(
                "a sealed value was sealed with none of ORCHESTRATOR_SECRET_KEYS, or for another tenant; bring its key "
                "back, behind the first"
            ) from None

    def require_ours(self, tenant: str, data: Any, what: str) -> None:
        """Refuse sealed values that were not made with these keys for this tenant.

        Raises:
            InvalidInput: says that they are refused, not what they are.
        """

        def check(envelope: Any) -> Any:
            if not self._is_ours(tenant, envelope):
                raise InvalidInput(f'{what} has a key "{SEALED}", which is the orchestrator\'s own; rename it')
            return envelope

        mapped(data, check)

    def hashes(self, tenant: str, data: Any) -> list[str]:
        """SHA-256 of the data's canonical JSON with a keyed hash in the place of each sealed value: one for each key,
        the first key's first, so that a start is known again after a change of keys."""
        opened = mapped(data, lambda envelope: composed([canonical(self.open(tenant, envelope))]))
        if opened is data:
            return [digest(data)]

        def hashed(number: int) -> str:
            return digest(mapped(opened, lambda plain: self._keys.keyed_hashes(tenant, plain[SEALED][0])[number]))

        return [hashed(number) for number in range(len(self._given))]

    def _is_ours(self, tenant: str, envelope: Any) -> bool:
        content = envelope[SEALED]
        if len(envelope) != 1 or not isinstance(content, str | list):
            return False
        if isinstance(content, list):
            parts = [part for part in content if not isinstance(part, str)]
            return all(isinstance(part, dict) and SEALED in part and self._is_ours(tenant, part) for part in parts)
        try:
            self.open(tenant, envelope)
        except ConfigurationError:
            return False
        return True

    def _require_any(self) -> None:
        if not self._given:
            raise ConfigurationError(
                "a sealed value cannot be opened without its key: set ORCHESTRATOR_SECRET_KEYS here, too"
            )


#: Refuses what would have to be sealed or opened.
NO_KEYS = Seals()
