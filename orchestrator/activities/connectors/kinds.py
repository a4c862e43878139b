"""The kinds of connectors: what each needs to reach its service. Durations are seconds."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any, Literal, Self

from psycopg.conninfo import make_conninfo
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, SecretStr, field_validator, model_validator

from orchestrator import redaction
from orchestrator.activities import net
from orchestrator.activities.connectors.secret import HeaderSecret, Secret, SecretHeaders, SecretUrl, ServerUrl
from orchestrator.errors import ConfigurationError

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_WEB = r"^https?://[^/?#@]+(/[^?#]*)?$"

Port = Annotated[int, Field(ge=1, le=65535)]


class _Settings(BaseModel):
    """Frozen; what is wrong is told without the values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Basic(_Settings):
    """A user name and a password."""

    username: str
    password: Secret


class Web(_Settings):
    """What every service reached by HTTP has."""

    #: Sent as `Authorization: Bearer`.
    bearer: HeaderSecret | None = None
    #: Sent as `Authorization: Basic`.
    basic: Basic | None = None
    #: Sent with every request; a reference where the name says that it is a secret.
    headers: SecretHeaders = Field(default_factory=dict)
    #: Seconds that a call may take which says nothing itself.
    timeout: PositiveFloat = 30.0
    #: Private networks in which the service itself may be; redirects to elsewhere gain nothing by it.
    allow_networks: tuple[str, ...] = ()
    #: A PEM file of certificate authorities to trust besides the public ones.
    ca_file: str | None = None

    @model_validator(mode="after")
    def _one_authorization(self) -> Self:
        if self.bearer is not None and self.basic is not None:
            raise ValueError("has both bearer and basic; keep one")
        return self

    @field_validator("headers")
    @classmethod
    def _names(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in value:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no header's name")
        return value

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            net.networks(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    def secret_headers(self) -> dict[str, str]:
        """The headers that only this service may see, with their values in the clear."""
        found = {name: value.get_secret_value() for name, value in self.headers.items()}
        if self.bearer is not None:
            found["Authorization"] = f"Bearer {self.bearer.get_secret_value()}"
        if self.basic is not None:
            pair = f"{self.basic.username}:{self.basic.password.get_secret_value()}"
            token = base64.b64encode(pair.encode()).decode()
            redaction.remember(token)
            found["Authorization"] = f"Basic {token}"
        return found


class HttpConnector(Web):
    """A web service."""

    kind: Literal["http"]
    #: What a step's url is relative to; a step that names the connector reaches nothing outside.
    base_url: str = Field(pattern=_WEB)


class ChatConnector(Web):
    """A chat's incoming webhook, as of Slack, Mattermost, Teams or Discord."""

    kind: Literal["chat"]
    #: Where messages are posted: a secret, as whoever has it may post.
    url: SecretUrl
    #: The field of the posted JSON that carries the text; `content` for Discord.
    text_field: str = "text"
    #: The field that carries `to`, if the webhook can post to several channels.
    to_field: str | None = None
    #: Further fields of the posted JSON.
    fields: dict[str, Any] = Field(default_factory=dict)


class SmsConnector(Web):
    """An SMS gateway with an HTTP interface."""

    kind: Literal["sms"]
    #: Where messages are posted.
    base_url: str = Field(pattern=_WEB)
    #: The body's template: {to}, {text}, {sender} and {key} (the idempotency key) in its strings are replaced.
    body: dict[str, Any] = Field(default_factory=lambda: {"to": "{to}", "from": "{sender}", "text": "{text}"})
    #: How the body is sent.
    encoding: Literal["json", "form"] = "json"
    #: The number or name that messages come from.
    sender: str = ""


class SmtpConnector(_Settings):
    """A mail server."""

    kind: Literal["smtp"]
    host: str = Field(min_length=1)
    #: By default 465 with tls, else 587; 25 without encryption.
    port: Port | None = None
    #: `starttls` upgrades the connection, `tls` encrypts from the first byte, `none` is for a server next door.
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: Secret | None = None
    #: The address that messages come from.
    sender: str = Field(pattern=r"^[^\r\n]*[^\s@<>]+@[^\s@<>]+>?$")
    timeout: PositiveFloat = 30.0
    #: A PEM file of certificate authorities to trust besides the public ones.
    ca_file: str | None = None

    @property
    def server_port(self) -> int:
        """The port to connect to."""
        return self.port or {"tls": 465, "starttls": 587, "none": 25}[self.tls]

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("needs both username and password, or neither")
        if self.password is not None and self.tls == "none":
            raise ValueError("would send the password in the clear; set tls to starttls or tls")
        return self


class PostgresqlConnector(_Settings):
    """A PostgreSQL database, by URL or by its parts."""

    kind: Literal["postgresql"]
    #: postgresql://user@host:5432/database; a reference if it holds a password.
    url: ServerUrl | None = None
    host: str | None = None
    port: Port | None = None
    database: str | None = None
    username: str | None = None
    password: Secret | None = None
    #: As libpq's; `verify-full` also checks the server's name.
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    #: Seconds to wait for a connection.
    connect_timeout: PositiveFloat = 10.0
    #: Whether a pooler such as PgBouncer in transaction mode is between: then nothing is left in a session.
    pooler: bool = False

    @model_validator(mode="after")
    def _url_or_host(self) -> Self:
        if (self.url is None) == (self.host is None):
            raise ValueError("needs either url or host")
        return self

    def conninfo(self) -> SecretStr:
        """What libpq and psycopg connect with."""
        parts = {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.username,
            "password": self.password.get_secret_value() if self.password else None,
            "sslmode": self.sslmode,
            "connect_timeout": max(2, round(self.connect_timeout)),
        }
        return SecretStr(make_conninfo(self.url.get_secret_value() if self.url else "", **parts))


class RedisConnector(_Settings):
    """A Redis or Valkey server."""

    kind: Literal["redis"]
    #: redis://host:6379/0; a reference if it holds a password.
    url: ServerUrl
    #: Seconds to wait for a connection and for each answer.
    timeout: PositiveFloat = 10.0


Connector = HttpConnector | SmtpConnector | PostgresqlConnector | RedisConnector | ChatConnector | SmsConnector
