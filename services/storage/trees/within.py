"""Opens a path below a folder in which every name is an image's, in the two ways that are safe.

Used by the storage worker and its children. A path is bytes, relative to the folder; an empty one is the folder
itself. openat2(2) resolves it in one step, so nothing that is changed meanwhile leads out.
"""

from __future__ import annotations

import os

from kernel.host import syscalls

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to read a folder, with no link followed at its own name."""
PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""Flags for a folder in which a name is to be looked up or changed."""
_PLAIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
_IN_ROOT = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS


def open_plain(folder: int, path: bytes, flags: int = FOLDER) -> int:
    """Open a path in which no symbolic link is followed. OSError ELOOP if there is one on the way."""
    return syscalls.openat2(folder, os.fsdecode(path or b"."), flags, _PLAIN)


def open_in_root(root: int, path: bytes, flags: int = PLACE) -> int:
    """Open a path as a process would whose root directory is `root`: links are followed and never lead out of it."""
    return syscalls.openat2(root, os.fsdecode(path or b"."), flags, _IN_ROOT)
