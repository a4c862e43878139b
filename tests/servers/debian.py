"""Programs that Debian's packages have installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.embedded import BinaryMissing

#: Where daemons are, which may be missing in a user's PATH.
_PATH = "/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: What the servers need: program and package, and which variable names a server in its place.
_NEEDED = (
    ("rabbitmq-server", "rabbitmq-server", "BROKER"),
    ("pgbouncer", "pgbouncer", "POOLER"),
    ("redis-server", "redis-server", None),
    ("redis-sentinel", "redis-sentinel", None),
)


def missing(given: Mapping[str, str]) -> str | None:
    """What to do about the programs that are not there; None when nothing is needed.

    Args:
        given: BROKER and POOLER. A URL is a server that runs already; then only tests that need no other are meant.
    """
    packages = list(_missing(given))
    if not packages:
        return None
    return (
        f"these tests need Debian's {', '.join(packages)}: apt-get install --no-install-recommends "
        f"{' '.join(packages)}; or name servers that run already, empty ones: make test-brokers "
        "BROKER=amqp://user:password@host// POOLER=postgresql+psycopg://user:password@host:6432/postgres"
    )


def _missing(given: Mapping[str, str]) -> Iterator[str]:
    by_url = any("://" in address for address in given.values())
    for name, package, variable in _NEEDED:
        needed = "://" not in given.get(variable, "") if variable else not by_url
        if needed and shutil.which(name, path=_PATH) is None:
            yield package


def program(name: str, package: str) -> Path:
    """The program's file. Raises BinaryMissing, naming the package."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise BinaryMissing(name, f"apt-get install {package}")
    return Path(found)


def alone(environment: Mapping[str, str], argv: Sequence[str]) -> list[str]:
    """A command line with this environment and nothing of ours."""
    return ["/usr/bin/env", "-i", f"PATH={_PATH}", *(f"{name}={value}" for name, value in environment.items()), *argv]
