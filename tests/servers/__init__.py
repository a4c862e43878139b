"""Servers that no Python package brings: RabbitMQ, PgBouncer, Redis with TLS, and Redis under Sentinels.

Each is one supervised process, as those of `orchestrator.embedded` are: on a free port of 127.0.0.1, with its data in a
folder of its own, started, killed, restarted and stopped by its owner, with whom it dies. Their programs are Debian's:
`apt-get install rabbitmq-server pgbouncer redis-server redis-sentinel`. What these packages start by themselves is
never used.
"""

from servers.certificates import Authority
from servers.pgbouncer import PgBouncer
from servers.rabbitmq import RabbitMQ
from servers.redis_tls import RedisTls
from servers.sentinel import Sentinels

__all__ = ["Authority", "PgBouncer", "RabbitMQ", "RedisTls", "Sentinels"]
