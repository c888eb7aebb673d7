"""What layers show together, looked up in their folders without a mount: the topmost that says something counts.

Runs in threads of the storage worker. Every name below a layer is an image's: no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kernel.host import syscalls

_PLAIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
NOTHING, COVERED = 0, -1
"""Instead of a mode: the layer says nothing of a path; it hides whatever the layers below have there."""


class Layers:
    """Open folders of layers, the lowest first."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self._opaque: dict[tuple[int, bytes], bool] = {}

    def __len__(self) -> int:
        return len(self._roots)

    def mode(self, number: int, path: bytes) -> int:
        """The mode of what a layer has at a path, NOTHING or COVERED."""
        parent, _, name = path.rpartition(b"/")
        root = self._roots[number]
        try:
            folder = syscalls.openat2(root, os.fsdecode(parent or b"."), os.O_PATH | os.O_DIRECTORY, _PLAIN)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return NOTHING
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return COVERED
            raise
        try:
            status = os.lstat(name, dir_fd=folder)
        except FileNotFoundError:
            return NOTHING
        finally:
            os.close(folder)
        whiteout = stat.S_ISCHR(status.st_mode) and not status.st_rdev
        return COVERED if whiteout else status.st_mode

    def hides(self, number: int, path: bytes) -> bool:
        """Whether a folder on the way to a path, or at it, hides what the layers below have in it."""
        parts = path.split(b"/")
        return any(self._is_opaque(number, b"/".join(parts[: count + 1])) for count in range(len(parts)))

    def shown(self, path: bytes) -> int:
        """The mode of what all show together at a path; NOTHING where there is nothing."""
        for number in reversed(range(len(self._roots))):
            mode = self.mode(number, path)
            if mode != NOTHING:
                return NOTHING if mode == COVERED else mode
            if self.hides(number, path):
                return NOTHING
        return NOTHING

    def _is_opaque(self, number: int, path: bytes) -> bool:
        key = (number, path)
        if key not in self._opaque:
            self._opaque[key] = self._read_opaque(number, path)
        return self._opaque[key]

    def _read_opaque(self, number: int, path: bytes) -> bool:
        try:
            fd = syscalls.openat2(self._roots[number], os.fsdecode(path), _FOLDER, _PLAIN)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        try:
            return os.getxattr(fd, "trusted.overlay.opaque") == b"y"
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOTSUP):
                return False
            raise
        finally:
            os.close(fd)


@contextmanager
def opened(diffs: Sequence[Path]) -> Iterator[Layers]:
    """The layers in these folders, the lowest first."""
    roots: list[int] = []
    try:
        for diff in diffs:
            roots.append(os.open(diff, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        yield Layers(roots)
    finally:
        for root in roots:
            os.close(root)
