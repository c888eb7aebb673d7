"""One wrapper per system call that Python lacks. No wrapper decides anything.

Names and numbers are the kernel headers' (linux/mount.h, linux/sched.h, linux/prctl.h, linux/openat2.h; x86-64
and arm64 share the numbers of the newer calls). Every failure is an OSError with errno and the path or name.
The only module that imports ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000

CLONE_NEWCGROUP = 0x02000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWUTS = 0x04000000

FSCONFIG_CMD_CREATE = 6
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1

MNT_DETACH = 2
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_RDONLY = 0x00000001
MOVE_MOUNT_F_EMPTY_PATH = 0x00000004

MS_BIND = 4096
MS_NODEV = 4
MS_NOEXEC = 8
MS_NOSUID = 2
MS_PRIVATE = 1 << 18
MS_RDONLY = 1
MS_REC = 16384
MS_REMOUNT = 32
MS_SHARED = 1 << 20
MS_SLAVE = 1 << 19

PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_CAP_AMBIENT_RAISE = 2
PR_CAPBSET_DROP = 24
PR_CAPBSET_READ = 23
PR_SET_CHILD_SUBREAPER = 36
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38
PR_SET_PDEATHSIG = 1

RESOLVE_IN_ROOT = 0x10
RESOLVE_BENEATH = 0x08
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04

UMOUNT_NOFOLLOW = 8

_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_OPENAT2 = 437

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def _syscall(number: int, *arguments: object, what: str) -> int:
    return _check(int(_libc.syscall(ctypes.c_long(number), *arguments)), what)


def mount(source: str, target: Path | str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"{source} on {target}")


def umount2(target: Path | str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), str(target))


def unshare(flags: int) -> None:
    """unshare(2), for the calling thread."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, nstype: int = 0) -> None:
    """setns(2), for the calling thread."""
    _check(_libc.setns(fd, nstype), "setns")


def sethostname(name: str) -> None:
    """sethostname(2), in the calling thread's UTS namespace."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, ctypes.c_size_t(len(encoded))), name)


def syncfs(fd: int) -> None:
    """syncfs(2)."""
    _check(_libc.syncfs(fd), "syncfs")


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2)."""
    words = [ctypes.c_ulong(argument) for argument in (arg2, arg3, arg4, arg5)]
    return _check(_libc.prctl(option, *words), f"prctl {option}")


def prctl_name(name: str) -> None:
    """The calling thread's name in /proc (PR_SET_NAME), cut at 15 bytes."""
    _check(_libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0), name)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2), version 3, masks of 64 bits, for the calling thread."""
    data = (_CapData * 2)()
    for index in range(2):
        shift = 32 * index
        data[index] = _CapData(
            effective >> shift & 0xFFFFFFFF,
            permitted >> shift & 0xFFFFFFFF,
            inheritable >> shift & 0xFFFFFFFF,
        )
    _check(_libc.capset(ctypes.byref(_CapHeader(0x20080522, 0)), data), "capset")


def fsopen(fstype: str) -> int:
    """fsopen(2), close on exec."""
    return _syscall(_NR_FSOPEN, ctypes.c_char_p(fstype.encode()), ctypes.c_uint(1), what=fstype)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """fsconfig(2) with FSCONFIG_SET_STRING."""
    _syscall(
        _NR_FSCONFIG, ctypes.c_int(fd), ctypes.c_uint(FSCONFIG_SET_STRING), ctypes.c_char_p(key.encode()),
        ctypes.c_char_p(os.fsencode(value)), ctypes.c_int(0), what=f"{key}={value}",
    )  # fmt: skip


def fsconfig_flag(fd: int, key: str) -> None:
    """fsconfig(2) with FSCONFIG_SET_FLAG."""
    _syscall(
        _NR_FSCONFIG, ctypes.c_int(fd), ctypes.c_uint(FSCONFIG_SET_FLAG), ctypes.c_char_p(key.encode()),
        None, ctypes.c_int(0), what=key,
    )  # fmt: skip


def fsconfig_create(fd: int, what: str) -> None:
    """fsconfig(2) with FSCONFIG_CMD_CREATE; the kernel's own explanation, if it gave one, joins the error."""
    try:
        _syscall(
            _NR_FSCONFIG,
            ctypes.c_int(fd),
            ctypes.c_uint(FSCONFIG_CMD_CREATE),
            None,
            None,
            ctypes.c_int(0),
            what=what,
        )
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{_kernel_message(fd)}", what) from error


def _kernel_message(fd: int) -> str:
    """What the kernel queued on a file system context (fsopen(2), message retrieval)."""
    try:
        return ": " + os.read(fd, 4096).decode(errors="replace").strip()
    except OSError as error:
        if error.errno == errno.ENODATA:
            return ""
        raise


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2), close on exec: a detached mount that vanishes with its descriptor."""
    return _syscall(_NR_FSMOUNT, ctypes.c_int(fd), ctypes.c_uint(1), ctypes.c_uint(attributes), what="fsmount")


def move_mount(fd: int, target: Path | str) -> None:
    """move_mount(2): attach a detached mount at a path."""
    _syscall(
        _NR_MOVE_MOUNT, ctypes.c_int(fd), ctypes.c_char_p(b""), ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)), ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH), what=str(target),
    )  # fmt: skip


def openat2(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), close on exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return _syscall(
        _NR_OPENAT2, ctypes.c_int(dirfd), ctypes.c_char_p(os.fsencode(path)), ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)), what=path,
    )  # fmt: skip
