"""/etc/passwd and /etc/group of a root file system, which turn names into numbers, read with distrust.

Runs in the storage worker on a mounted root, whose every byte is an image's: no link leads out of the root
(CVE-2026-47262), no fifo or device is opened, no file larger than a limit is read (CVE-2025-4437).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from kernel.errors import FailedPrecondition, Internal
from services.storage.trees import within

LIMIT = 10 << 20
"""Most bytes of one of them."""
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def read_in_root(root: Path, path: str) -> bytes:
    """Return the content of the file `path` inside `root`; empty if it has no such regular file.

    FailedPrecondition if it is larger than LIMIT, Internal if it cannot be read.
    """
    try:
        folder = os.open(root, within.PLACE)
        try:
            return _read(folder, path)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in _MISSING:
            return b""
        raise Internal(f"{path} of the container's root cannot be read: {error.strerror}") from error


def _read(folder: int, path: str) -> bytes:
    found = within.open_in_root(folder, os.fsencode(path), os.O_PATH)
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            return b""
        if status.st_size > LIMIT:
            raise FailedPrecondition(f"{path} of the image has {status.st_size} bytes, more than {LIMIT}")
        # Open the file that was checked, not whatever has its name now.
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(found)
    with open(fd, "rb") as file:
        return file.read(LIMIT)
