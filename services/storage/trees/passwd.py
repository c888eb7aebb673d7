"""The two files of a root file system that turn names into numbers, read as if they were traps.

Runs in the storage worker on a mounted root, whose every byte is an image's: no link leads out of the root
(CVE-2026-47262), no fifo or device is opened, no file larger than a limit is read (CVE-2025-4437).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from kernel.errors import FailedPrecondition, Internal
from kernel.host import syscalls

LIMIT = 10 << 20
_WITHIN = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def read_in_root(root: Path, path: str) -> bytes:
    """The file `path` inside `root`; empty where there is no such regular file."""
    try:
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _read(folder, path)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in _MISSING:
            return b""
        raise Internal(f"{path} of the container's root cannot be read: {error.strerror}") from error


def _read(folder: int, path: str) -> bytes:
    found = syscalls.openat2(folder, path, os.O_PATH, _WITHIN)
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            return b""
        if status.st_size > LIMIT:
            raise FailedPrecondition(f"{path} of the image has {status.st_size} bytes, more than {LIMIT}")
        # The file that was looked at, not its name once more.
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(found)
    with open(fd, "rb") as file:
        return file.read(LIMIT)
