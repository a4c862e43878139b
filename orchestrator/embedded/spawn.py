"""Child processes that cannot outlive their owner, and the account they have."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path

from orchestrator.embedded.errors import WrongThread
from orchestrator.embedded.launch import NOBODY_ID

_LAUNCH = Path(__file__).with_name("launch.py")
_TAIL_BYTES = 64 * 1024


class Account(StrEnum):
    """Who a child is."""

    #: the same user as its owner
    OWN = "own"
    #: `nobody` in a user namespace of its own; files are still read and written as the owner
    NAMESPACE = "namespace"
    #: `nobody` in earnest: the data and every folder above it must be open to uid 65534
    NOBODY = "nobody"


@cache
def unprivileged_account() -> Account:
    """The account for servers that refuse to be root.

    As root a user namespace is preferred: it works below folders that only root may enter, such as /root. Where the
    kernel or a container's seccomp profile refuses namespaces, servers become uid 65534.
    """
    if os.geteuid() != 0:
        return Account.OWN
    # A process of its own has to try: a namespace, once entered, cannot be left.
    trial = subprocess.run(_launcher(Account.NAMESPACE), stderr=subprocess.DEVNULL, check=False)
    return Account.NAMESPACE if trial.returncode == 0 else Account.NOBODY


def adopt(directory: Path, account: Account) -> None:
    """As root, give a server's directory and all below it to the uid that the account has in the kernel's eyes.

    A directory may have been served under another account before. Nothing above it is touched.
    """
    if os.geteuid() != 0:
        return
    uid, gid = (NOBODY_ID, NOBODY_ID) if account is Account.NOBODY else (os.geteuid(), os.getegid())
    for entry in (directory, *directory.rglob("*")):
        if entry.lstat().st_uid != uid:
            os.chown(entry, uid, gid, follow_symlinks=False)


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    account: Account = Account.OWN,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, its output appended to `log`; it dies with this process, even by SIGKILL.

    A session of its own keeps the terminal's Ctrl-C away: it reaches the owner, who stops children in order. `env` is
    the program's whole environment, None means the owner's. The descriptors in `keep_open` are inherited.

    Raises WrongThread outside the main thread: the kernel ties a child's life to the *thread* that started it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise WrongThread
    with log.open("ab") as output:
        return subprocess.Popen(
            [*_launcher(account), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            pass_fds=keep_open,
            start_new_session=True,
        )


def sync(directory: Path) -> None:
    """Put a directory's own entries on disk: a file renamed into it survives a loss of power only then."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log; empty when there is no such file yet."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _launcher(account: Account) -> list[str]:
    # -I and -S: the launcher needs nothing but the standard library, and starts in half the time without site.
    return [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), account.value]
