"""The merged view of a stack of layers, looked up in their folders without mounting: the topmost that has a path wins.

Runs in threads of the storage worker. Every name below a layer is an image's, so no link is followed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.storage.trees import overlay_marks, within

NOTHING, COVERED = 0, -1
"""Instead of a mode: the layer has nothing at a path; it hides whatever the layers below have there."""


class Layers:
    """Open folders of layers, the lowest first."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self._opaque: dict[tuple[int, bytes], bool] = {}

    def __len__(self) -> int:
        return len(self._roots)

    def mode(self, number: int, path: bytes) -> int:
        """Return the mode of what a layer has at a path, or NOTHING or COVERED."""
        parent, _, name = path.rpartition(b"/")
        root = self._roots[number]
        try:
            folder = within.open_plain(root, parent, within.PLACE)
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
        return COVERED if overlay_marks.is_whiteout(status) else status.st_mode

    def hides(self, number: int, path: bytes) -> bool:
        """Return whether a folder on the way to a path, or at it, hides what the layers below have in it."""
        parts = path.split(b"/")
        return any(self._is_opaque(number, b"/".join(parts[: count + 1])) for count in range(len(parts)))

    def shown(self, path: bytes) -> int:
        """Return the mode of what all layers together show at a path, or NOTHING."""
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
            fd = within.open_plain(self._roots[number], path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        try:
            return overlay_marks.is_opaque(fd)
        finally:
            os.close(fd)


@contextmanager
def opened(diffs: Sequence[Path]) -> Iterator[Layers]:
    """Yield the layers in these folders, the lowest first, open for the body."""
    roots: list[int] = []
    try:
        for diff in diffs:
            roots.append(os.open(diff, within.PLACE))
        yield Layers(roots)
    finally:
        for root in roots:
            os.close(root)
