"""What each kind of broker needs: its transport's options, TLS, and which priority is the lowest."""

from __future__ import annotations

import ssl
from typing import Any

from amqp import AMQPError
from amqp.exceptions import MessageNacked
from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

#: What a broker that is away, or does not take a message, makes Celery raise.
BROKER_ERRORS = (
    OperationalError,
    KombuError,
    RedisError,
    AMQPError,
    MessageNacked,
    ConnectionError,
    TimeoutError,
    OSError,
)

#: Without the first three, a half-open socket holds a worker for minutes (with 10 s in the place of 5 and 3, it was
#: noticed and healed in 51 s, with these in 25); without the last two, messages of a killed worker come back after a
#: hundred seconds.
REDIS_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "health_check_interval": 3,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
}

#: Seconds that RabbitMQ may take to answer what it is asked, such as for a queue; by itself py-amqp waits for ever.
AMQP_OPTIONS = {"read_timeout": 10}

#: Seconds between a worker's AMQP heartbeats; after two that are missing the connection is lost. Celery's own default
#: would have RabbitMQ's 60 s, and a half-open socket hold a worker for two minutes.
AMQP_HEARTBEAT = 5
CELERY_HEARTBEAT = 120
#: Celery's own default: a worker then ends for good when its broker was away for some minutes.
CELERY_GIVES_UP_AFTER = 100


def set_defaults(sender: Celery, **_: Any) -> None:
    """What no application can do without; what it says itself stays."""
    conf = sender.conf
    amqp = speaks_amqp(sender.connection_for_write())
    conf.broker_transport_options = (AMQP_OPTIONS if amqp else REDIS_OPTIONS) | dict(
        conf.broker_transport_options or {}
    )
    if amqp and conf.broker_heartbeat == CELERY_HEARTBEAT:
        conf.broker_heartbeat = AMQP_HEARTBEAT
    if conf.broker_connection_max_retries == CELERY_GIVES_UP_AFTER:
        conf.broker_connection_max_retries = None


def speaks_amqp(connection: Any) -> bool:
    """Whether kombu's connection is, or would be, one to RabbitMQ or another broker that speaks AMQP."""
    return bool(connection.transport.driver_type == "amqp")


def lowest_priority(app: Celery) -> int:
    """The lowest priority that a message of a step may have; RabbitMQ counts priorities up from 0, Redis down.

    On Redis it is not the lowest there is: each priority has a list of its own, which is read only when those before it
    are empty, and under a load that never lets them be, what is in it waits for ever. The lowest that a task of the
    application asks for is as low as any step goes.
    """
    if speaks_amqp(app.connection_for_write()):
        return 0
    asked = (getattr(task, "priority", None) for task in app.tasks.values())
    return max(int(priority) for priority in (app.conf.task_default_priority or 0, *asked) if priority is not None)


def tls(url: str, authorities: str | None) -> dict[str, Any] | None:
    """Celery's `broker_use_ssl` for a URL, None for one without TLS: the broker's certificate and name are verified.
    What the URL itself says of TLS, as `?ssl_ca_certs=...`, goes before.

    Args:
        authorities: path of a PEM file of those that are trusted; None trusts the machine's.
    """
    scheme = url.partition("://")[0]
    if scheme == "rediss":
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_ca_certs": authorities}
    if scheme == "amqps":
        # Without a name it is the URL's.
        return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, "ca_certs": authorities}
    return None
