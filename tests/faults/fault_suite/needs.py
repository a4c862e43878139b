"""What faults need of the machine and of the stack. Each says why it cannot be had, or None."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from fault_suite.hosts import why_no_hosts
from fault_suite.stack import Choice

#: Where the kernel shows the limits of memory, by the two versions of its interface.
MEMORY_V1, MEMORY_V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
_REPOSITORY = Path(__file__).parents[3]
_FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"


def hosts(choice: Choice) -> str | None:
    """A network namespace for the second worker."""
    if not choice.proxied:
        return "another host would reach the broker by a proxy, before which certificates and Sentinels have no name"
    return _why_no_hosts() if choice.hosts else "no second host was asked for"


def proxies(choice: Choice) -> str | None:
    """Proxies before the broker."""
    return None if choice.proxied else "certificates and Sentinels name addresses, which a proxy would change"


def own_broker(choice: Choice) -> str | None:
    """One server that is the broker."""
    return "Sentinels choose the server themselves" if choice.broker == "sentinel" else None


def direct(choice: Choice) -> str | None:
    """Transactions that the proxy can read."""
    return "the pooler before PostgreSQL is hit instead" if choice.pooler else None


def sentinels(choice: Choice) -> str | None:
    """Sentinels."""
    return None if choice.broker == "sentinel" else "there are no Sentinels: BROKER=sentinel"


def pooler(choice: Choice) -> str | None:
    """A pooler before PostgreSQL."""
    return None if choice.pooler else "there is no pooler: POOLER=1"


def plain(choice: Choice) -> str | None:
    """Redis without TLS, which the suite itself reaches into."""
    return None if choice.broker in {"redis", "amqp"} else "one broker of a kind is enough for what does not concern it"


def faketime(_: Choice) -> str | None:
    """Another clock for one process."""
    return None if faketime_library() else "libfaketime is missing: Debian's package libfaketime"


@cache
def faketime_library() -> Path | None:
    """What is loaded into a process to move its clock."""
    return next(iter(sorted(Path("/").glob(_FAKETIME.lstrip("/")))), None)


def memory_limit(_: Choice) -> str | None:
    """A limit of memory for one process, kept by the kernel."""
    return _why_no_memory_limit()


@cache
def _why_no_memory_limit() -> str | None:
    try:
        group = new_memory_group(64 << 20)
    except OSError as error:
        return f"the kernel sets no limit of memory for a process here: {error}"
    group.rmdir()
    return None


def new_memory_group(limit: int) -> Path:
    """A control group whose processes the kernel ends beyond `limit` bytes; OSError if there can be none."""
    first = (MEMORY_V1 / "memory.limit_in_bytes").exists()
    parent = MEMORY_V1 if first else MEMORY_V2
    group = parent / f"faults-{os.getpid()}-{len(list(parent.glob('faults-*')))}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
    except OSError:
        group.rmdir()
        raise
    return group


@cache
def _why_no_hosts() -> str | None:
    return why_no_hosts()


def release_before(_: Choice) -> str | None:
    """The release before this one, from the repository's history."""
    return None if revision_before() else "the history of this checkout does not reach back to the release before"


@cache
def revision_before() -> str | None:
    """The last commit that does not know the newest migration: what is still at work while a release is rolled out."""
    words = ["git", "log", "-1", "--format=%P", "--diff-filter=A", "--", "migrations/versions"]
    asked = subprocess.run(words, capture_output=True, text=True, check=False, cwd=_REPOSITORY)
    return next(iter(asked.stdout.split()), None) if asked.returncode == 0 else None
