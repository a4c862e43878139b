"""Whether a connector's service answers, without sending anything that it would act upon."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis

from orchestrator.activities import net
from orchestrator.activities.connectors.kinds import (
    ChatConnector,
    Connector,
    HttpConnector,
    PostgresqlConnector,
    RedisConnector,
    SmsConnector,
    SmtpConnector,
    Web,
)
from orchestrator.activities.mail import session
from orchestrator.errors import OrchestratorError, Unavailable
from orchestrator.redaction import redact


def check(connector: Connector, networks: Sequence[net.Network] = ()) -> str:
    """Reach the service; what answered, in a few words.

    A mail server, PostgreSQL and Redis are also logged in to. Of services by HTTP, name, address, connection and
    certificate are tried, and no request is made: it might be acted upon.

    Raises:
        Unavailable, ConfigurationError, ActivityError: why not; holds no secret.
    """
    try:
        return _CHECKS[connector.kind](connector, networks)
    except OrchestratorError:
        raise
    except (OSError, smtplib.SMTPException, psycopg.Error, redis.RedisError) as error:
        raise Unavailable(redact(" ".join(str(error).split())) or type(error).__name__) from None


def _http(connector: HttpConnector | SmsConnector, networks: Sequence[net.Network]) -> str:
    return _web(connector, connector.base_url, networks)


def _chat(connector: ChatConnector, networks: Sequence[net.Network]) -> str:
    return _web(connector, connector.url.get_secret_value(), networks)


def _web(connector: Web, url: str, networks: Sequence[net.Network]) -> str:
    target = urlsplit(url)
    host, encrypted = target.hostname or "", target.scheme == "https"
    port = target.port or (443 if encrypted else 80)
    addresses = net.checked(host, port, (*networks, *net.networks(connector.allow_networks)))
    connector.secret_headers()
    with socket.create_connection((addresses[0], port), timeout=connector.timeout) as plain:
        if not encrypted:
            return f"{host}:{port} takes connections, without encryption"
        context = ssl.create_default_context()
        if connector.ca_file is not None:
            context.load_verify_locations(cafile=connector.ca_file)
        with context.wrap_socket(plain, server_hostname=host) as secured:
            return f"{host}:{port} takes connections, {secured.version()}"


def _smtp(connector: SmtpConnector, networks: Sequence[net.Network]) -> str:
    where = f"{connector.host}:{connector.server_port}"
    with session(connector, where) as smtp:
        code, _ = smtp.noop()
    return f"{where} answers {code}" + (" and accepts the login" if connector.username else "")


def _postgresql(connector: PostgresqlConnector, networks: Sequence[net.Network]) -> str:
    with psycopg.connect(connector.conninfo().get_secret_value()) as connection:
        version = connection.info.server_version // 10_000
        return f"PostgreSQL {version} accepts the login to {connection.info.dbname}"


def _redis(connector: RedisConnector, networks: Sequence[net.Network]) -> str:
    client = redis.Redis.from_url(
        connector.url.get_secret_value(), socket_timeout=connector.timeout, socket_connect_timeout=connector.timeout
    )
    with client:
        client.ping()
    return "the server answers PING"


_CHECKS: dict[str, Callable[[Any, Sequence[net.Network]], str]] = {
    "http": _http,
    "sms": _http,
    "chat": _chat,
    "smtp": _smtp,
    "postgresql": _postgresql,
    "redis": _redis,
}
