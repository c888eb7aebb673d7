"""How much space a folder takes, and where the store's file systems stand.

Runs in threads of the storage worker; the folders are containers' writable layers, which change while they are
counted: what vanishes on the way is not counted.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from kernel.contracts.storage import Usage
from kernel.host import syscalls

_FOLDER = os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_BLOCK = 512
NEW = Usage(bytes=4096, inodes=1)
"""A writable layer that nobody has written to: one folder."""


def measure(path: Path) -> Usage:
    """Bytes on disk and inodes of a folder, itself among them; a file with many names once.

    Folders whose path is longer than the kernel takes are not looked into.
    """
    top = os.open(path, _FOLDER)
    try:
        return _measure(top)
    finally:
        os.close(top)


def _measure(top: int) -> Usage:
    status = os.fstat(top)
    size, inodes = status.st_blocks * _BLOCK, 1
    linked: set[tuple[int, int]] = set()
    waiting = ["."]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError):  # gone or replaced meanwhile, or too deep
            fd = syscalls.openat2(top, folder, _FOLDER, syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS)
            try:
                with os.scandir(fd) as found:
                    for entry in found:
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        if stat.S_ISDIR(status.st_mode):
                            waiting.append(f"{folder}/{entry.name}")
                        elif status.st_nlink > 1:
                            key = (status.st_dev, status.st_ino)
                            if key in linked:
                                continue
                            linked.add(key)
                        size += status.st_blocks * _BLOCK
                        inodes += 1
            finally:
                os.close(fd)
    return Usage(bytes=size, inodes=inodes)
