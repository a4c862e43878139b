"""A world of its own for one program: user, processes, network, mounts, IPC and host name.

Works without root, and as root, where the program becomes `nobody` in earnest. The idea of mapping one user into a new
user namespace is that of `embedded/launch.py`, which stands on a higher floor and may not be imported here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.activities.isolation import linux

NOBODY = 65534
WORK = "/tmp/work"  # noqa: S108 - nobody else is there
_TMP, _SHM, _OLD = "/tmp", "/dev/shm", "/old"  # noqa: S108 - nobody else is there
_ALL = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
)
#: Programs and their libraries. Nothing else of the machine is shown: no home folders, no application, no configuration
#: with passwords in it, and no sockets, which a network namespace does not keep from anybody.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_CONFIGURATION = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime", "/etc/perl", "/etc/ssl/openssl.cnf")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_FILES = {
    "/etc/passwd": f"nobody:x:{NOBODY}:{NOBODY}:nobody:{WORK}:/bin/sh\n",
    "/etc/group": f"nogroup:x:{NOBODY}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def enter() -> int:
    """Enter the namespaces; the next process that this one forks is the first in them.

    Root maps itself and the real `nobody`, whom the program becomes: the kernel exempts its own root from the limit on
    processes. Where it may not, and without root, the only user there is this one, called `nobody`.

    Returns:
        How many processes that are not the program's count as its user's.
    """
    uid, gid = os.getuid(), os.getgid()
    mapper = _Mapper() if uid == 0 else None
    linux.unshare(_ALL)
    Path("/proc/self/setgroups").write_text("deny")
    if mapper is not None and mapper.map():
        return 1
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")
    return 2


class _Mapper:
    """A process that stays outside: a user namespace's own processes may map nobody but themselves."""

    def __init__(self) -> None:
        with suppress(PermissionError):  # then the kernel will not let it map others either
            os.setgroups([])
        begin, self._begin = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._begin)
            os._exit(self._map_parent() if os.read(begin, 1) else 1)
        os.close(begin)

    def map(self) -> bool:
        """Map root and nobody for the namespace that was entered; whether the kernel let it."""
        os.write(self._begin, b".")
        os.close(self._begin)
        return os.waitpid(self._pid, 0)[1] == 0

    @staticmethod
    def _map_parent() -> int:
        try:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{os.getppid()}/{name}").write_text(f"0 0 1\n{NOBODY} {NOBODY} 1\n")
        except OSError:
            return 1
        return 0


def build_root(folders: Sequence[str], work_mb: int) -> None:
    """Replace the root by a read-only one that shows system programs, `folders` and an empty, writable /tmp only."""
    shown = dict(_shown((*_SYSTEM, *_CONFIGURATION, *folders)))
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", _TMP, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    os.mkdir(_TMP + _OLD)
    linux.pivot_root(_TMP, _TMP + _OLD)
    os.chdir("/")
    _mount_work(work_mb)
    for place, source in sorted(shown.items()):
        _show(source, place)
    for name in _DEVICES:
        _bind(f"{_OLD}/dev/{name}", f"/dev/{name}")
    for place, content in _FILES.items():
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_text(content)
    _mount_proc()
    linux.detach(_OLD)
    os.rmdir(_OLD)
    linux.make_read_only("/")
    for place in (_TMP, _SHM):
        linux.make_writable(place)


def become_nobody() -> None:
    """Be `nobody` for good."""
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _shown(places: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What exists of these places and does not lie within another of them: place and source. A link stays one."""
    taken: list[str] = []
    for place in sorted({os.path.normpath(place) for place in places}, key=len):
        if os.path.lexists(place) and not any(place.startswith(f"{above}/") for above in taken):
            is_link = os.path.islink(place) and not place.startswith("/etc/")
            yield place, f"-> {os.readlink(place)}" if is_link else os.path.realpath(place)
            taken.append(place)


def _show(source: str, place: str) -> None:
    if source.startswith("-> "):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(source[3:], place)
    else:
        _bind(_OLD + source, place)


def _bind(source: str, place: str) -> None:
    if not os.path.exists(source):
        return
    if os.path.isdir(source):
        Path(place).mkdir(parents=True, exist_ok=True)
    else:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).touch()
    linux.mount(source, place, flags=linux.MS_BIND | linux.MS_REC)


def _mount_proc() -> None:
    """A /proc of this namespace's processes, where the kernel lets us: not below a /proc with masked parts, as
    containers have it. Without one, none is shown at all."""
    os.mkdir("/proc")
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    try:
        linux.mount("proc", "/proc", "proc", flags, "subset=pid")
    except OSError:
        return
    os.symlink("/proc/self/fd", "/dev/fd")


def _mount_work(megabytes: int) -> None:
    for place in (_TMP, _SHM):
        Path(place).mkdir(parents=True)
    linux.mount(
        "tmpfs",
        _TMP,
        "tmpfs",
        linux.MS_NOSUID | linux.MS_NODEV,
        f"size={megabytes}m,nr_inodes=16k,mode=1777",
    )
    linux.mount(_TMP, _SHM, flags=linux.MS_BIND)
    os.mkdir(WORK)
    os.chmod(WORK, 0o777)  # noqa: S103 - nobody else is here
