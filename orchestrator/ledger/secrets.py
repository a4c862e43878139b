"""Secrets of connectors: encrypted by keys that only processes have, so that the database alone gives none away."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, text

from orchestrator.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,199}")

PUT = text("""
INSERT INTO orchestrator.secret (tenant, name, token) VALUES (:tenant, :name, :token)
ON CONFLICT (tenant, name) DO UPDATE SET token = excluded.token, updated_at = clock_timestamp()
RETURNING CAST(xmax AS text) = '0'
""")
TOKEN = text("SELECT token FROM orchestrator.secret WHERE tenant = :tenant AND name = :name")
LISTED = text("""
SELECT name, created_at, updated_at FROM orchestrator.secret WHERE tenant = :tenant ORDER BY name
""")
REMOVE = text("DELETE FROM orchestrator.secret WHERE tenant = :tenant AND name = :name RETURNING name")
TOKENS = text("SELECT name, token FROM orchestrator.secret WHERE tenant = :tenant ORDER BY name")
#: Guarded by what was read: a secret that somebody has just set is not put back.
ROTATE = text("""
UPDATE orchestrator.secret SET token = :token WHERE tenant = :tenant AND name = :name AND token = :old RETURNING name
""")


class Keys:
    """The keys that secrets are encrypted with: the first encrypts, all decrypt.

    Raises:
        ConfigurationError: there is none, or one is no key; shows none.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        if not keys:
            raise ConfigurationError(
                "no key for secrets: set ORCHESTRATOR_SECRET_KEYS, to what `orchestrator secrets key` prints"
            )
        made = []
        self._hashing = [hashlib.sha256(b"hash:" + key.get_secret_value().encode()).digest() for key in keys]
        for number, key in enumerate(keys, 1):
            try:
                made.append(Fernet(key.get_secret_value()))
            except ValueError:
                raise ConfigurationError(
                    f"key {number} of ORCHESTRATOR_SECRET_KEYS is none; `orchestrator secrets key` makes one"
                ) from None
        self._fernet = MultiFernet(made)

    def encrypt(self, tenant: str, name: str, value: str) -> str:
        """A token that only these keys read, and only as this tenant's secret of this name."""
        return self._fernet.encrypt(json.dumps([tenant, name, value]).encode()).decode()

    def decrypt(self, tenant: str, name: str, token: str) -> str:
        """The value in a token; ConfigurationError when no key fits, or it is another secret's."""
        try:
            found = json.loads(self._fernet.decrypt(token))
        except InvalidToken:
            raise ConfigurationError(
                f"the secret {name} was encrypted with none of ORCHESTRATOR_SECRET_KEYS; bring its key back, or set it "
                f"anew with `orchestrator secrets set {name}`"
            ) from None
        if found[:2] != [tenant, name]:
            raise ConfigurationError(f"the secret {name} holds the token of another; set it anew")
        return str(found[2])

    def keyed_hashes(self, tenant: str, text: str) -> list[str]:
        """HMAC-SHA256 of a text by each key, in hex: equal for equal texts, and no guess can be tried without a key."""
        message = json.dumps([tenant, text]).encode()
        return [hmac.new(key, message, hashlib.sha256).hexdigest() for key in self._hashing]


def new_key() -> str:
    """A key for ORCHESTRATOR_SECRET_KEYS."""
    return Fernet.generate_key().decode()


def put(connection: Connection, keys: Keys, tenant: str, name: str, value: str) -> bool:
    """Keep a secret, in place of an older one of the name; whether it is new. ConfigurationError for an unfit name."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be a secret's name; use up to 200 letters, digits and _./-, the first a letter or _"
        )
    token = keys.encrypt(tenant, name, value)
    return bool(connection.execute(PUT, {"tenant": tenant, "name": name, "token": token}).scalar_one())


def get(connection: Connection, keys: Keys, tenant: str, name: str) -> str | None:
    """A secret's value; None when there is no such secret."""
    token = connection.execute(TOKEN, {"tenant": tenant, "name": name}).scalar_one_or_none()
    return None if token is None else keys.decrypt(tenant, name, token)


def listed(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """Name and times of each secret, never its value."""
    rows = connection.execute(LISTED, {"tenant": tenant})
    times: list[tuple[str, datetime, datetime]] = [tuple(row) for row in rows]
    return [{"name": name, "created_at": created, "updated_at": updated} for name, created, updated in times]


def remove(connection: Connection, tenant: str, name: str) -> bool:
    """Forget a secret; False means there was none."""
    return connection.execute(REMOVE, {"tenant": tenant, "name": name}).first() is not None


def rotate(connection: Connection, keys: Keys, tenant: str) -> int:
    """Encrypt every secret with the first key, after which the others may go; how many were rewritten."""
    rewritten = 0
    for name, old in connection.execute(TOKENS, {"tenant": tenant}).all():
        token = keys.encrypt(tenant, name, keys.decrypt(tenant, name, old))
        parameters = {"tenant": tenant, "name": name, "old": old, "token": token}
        rewritten += connection.execute(ROTATE, parameters).first() is not None
    return rewritten


def reader(ledger: Callable[[], Engine], tenant: str, keys: Sequence[SecretStr]) -> Callable[[str], str | None]:
    """What connectors read the ledger's secrets with.

    Args:
        ledger: whose connections the attempt that asks does not hold itself.
    """

    def read(name: str) -> str | None:
        usable = Keys(keys)
        with ledger().connect() as connection:
            return get(connection, usable, tenant, name)

    return read
