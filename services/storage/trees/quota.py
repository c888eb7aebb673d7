"""Limits of writable layers by project quotas: bytes and inodes, counted by the file system itself.

Runs in threads of the storage worker. A container's folder gets a project of its own, which all that is made in it
inherits. Limits hold for the container's writes because an overlay writes with the storage worker's capabilities, and
SYS_RESOURCE, which ignores quotas, is not among them. The file system must enforce project quotas (ext4 or xfs, mount
option `prjquota`); if it does not, containers with limits are refused, with the name of the configuration's key.
quotactl(2), linux/fs.h, linux/quota.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
from pathlib import Path

from kernel.errors import FailedPrecondition, Internal, ResourceExhausted
from kernel.host import syscalls
from services.storage.trees import within

_GETXATTR, _SETXATTR = 0x801C581F, 0x401C5820
"""FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR."""
_INHERIT = 0x200
"""FS_XFLAG_PROJINHERIT"""
_ATTRIBUTES = struct.Struct("5I8x")
"""struct fsxattr: xflags, extsize, nextents, projid, cowextsize."""
_QUOTA = struct.Struct("8QI4x")
"""struct if_dqblk: bhardlimit, bsoftlimit, curspace, ihardlimit, isoftlimit, curinodes, btime, itime, valid."""
_GET, _SET = 0x800007, 0x800008
"""Q_GETQUOTA, Q_SETQUOTA"""
_STATE = 0x5808
"""Q_XGETQSTATV, which every file system with quotas has."""
_STATE_BYTES = 256
_ENFORCED = 1 << 5
"""FS_QUOTA_PDQ_ENFD: without it a file system counts projects and limits none."""
_LIMITS = 1 | 4
"""QIF_BLIMITS | QIF_ILIMITS"""
_PROJECT = 2
"""PRJQUOTA"""
_BLOCK = 1024
"""Bytes of a quota's block."""
_TRIES = 64
"""Random projects that are tried before the search for a free one is given up."""
_NO_QUOTAS = frozenset({errno.ENOSYS, errno.ESRCH, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL})


def limit(folder: Path, size: int, inodes: int) -> None:
    """Limit all that will be made in an empty folder to `size` bytes and `inodes`; 0 is no limit.

    FailedPrecondition if the file system enforces no project quotas.
    """
    fd = os.open(folder, within.FOLDER)
    try:
        _check_enforced(fd)
        project = _project(fd) or _free_project(fd)
        blocks = -(-size // _BLOCK)
        syscalls.quotactl_fd(
            fd, _command(_SET), project, bytearray(_QUOTA.pack(blocks, blocks, 0, inodes, inodes, 0, 0, 0, _LIMITS))
        )
        flags, extent, extents, _, shared = _read_attributes(fd)
        fcntl.ioctl(fd, _SETXATTR, _ATTRIBUTES.pack(flags | _INHERIT, extent, extents, project, shared))
    except OSError as error:
        raise _explain(error, folder) from error
    finally:
        os.close(fd)


def lift(folder: Path) -> None:
    """Drop the limits of a folder that is about to be deleted. Succeeds if it has none."""
    try:
        fd = os.open(folder, within.FOLDER)
    except FileNotFoundError:
        return
    try:
        if project := _project(fd):
            nothing = bytearray(_QUOTA.pack(0, 0, 0, 0, 0, 0, 0, 0, _LIMITS))
            syscalls.quotactl_fd(fd, _command(_SET), project, nothing)
    except OSError as error:
        if error.errno not in _NO_QUOTAS:
            raise Internal(f"quota of {folder} cannot be lifted: {error.strerror}") from error
    finally:
        os.close(fd)


def _check_enforced(fd: int) -> None:
    state = bytearray(_STATE_BYTES)
    state[0] = 1  # the version of the answer
    syscalls.quotactl_fd(fd, _command(_STATE), 0, state)
    if not struct.unpack_from("H", state, 2)[0] & _ENFORCED:
        raise OSError(errno.ESRCH, "they are not enforced")


def _free_project(fd: int) -> int:
    """Return a project that nothing in this file system belongs to, and that has no limits."""
    for _ in range(_TRIES):
        project = secrets.randbelow(1 << 30) + (1 << 30)
        answer = bytearray(_QUOTA.size)
        try:
            syscalls.quotactl_fd(fd, _command(_GET), project, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the answer of xfs for a project that is not in use
                raise
            return project
        if not any(_QUOTA.unpack(bytes(answer))[:6]):
            return project
    raise ResourceExhausted("no project is free for the quota of a container")


def _project(fd: int) -> int:
    try:
        return int(_read_attributes(fd)[3])
    except OSError as error:
        if error.errno in _NO_QUOTAS:
            return 0
        raise


def _read_attributes(fd: int) -> tuple[int, ...]:
    return _ATTRIBUTES.unpack(fcntl.ioctl(fd, _GETXATTR, bytes(_ATTRIBUTES.size)))


def _command(command: int) -> int:
    return (command << 8) | _PROJECT


def _explain(error: OSError, folder: Path) -> FailedPrecondition | Internal:
    if error.errno in _NO_QUOTAS:
        return FailedPrecondition(
            f"storage.writable_bytes, storage.writable_inodes: the file system of {folder.parent} has no project"
            f" quotas in force ({error.strerror})",
            hint="mount it with prjquota (ext4, xfs), or unset both keys",
        )
    return Internal(f"quota of {folder} cannot be set: {error.strerror}")
