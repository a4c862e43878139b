"""The connectors of a process by name: read from the settings, their secrets resolved at first use and kept shortly."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from orchestrator import clock, redaction
from orchestrator.activities import net
from orchestrator.activities.connectors.kinds import Connector
from orchestrator.activities.connectors.secret import RESOLVE
from orchestrator.config import variable
from orchestrator.errors import ConfigurationError
from orchestrator.spelling import did_you_mean

#: Gives the value of a name, or None.
Lookup = Callable[[str], str | None]

#: Seconds that a resolved secret is used before it is asked for again, so that a changed one soon counts.
LIFETIME = 60.0

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_ADAPTER: TypeAdapter[Connector] = TypeAdapter(Annotated[Connector, Field(discriminator="kind")])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Resolved:
    connector: Connector
    at: float


class Connectors:
    """Named connectors. Making it checks their form and resolves nothing.

    Args:
        given: a mapping of names to connectors, the same as JSON text, or the path of a YAML or JSON file.
        secret: reads a secret from the ledger; None where there is no ledger.
        environment: reads a variable.
        allow_networks: private networks that every request may reach, in CIDR notation.
        lifetime: seconds that a resolved connector is used.

    Raises:
        ConfigurationError: each problem by connector and field, with the fix.
    """

    def __init__(
        self,
        given: Mapping[str, Any] | str | None,
        *,
        secret: Lookup | None = None,
        environment: Lookup = variable,
        allow_networks: Sequence[str] = (),
        lifetime: float = LIFETIME,
    ) -> None:
        self._given = _read(given)
        self._lookups = {"env": environment, "secret": secret}
        self._lifetime = lifetime
        self._resolved: dict[str, _Resolved] = {}
        self._lock = threading.Lock()
        #: Private networks that every request may reach.
        self.networks = net.networks(allow_networks)
        #: The kind of each connector by its name.
        self.kinds = {name: self._checked(name, {}).kind for name in self._given}

    def get(self, name: str) -> Connector:
        """The connector of a name, its secrets resolved.

        Raises:
            ConfigurationError: there is none, or one of its secrets cannot be had; names both and the fix.
        """
        if name not in self._given:
            known = f"; there are {', '.join(sorted(self._given))}" if self._given else ""
            raise ConfigurationError(
                f'no connector is named "{name}"{did_you_mean(name, self._given) or known}; '
                "connectors are listed in ORCHESTRATOR_CONNECTORS"
            )
        with self._lock:
            found = self._resolved.get(name)
            if found is None or clock.elapsed() - found.at >= self._lifetime:
                context = {RESOLVE: lambda source, key: self._resolve(name, source, key)}
                found = _Resolved(connector=self._checked(name, context), at=clock.elapsed())
                self._resolved[name] = found
            return found.connector

    def _checked(self, name: str, context: dict[str, Any]) -> Connector:
        try:
            return _ADAPTER.validate_python(self._given[name], context=context)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
        # Outside the except clause: the validation error holds what was given, and would be shown as the context.
        raise ConfigurationError("\n".join(f'connector "{name}": {_problem(each)}' for each in details))

    def _resolve(self, name: str, source: str, key: str) -> str:
        lookup = self._lookups[source]
        what = f"the variable {key}" if source == "env" else f"the secret {key}"
        fix = f"set {key} for every worker" if source == "env" else f"`orchestrator secrets set {key}`"
        if lookup is None:
            raise ConfigurationError(f'connector "{name}": {what} is kept in the ledger, and there is none here')
        value = lookup(key)
        if value is None:
            raise ConfigurationError(f'connector "{name}": {what} is not set; {fix}')
        if len(value) < redaction.SHORTEST:
            raise ConfigurationError(
                f'connector "{name}": {what} has fewer than {redaction.SHORTEST} characters, which cannot be kept out '
                "of logs; use a longer one"
            )
        redaction.remember(value)
        return value


def _read(given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Connectors by name, as they were given."""
    where = "connectors"
    if isinstance(given, str) and given.strip():
        where = "ORCHESTRATOR_CONNECTORS" if given.lstrip().startswith("{") else given
        given = _parsed(given, where)
    if not given:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: must map names to connectors")
    for name in map(str, given):
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{where}: {name!r} cannot be a connector's name; use up to 100 letters, digits and _.-, "
                "the first a letter"
            )
    return {str(name): each for name, each in given.items()}


def _parsed(given: str, where: str) -> Any:
    if where == "ORCHESTRATOR_CONNECTORS":
        try:
            return json.loads(given)
        except ValueError as error:
            raise ConfigurationError(f"{where}: is neither a path nor JSON: {error}") from None
    try:
        return yaml.safe_load(Path(given).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"ORCHESTRATOR_CONNECTORS: cannot read {given}: {error}") from None
    except yaml.MarkedYAMLError as error:
        # The line's number and not the line, which may be a secret in the wrong place.
        at = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{where}: is not YAML{at}: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigurationError(f"{where}: is not YAML") from None


def _problem(details: ErrorDetails) -> str:
    # The first place is the kind, by which pydantic told the models apart.
    place = ".".join(str(part) for part in details["loc"][1:])
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        return f"{place}: there is no such setting; remove it"
    if details["type"].startswith("union_tag"):
        return "kind: must be one of http, smtp, postgresql, redis, chat, sms"
    return f"{place}: {message}" if place else message
