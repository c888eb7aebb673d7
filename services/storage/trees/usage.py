"""Measures the space that a container's writable layer takes on disk.

Runs in threads of the storage worker. The layer changes while it is counted: what vanishes meanwhile is not counted.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from kernel.contracts.storage import Usage
from services.storage.trees import within

_BLOCK = 512
"""Bytes of st_blocks' unit."""
NEW = Usage(bytes=4096, inodes=1)
"""The size of a new, empty writable layer: one folder."""


def measure(path: Path) -> Usage:
    """Return bytes on disk and inodes of a folder, itself included; a file with many names once.

    Folders whose path is longer than the kernel takes are counted, but not their content. FileNotFoundError if there
    is no such folder.
    """
    top = os.open(path, within.FOLDER)
    try:
        return _measure(top)
    finally:
        os.close(top)


def _measure(top: int) -> Usage:
    status = os.fstat(top)
    size, inodes = status.st_blocks * _BLOCK, 1
    linked: set[tuple[int, int]] = set()
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError):  # gone or replaced meanwhile, or too deep
            fd = within.open_plain(top, folder)
            try:
                with os.scandir(fd) as found:
                    for entry in found:
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        if stat.S_ISDIR(status.st_mode):
                            waiting.append((folder + b"/" if folder else b"") + os.fsencode(entry.name))
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
