"""The launcher: a process that makes the sandbox, puts the program into it, and says how it ended.

    worker -> launcher -> first process of the namespaces -> the program

Each dies with the one before it, by the kernel's hand, and with the first process of a process namespace dies all that
is in it, wherever it may have hidden. The launcher gets its orders on standard input, with the program's own input
behind them, and answers with one line of JSON:

    {"exit": 0} or {"signal": 9}                            the program ended by itself
    {"refused": "step", "reason": "..."}                    the sandbox could not be made, the program was not started
    {"unstarted": "reason"}                                 the sandbox stands, but the program cannot be executed
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.activities.isolation import limits, linux, namespaces, seccomp

#: Bytes in front of the orders that tell their length.
HEADER = 8
#: Where the program finds the descriptor for its result.
ANSWER = 3
#: The descriptor that tells of a failed execution, out of the way of those that the program gets.
_STATUS = 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Refused(Exception):
    """A step of the isolation that the kernel did not let us take."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step, self.reason = step, reason


def main(owner: int, status: int, answer: int) -> None:
    """Read the orders, make the sandbox, start the program and wait for it."""
    os.set_inheritable(status, False)
    _die_with(owner)
    orders = _read_orders()
    if orders is None:
        return  # the worker was interrupted before it gave any
    try:
        others = _isolate(orders, owner, answer) if orders["isolated"] else None
        _start(orders, status, answer, others)
    except Refused as error:
        _tell(status, refused=error.step, reason=error.reason)


def _die_with(owner: int) -> None:
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != owner:  # it died before the line above: no signal will come
        sys.exit()


def _read_orders() -> dict[str, Any] | None:
    size = int.from_bytes(_read_exactly(HEADER), "big")
    return json.loads(_read_exactly(size)) if size else None


def _read_exactly(size: int) -> bytes:
    """So many bytes of standard input and not one more: what follows is the program's. Fewer at its end."""
    found = b""
    while len(found) < size and (part := os.read(0, size - len(found))):
        found += part
    return found


def _isolate(orders: dict[str, Any], owner: int, answer: int) -> int:
    """Go on inside the sandbox as its first process, without privileges; how many processes count as the program's
    user besides it."""
    with suppress(OSError):
        # Short of memory, the kernel then takes the program and not the worker.
        Path("/proc/self/oom_score_adj").write_text("1000")
    with _step("namespaces (users, processes, mounts, network, IPC, host name)"):
        others = namespaces.enter()
    _die_with(owner)  # forgotten when credentials change, as they do in a new user namespace
    launcher = _go_on_as_first_process(answer)
    with _step("a root of its own, read-only"):
        namespaces.build_root(orders["folders"], orders["limits"]["work_mb"])
    with _step("a user without privileges"):
        linux.bar_capabilities()
        namespaces.become_nobody()
        linux.drop_capabilities()
        linux.forbid_inspection()
    linux.die_with_parent(signal.SIGKILL)
    _require_alive(launcher)
    with _step("a limit on processes"):
        limits.require_process_limit()
    return others


def _go_on_as_first_process(answer: int) -> int:
    """Fork; the launcher stays outside and waits. In the first process: a pipe that ends when the launcher does."""
    alive, held = os.pipe()
    # Opened before: the first process changes the root of all in its namespace, and the launcher is in it too.
    nothing = os.open(os.devnull, os.O_RDWR)
    first = os.fork()
    if first != 0:
        os.close(alive)
        _let_go(answer, nothing)
        os.waitpid(first, 0)
        os._exit(0)
    os.close(held)
    os.close(nothing)
    return alive


def _require_alive(launcher: int) -> None:
    os.set_blocking(launcher, False)
    try:
        os.read(launcher, 1)
    except BlockingIOError:
        os.close(launcher)
        return
    os._exit(1)


def _start(orders: dict[str, Any], status: int, answer: int, others: int | None) -> None:
    parent = os.getpid()
    program = os.fork()
    if program == 0:
        try:
            _die_with(parent)
            _become(orders, status, answer, others)
        except Refused as error:
            _tell(_STATUS, refused=error.step, reason=error.reason)
        except OSError as error:
            _tell(_STATUS, unstarted=error.strerror or str(error))
        finally:
            os._exit(127)
    _let_go(answer, os.open(os.devnull, os.O_RDWR))
    ended = 0
    while ended != program:  # the first process of a namespace also buries others' orphans
        ended, code = os.wait()
    if os.WIFSIGNALED(code):
        _tell(status, signal=os.WTERMSIG(code))
    else:
        _tell(status, exit=os.WEXITSTATUS(code))


def _become(orders: dict[str, Any], status: int, answer: int, others: int | None) -> None:
    """Become the program; `others` is None without isolation."""
    fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, _STATUS)
    os.dup2(answer, ANSWER)
    os.closerange(ANSWER + 1, _STATUS)
    os.closerange(_STATUS + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir(orders["work"])
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    limits.apply(limits.Limits(**orders["limits"]), others)
    linux.forbid_new_privileges()
    if others is not None:
        with _step("a filter of system calls"):
            linux.filter_system_calls(seccomp.program(os.uname().machine))
    argv: list[str] = orders["argv"]
    os.execvpe(argv[0], argv, {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": orders["work"]})  # noqa: S606


def _let_go(answer: int, nothing: int) -> None:
    """Leave the program's streams to the program: they end when it does. `nothing` takes their place."""
    for stream in (0, 1, 2, answer):
        os.dup2(nothing, stream)
    os.close(nothing)


def _tell(status: int, **facts: object) -> None:
    os.write(status, json.dumps(facts).encode() + b"\n")


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(name, error.strerror or str(error)) from None
    except LookupError as error:
        raise Refused(name, f"none is known for {error}") from None
