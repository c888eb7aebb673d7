"""Makes a pod's IPC and UTS namespaces, and keeps them alive by bind mounts on files of the bundle (pins).

Run by the runtime worker, in a throw-away thread: it unshares, sets the host name, and mounts
/proc/self/task/TID/ns/* on the pins. No process is started. A namespace that the pod shares with the host gets no pin.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from kernel.errors import Internal
from kernel.host import syscalls


def pin(ipc: Path | None, uts: Path | None, hostname: str) -> None:
    """Make the namespaces whose pins are given; those that are pinned already stay.

    The calling thread stays in them: run it in a thread of its own.
    """
    wanted = [(ipc, "ipc", syscalls.CLONE_NEWIPC), (uts, "uts", syscalls.CLONE_NEWUTS)]
    todo = [(path, kind, flag) for path, kind, flag in wanted if path is not None and not pinned(path)]
    if not todo:
        return
    try:
        syscalls.unshare(sum(flag for _, _, flag in todo))
        if uts is not None and any(kind == "uts" for _, kind, _ in todo):
            syscalls.sethostname(hostname)
        for path, kind, _ in todo:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            syscalls.mount(f"/proc/self/task/{threading.get_native_id()}/ns/{kind}", path, flags=syscalls.MS_BIND)
    except OSError as error:
        raise Internal(f"namespaces of the pod: {error.filename}: {error.strerror}") from error


def pinned(path: Path) -> bool:
    """Return whether a namespace is mounted on the file: its device then differs from that of its folder."""
    try:
        return os.lstat(path).st_dev != os.lstat(path.parent).st_dev
    except FileNotFoundError:
        return False


def set_hostname(uts: Path, hostname: str) -> None:
    """Set the host name of a pinned UTS namespace. The calling thread stays in the namespace."""
    try:
        fd = os.open(uts, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWUTS)
        finally:
            os.close(fd)
        syscalls.sethostname(hostname)
    except OSError as error:
        raise Internal(f"host name of the pod: {error.filename}: {error.strerror}") from error


def mount_shm(path: Path, size: int = 64 << 20, owner: tuple[int, int] = (0, 0)) -> None:
    """Mount the pod's /dev/shm, of `size` bytes; one that is mounted already is success.

    `owner`: user and group of its root on the host.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.ismount(path):
        return
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    try:
        syscalls.mount("shm", path, "tmpfs", flags, f"mode=1777,size={size},uid={owner[0]},gid={owner[1]}")
    except OSError as error:
        raise Internal(f"mount of the pod's /dev/shm on {path}: {error.strerror}") from error


def unmount(path: Path) -> None:
    """Unmount everything that is mounted on the path; nothing is success."""
    while True:
        try:
            syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise Internal(f"unmount of {path}: {error.strerror}") from error
