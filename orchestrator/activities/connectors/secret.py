"""Fields of connectors that hold secrets: a reference in the settings, a SecretStr once resolved."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo

#: Where a secret may come from: a variable of the process, or the ledger.
SOURCES = ("env", "secret")
#: The key of the validation context under which a Resolve stands; without one only the form is checked.
RESOLVE = "resolve"

_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_SECRET_NAME = re.compile(r"auth|cookie|key|token|secret|password|signature|credential", re.IGNORECASE)


def _resolved(value: object, info: ValidationInfo) -> SecretStr:
    if isinstance(value, dict) and len(value) == 1:
        ((source, name),) = value.items()
        if source in SOURCES and isinstance(name, str) and name:
            resolve = (info.context or {}).get(RESOLVE)
            return SecretStr(resolve(source, name) if resolve else "")
    raise ValueError("is a secret and is not written here; give {env: NAME} or {secret: NAME}")


def _url(value: object, info: ValidationInfo) -> SecretStr:
    """A URL without a password is no secret, and may stand in the settings."""
    if isinstance(value, str) and "://" in value:
        url = urlsplit(value)
        if url.password is None and not any(_SECRET_NAME.search(key) for key, _ in parse_qsl(url.query)):
            return SecretStr(value)
    return _resolved(value, info)


def _web(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and not url.lower().startswith(("https://", "http://")):
        raise ValueError("is no URL; it begins with https://")
    return value


def _header(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    # Checked here, as HTTP libraries show a header that they refuse.
    if text and not _HEADER_VALUE.fullmatch(text):
        raise ValueError("has characters that a header cannot hold, perhaps a line's end; set the secret anew")
    return value


def _headers(value: object, info: ValidationInfo) -> dict[str, Any]:
    """A header's value may stand in the settings unless its name says that it is a secret."""
    if not isinstance(value, dict):
        raise ValueError("must map names to values")
    return {
        str(name): SecretStr(given)
        if isinstance(given, str) and not _SECRET_NAME.search(str(name))
        else _named(str(name), given, info)
        for name, given in value.items()
    }


def _named(name: str, value: object, info: ValidationInfo) -> SecretStr:
    try:
        return _resolved(value, info)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


Secret = Annotated[SecretStr, BeforeValidator(_resolved)]
#: A secret that goes into a header.
HeaderSecret = Annotated[Secret, AfterValidator(_header)]
#: The URL of a web service that is a secret itself, as of a chat's webhook.
SecretUrl = Annotated[Secret, AfterValidator(_web)]
#: A server's URL, a secret if it holds a password.
ServerUrl = Annotated[SecretStr, BeforeValidator(_url)]
SecretHeaders = Annotated[dict[str, Annotated[SecretStr, AfterValidator(_header)]], BeforeValidator(_headers)]
