"""One wrapper per system call that Python lacks. No wrapper decides anything.

Names and numbers come from the kernel headers (linux/mount.h, linux/sched.h, linux/prctl.h, linux/openat2.h; x86-64 and
arm64 share the numbers of the newer calls). Every failure is an OSError with errno and the path or name. Only this
module imports ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

CLONE_NEWCGROUP = 0x02000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWUTS = 0x04000000

FSCONFIG_CMD_CREATE = 6
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1

IN_ATTRIB = 0x00000004
IN_CLOSE_WRITE = 0x00000008
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_MOVE_SELF = 0x00000800
IN_ONLYDIR = 0x01000000

MNT_DETACH = 2
MOUNT_ATTR_IDMAP = 0x00100000
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
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38
PR_SET_PDEATHSIG = 1

RESOLVE_IN_ROOT = 0x10
RESOLVE_BENEATH = 0x08
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04

UMOUNT_NOFOLLOW = 8

_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_OPENAT2 = 437
_NR_MOUNT_SETATTR = 442
_NR_QUOTACTL_FD = 443
_NR_LANDLOCK_CREATE_RULESET = 444
_NR_LANDLOCK_ADD_RULE = 445
_NR_LANDLOCK_RESTRICT_SELF = 446

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
    """Set the calling thread's name in /proc (PR_SET_NAME), cut at 15 bytes."""
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
    """Return what the kernel queued on a file system context (fsopen(2), message retrieval)."""
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


def quotactl_fd(fd: int, command: int, id_: int, buffer: bytearray) -> None:
    """quotactl_fd(2) on the file system that a descriptor is of."""
    address = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    _syscall(
        _NR_QUOTACTL_FD, ctypes.c_uint(fd), ctypes.c_uint(command), ctypes.c_uint(id_), ctypes.byref(address),
        what=f"quota of {id_}",
    )  # fmt: skip


def openat2(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), close on exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return _syscall(
        _NR_OPENAT2, ctypes.c_int(dirfd), ctypes.c_char_p(os.fsencode(path)), ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)), what=path,
    )  # fmt: skip


def inotify_init() -> int:
    """inotify_init1(2), close on exec and non-blocking."""
    return _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")


def inotify_add_watch(fd: int, path: Path | str, mask: int) -> int:
    """inotify_add_watch(2)."""
    return _check(_libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask)), str(path))


class _LandlockRuleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _LandlockPath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_abi() -> int:
    """Return the kernel's Landlock version (landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION)."""
    return _syscall(_NR_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1), what="landlock")


def landlock_create_ruleset(fs: int, net: int, scoped: int) -> int:
    """landlock_create_ruleset(2), close on exec. A kernel older than a field takes it only as zero."""
    rules = _LandlockRuleset(fs, net, scoped)
    size = 24 if scoped else 16 if net else 8
    return _syscall(
        _NR_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint(0), what="landlock"
    )


def landlock_add_path(ruleset: int, fd: int, allowed: int, what: str) -> None:
    """landlock_add_rule(2) with LANDLOCK_RULE_PATH_BENEATH."""
    rule = _LandlockPath(allowed, fd)
    _syscall(
        _NR_LANDLOCK_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint(0), what=what
    )


def landlock_restrict_self(ruleset: int) -> None:
    """landlock_restrict_self(2), for the calling thread."""
    _syscall(_NR_LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0), what="landlock")


def write_memory(start: int, end: int, data: bytes) -> None:
    """Overwrite a range of this process's memory, and the rest of the range with zeros, to change /proc/PID/cmdline."""
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, data, min(len(data), end - start - 1))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)), new_root)


def sync_file_range(fd: int, flags: int) -> None:
    """sync_file_range(2), over the whole file."""
    _check(_libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(flags)), "sync_file_range")


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def seccomp_filter(program: bytes) -> None:
    """prctl(2) with PR_SET_SECCOMP and a compiled filter, for the calling thread, which has no_new_privs set."""
    fprog = _SockFprog(len(program) // 8, program)
    _check(_libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(fprog), 0, 0), "seccomp")


def attach_filter(fd: int, program: bytes) -> None:
    """setsockopt(2) with SO_ATTACH_FILTER: which messages a socket gets (struct sock_filter, one after the other)."""
    fprog = _SockFprog(len(program) // 8, program)
    _check(_libc.setsockopt(fd, 1, 26, ctypes.byref(fprog), ctypes.sizeof(fprog)), "SO_ATTACH_FILTER")


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def open_tree_clone(path: Path | str, *, recursive: bool) -> int:
    """open_tree(2) with OPEN_TREE_CLONE, close on exec: a detached copy of a mount."""
    return _syscall(
        _NR_OPEN_TREE, ctypes.c_int(AT_FDCWD), ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(1 | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)), what=str(path),
    )  # fmt: skip


def mount_setattr_idmap(fd: int, userns: int, propagation: int, *, recursive: bool, what: str) -> None:
    """mount_setattr(2) of a detached mount: owners as the user namespace maps them, and another propagation."""
    attributes = _MountAttr(MOUNT_ATTR_IDMAP, 0, propagation, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(
        _NR_MOUNT_SETATTR, ctypes.c_int(fd), ctypes.c_char_p(b""), ctypes.c_uint(flags), ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)), what=what,
    )  # fmt: skip
