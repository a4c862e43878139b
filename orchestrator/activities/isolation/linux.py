"""Linux system calls that Python does not offer, by ctypes. Each raises OSError when the kernel refuses."""

from __future__ import annotations

import ctypes
import errno
import os

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 0x2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 0x1, 0x2
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace"))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _FilterInstruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_FilterInstruction)))


def unshare(flags: int) -> None:
    """Enter new namespaces."""
    _check(_libc.unshare(flags))


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """Mount a file system, or with MS_BIND show one place at another."""
    _check(_libc.mount(_text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(options)))


def make_read_only(target: str) -> None:
    """Make a mount and all below it read-only, and set-user-id files there harmless (Linux 5.12)."""
    _set_attributes(target, _AT_RECURSIVE, _MountAttributes(set=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID))


def make_writable(target: str) -> None:
    """Take `make_read_only` back for one mount."""
    _set_attributes(target, 0, _MountAttributes(clear=MOUNT_ATTR_RDONLY))


def _set_attributes(target: str, flags: int, attributes: _MountAttributes) -> None:
    path, size = ctypes.c_char_p(_text(target)), ctypes.c_size_t(ctypes.sizeof(attributes))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path, flags, ctypes.byref(attributes), size))


def pivot_root(new: str, old: str) -> None:
    """Make `new`, a mount, the root; the root until now is mounted at `old`."""
    _check(_libc.pivot_root(_text(new), _text(old)))


def detach(target: str) -> None:
    """Unmount, with all below it, at once."""
    _check(_libc.umount2(_text(target), MNT_DETACH))


def die_with_parent(signal: int) -> None:
    """Get a signal when the thread ends that started this process. Forgotten when credentials change."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def forbid_inspection() -> None:
    """No process of the same user may trace this one or read its memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Set-user-id files and file capabilities give nothing any more."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def bar_capabilities() -> None:
    """No file executed from now on gives a capability. Needs one itself, so it comes before they are dropped."""
    for capability in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL or capability == 0:
                raise
            return  # the kernel knows no more of them


def drop_capabilities() -> None:
    """Give up every capability."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapabilityHeader(version=_CAPABILITY_VERSION_3, pid=0)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits each
    _check(_libc.capset(ctypes.byref(header), none))


def filter_system_calls(program: list[tuple[int, int, int, int]]) -> None:
    """Install a seccomp filter for good: classic BPF, as (code, jump if true, jump if false, value)."""
    instructions = (_FilterInstruction * len(program))(*(_FilterInstruction(*each) for each in program))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_FilterProgram(len(program), instructions)))


def _prctl(option: int, *arguments: object) -> None:
    padded = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    padded += [ctypes.c_ulong(0)] * (4 - len(padded))
    _check(_libc.prctl(option, *padded))


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
