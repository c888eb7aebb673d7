"""Files of the node's administrator: CDI specifications, OCI hooks, classes of block I/O.

Run by the runtime worker. What they say is run or mounted as root, so a file counts only where nobody but root can
have written it: it and its folder belong to root and are writable by nobody else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

_LARGEST = 1 << 20
_MOST = 4096
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminFile:
    """A file, or why it does not count."""

    folder: str
    name: str
    content: bytes = b""
    trouble: str = ""

    @property
    def path(self) -> str:
        """Its whole path."""
        return f"{self.folder}/{self.name}"


def read(folders: Iterable[str], suffixes: tuple[str, ...]) -> list[AdminFile]:
    """The files of each folder in order of name; a folder that is missing has none."""
    found = []
    for folder in folders:
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(suffixes) and not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):  # nothing was put there
            continue
        trouble = _folder_trouble(folder)
        for name in names[:_MOST]:
            found.append(AdminFile(folder=folder, name=name, trouble=trouble) if trouble else _read(folder, name))
    return found


def one(path: str) -> AdminFile:
    """A single file."""
    folder, _, name = path.rpartition("/")
    try:
        trouble = _folder_trouble(folder or "/")
    except OSError as error:
        trouble = f"its folder {folder}: {error.strerror}"
    return AdminFile(folder=folder, name=name, trouble=trouble) if trouble else _read(folder, name)


def _folder_trouble(folder: str) -> str:
    status = os.stat(folder)
    if status.st_uid != 0 or status.st_mode & _OTHERS_WRITE:
        return f"its folder {folder} can be written by others than root"
    return ""


def _read(folder: str, name: str) -> AdminFile:
    try:
        fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return AdminFile(folder=folder, name=name, trouble=f"cannot be opened: {error.strerror}")
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        return AdminFile(folder=folder, name=name, trouble="is not a plain file")
    with os.fdopen(fd, "rb") as file:
        if status.st_uid != 0 or status.st_mode & _OTHERS_WRITE:
            return AdminFile(folder=folder, name=name, trouble="can be written by others than root")
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        return AdminFile(folder=folder, name=name, trouble=f"is larger than {_LARGEST} bytes")
    return AdminFile(folder=folder, name=name, content=content)
