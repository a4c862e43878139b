"""What one program may use up, and how the kernel is told."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

_MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one program and of everything that it starts."""

    #: Seconds of processor time of each process.
    cpu: int = 10
    #: Address space of each process, in megabytes.
    memory_mb: int = 256
    #: Processes and threads at the same time.
    processes: int = 16
    #: Size of the work folder and /tmp together, in megabytes; they lie in memory.
    work_mb: int = 64
    #: Open files of each process.
    files: int = 64


def apply(limits: Limits, others: int | None) -> None:
    """Limit this process and those that it will start, for good.

    Args:
        others: processes that count as this user's besides the program's own. None sets no limit on processes: all that
            the user does anywhere would count, outside a user namespace of its own.
    """
    memory, files = limits.memory_mb * _MEGABYTE, limits.work_mb * _MEGABYTE
    # The softer limit first: SIGXCPU tells how the program ended.
    _limit(resource.RLIMIT_CPU, limits.cpu, limits.cpu + 1)
    _limit(resource.RLIMIT_AS, memory, memory)
    _limit(resource.RLIMIT_FSIZE, files, files)
    _limit(resource.RLIMIT_NOFILE, limits.files, limits.files)
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_MEMLOCK, 0, 0)
    if others is not None:
        _limit(resource.RLIMIT_NPROC, limits.processes + others, limits.processes + others)


def _limit(kind: int, soft: int, hard: int) -> None:
    before = resource.getrlimit(kind)[1]
    ceiling = hard if before == resource.RLIM_INFINITY else min(hard, before)
    resource.setrlimit(kind, (min(soft, ceiling), ceiling))


def require_process_limit() -> None:
    """OSError when the kernel does not limit the number of this user's processes: it never does for its own root."""
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, before[1]))
    try:
        child = os.fork()
    except BlockingIOError:
        return
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, before)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    raise OSError("this user may start any number of processes")
