"""Run as a script: give up root, tie this process to its owner's life, become another program.

    python -I -S launch.py <owner pid> <account> <program> [argument...]

This is a program of its own, and not a `preexec_fn`, because a function that runs between fork and exec may deadlock
when the owner has threads. The order matters: the kernel forgets PR_SET_PDEATHSIG when credentials change, so root is
given up first. The process id stays the same throughout, so it is the owner's to signal from the start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

NOBODY_ID = 65534
CLONE_NEWUSER = 0x10000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: Sequence[str]) -> None:
    """Become the program; without one, end with 0 if the account could be taken on. Raises OSError if not."""
    owner, account, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if account == "namespace":
        enter_user_namespace(libc)
    elif account == "nobody":
        become_nobody()
    die_with(libc, int(owner))
    if command:
        restore_signals()
        os.execvp(command[0], command)  # noqa: S606  # that is the purpose of this script


def enter_user_namespace(libc: ctypes.CDLL) -> None:
    """See ourselves as `nobody` while the kernel goes on checking file access against the user who started us."""
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(CLONE_NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")  # the kernel's condition for a gid_map without privilege
    Path("/proc/self/uid_map").write_text(f"{NOBODY_ID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY_ID} {gid} 1")


def become_nobody() -> None:
    """Give up root for good; PermissionError if the working directory is out of reach afterwards."""
    directory = Path.cwd()
    os.setgroups([])
    os.setgid(NOBODY_ID)
    os.setuid(NOBODY_ID)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(f"uid {NOBODY_ID} cannot reach {directory}: use a directory whose parents it may enter")


def die_with(libc: ctypes.CDLL, owner: int) -> None:
    """Have the kernel kill us when the owner's thread that started us ends, however it ends."""
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != owner:  # it died before the line above: no signal will come
        raise ProcessLookupError(f"owner {owner} is gone")


def restore_signals() -> None:
    """Undo what the Python interpreter ignores: ignored signals, unlike handlers, outlive exec."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def check(result: int) -> None:
    """Raise OSError for a C call that failed."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"cannot start: {error}")  # to the log, whose tail the owner quotes
