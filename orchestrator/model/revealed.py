"""Brings the values of SecretStr fields into JSON data, where pydantic writes asterisks."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr


def revealed(value: Any, data: Any) -> Any:
    """The JSON data of a value with what its SecretStr and SecretBytes fields hold.

    Args:
        value: data, pydantic models or dataclasses.
        data: what `encode` has made of it.
    """
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, SecretBytes):
        return value.get_secret_value().decode()
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict) and isinstance(data, dict):
        named = {str(key): item for key, item in value.items()}
        return {key: revealed(named.get(key), item) for key, item in data.items()}
    if isinstance(value, list | tuple) and isinstance(data, list) and len(value) == len(data):
        return [revealed(old, new) for old, new in zip(value, data, strict=True)]
    return data
