"""Reads files of the node's administrator: CDI specifications, OCI hooks, classes of block I/O.

Run by the runtime worker. What they name is run or mounted as root, so a file counts only if no user but root can
have written it: it and its folder belong to root and are writable by no other user.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kernel.host import files

_LARGEST = 1 << 20
"""Most bytes of a file."""
_MOST = 4096
"""Most files of a folder that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminFile:
    """A file, or the reason why it does not count."""

    folder: str
    name: str
    content: bytes = b""
    reason: str = ""
    """Why it does not count; empty if it does."""

    @property
    def path(self) -> str:
        """Its whole path."""
        return f"{self.folder}/{self.name}"


def read(folders: Iterable[str], suffixes: tuple[str, ...]) -> list[AdminFile]:
    """Return the files of each folder in order of their names; a folder that is missing has none."""
    found = []
    for folder in folders:
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(suffixes) and not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):  # the administrator has none
            continue
        found += [_read(folder, name) for name in names[:_MOST]]
    return found


def one(path: str) -> AdminFile:
    """Return a single file."""
    folder, _, name = path.rpartition("/")
    return _read(folder, name)


def _read(folder: str, name: str) -> AdminFile:
    try:
        content = files.read_trusted(Path(folder or "/", name), _LARGEST, follow_link=True, check_folder=True)
    except files.NotTrusted as error:
        return AdminFile(folder=folder, name=name, reason=error.reason)
    except OSError as error:
        return AdminFile(folder=folder, name=name, reason=f"cannot be opened: {error.strerror}")
    return AdminFile(folder=folder, name=name, content=content)
