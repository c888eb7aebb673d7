"""Bytes and inodes of a layer, counted from the lengths of its files: the same number on every file system.

Runs in the children that unpack and check a layer, and in threads of the storage worker.
"""

from __future__ import annotations

import os
import stat

from services.storage.trees import within

BLOCK = 4096


def blocks(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes in whole blocks."""
    return -(-size // BLOCK) * BLOCK


def count(folder: int) -> tuple[int, int]:
    """Return bytes and inodes of an open folder with all below it, itself included; a file with many names once."""
    size = inodes = 0
    seen: set[int] = set()
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        fd = within.open_in_root(folder, path, within.FOLDER)
        try:
            inodes += 1
            size += BLOCK if path else 0
            with os.scandir(fd) as found:
                for entry in found:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append((path + b"/" if path else b"") + os.fsencode(entry.name))
                    elif status.st_nlink == 1 or status.st_ino not in seen:
                        seen.add(status.st_ino)
                        inodes += 1
                        size += blocks(status.st_size) if stat.S_ISREG(status.st_mode) else 0
        finally:
            os.close(fd)
    return size, inodes
