"""Deleting a tree that a container or a tar made: of any depth, with no link followed.

Used by the storage worker and its unpacking child. Sub-directories are moved up to the top of the tree before they are
emptied, so that neither recursion, descriptors nor path lengths grow with the depth. In a mounted overlay the kernel
does not move a directory of the layers below (EXDEV): there they are emptied in their places, down to the depth that a
path can name.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from services.storage.trees import within


def empty(folder: int) -> None:
    """Delete all below the open directory `folder`."""
    mark = os.urandom(8).hex()  # names that nothing in the tree has
    waiting = [b"."]
    serial = 0
    while waiting:
        name = waiting.pop()
        fd = os.open(name, within.FOLDER, dir_fd=folder)
        try:
            with os.scandir(fd) as found:
                inside = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
            for child, is_folder in inside:
                if not is_folder:
                    os.unlink(child, dir_fd=fd)
                    continue
                serial += 1
                moved = f".{mark}-{serial}".encode()
                try:
                    os.rename(child, moved, src_dir_fd=fd, dst_dir_fd=folder)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    remove_in_place(fd, child)
                else:
                    waiting.append(moved)
        finally:
            os.close(fd)
        if name != b".":
            os.rmdir(name, dir_fd=folder)


def remove_in_place(parent: int, name: bytes) -> None:
    """Delete the entry `name` of the open directory `parent`, with all below it. Succeeds if there is none."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    else:
        return
    found, waiting = [], [name]
    while waiting:
        path = waiting.pop()
        found.append(path)
        fd = within.open_plain(parent, path)
        try:
            with os.scandir(fd) as inside:
                children = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in inside]
            for child, is_folder in children:
                if is_folder:
                    waiting.append(path + b"/" + child)
                else:
                    os.unlink(child, dir_fd=fd)
        finally:
            os.close(fd)
    for path in reversed(found):
        above, _, last = path.rpartition(b"/")
        fd = within.open_plain(parent, above)
        try:
            os.rmdir(last, dir_fd=fd)
        finally:
            os.close(fd)


def delete(path: Path) -> None:
    """Delete the directory `path` and all below it. Succeeds if there is none."""
    try:
        fd = os.open(path, within.FOLDER)
    except FileNotFoundError:
        return
    try:
        empty(fd)
    finally:
        os.close(fd)
    with suppress(FileNotFoundError):  # another process was faster
        path.rmdir()
