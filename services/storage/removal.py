"""Deleting a tree that a container or a tar made: of any depth, with no link followed.

Used by the storage worker and its unpacking child. Sub-directories are moved up into the tree's top before they are
emptied, so that neither recursion, descriptors nor path lengths grow with the depth.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_FOLDER = os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


def empty(folder: int) -> None:
    """Delete all below the directory `folder`."""
    mark = os.urandom(8).hex()  # names that nothing in the tree has
    waiting = [b"."]
    serial = 0
    while waiting:
        name = waiting.pop()
        fd = os.open(name, _FOLDER, dir_fd=folder)
        try:
            with os.scandir(fd) as found:
                inside = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
            for child, is_folder in inside:
                if not is_folder:
                    os.unlink(child, dir_fd=fd)
                    continue
                serial += 1
                moved = f".{mark}-{serial}".encode()
                os.rename(child, moved, src_dir_fd=fd, dst_dir_fd=folder)
                waiting.append(moved)
        finally:
            os.close(fd)
        if name != b".":
            os.rmdir(name, dir_fd=folder)


def delete(path: Path) -> None:
    """Delete the directory `path` and all below it; gone already is success."""
    try:
        fd = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        empty(fd)
    finally:
        os.close(fd)
    with suppress(FileNotFoundError):  # another one was faster
        path.rmdir()
