"""The directories of a layer that is being made: opened within its root, made if missing, the last one kept open.

Runs in the child that makes files. Entries of a tar come directory by directory, so the parent of one entry is mostly
that of the next. Links in a parent's path are followed and never lead out of the root; a directory is made or removed
by a single name below an open one.
"""

from __future__ import annotations

import errno
import os

from kernel.errors import InvalidInput
from services.storage.tar.tally import Tally
from services.storage.trees import layer_size, within
from services.storage.trees.removal import empty


class Parents:
    """A cursor over the directories below `root`. What is made and removed is counted in `tally`."""

    def __init__(self, root: int, tally: Tally) -> None:
        self.root = root
        self._tally = tally
        self._path: bytes | None = None
        self._fd = -1

    def open(self, path: bytes) -> int:
        """Return a descriptor of the directory `path`, made with its own parents if missing.

        It belongs to this object, and is closed when another directory is opened.
        """
        if path == self._path:
            return self._fd
        if not path:
            return self.root
        try:
            fd = within.open_in_root(self.root, path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            fd = self._make_with_parents(path)
        self.close()
        self._path, self._fd = path, fd
        return fd

    def close(self) -> None:
        """Close the directory that is kept open, if any."""
        if self._fd >= 0:
            os.close(self._fd)
        self._path, self._fd = None, -1

    def open_or_make(self, parent: int, name: bytes, path: bytes) -> int:
        """Return a descriptor of the directory `name` in `parent`, at `path`; the caller closes it.

        What this tar made earlier at the place goes, unless it is a directory.
        """
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            try:
                return os.open(name, within.FOLDER, dir_fd=parent)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
            hidden = path in self._tally.hidden
            self.remove(parent, name, path)
            if hidden:  # hidden first and then made again: nothing of the layers below shows through
                self._tally.opaque.add(path)
            parent = self.open(path.rpartition(b"/")[0])
            os.mkdir(name, 0o755, dir_fd=parent)
        self._tally.add(layer_size.BLOCK)
        return os.open(name, within.FOLDER, dir_fd=parent)

    def remove(self, parent: int, name: bytes, path: bytes) -> None:
        """Make way for a later entry. A directory goes with all below it. Closes the directory that is kept open."""
        tally = self._tally
        tally.replaced = True
        tally.hidden.discard(path)
        try:
            os.unlink(name, dir_fd=parent)
            tally.opaque.discard(path)  # it was a link to the directory that was meant
        except IsADirectoryError:
            folder = os.open(name, within.FOLDER, dir_fd=parent)
            try:
                empty(folder)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=parent)
            tally.forget(path)
        self.close()

    def _make_with_parents(self, path: bytes) -> int:
        above, _, name = path.rpartition(b"/")
        parent = self.open(above)
        if path not in self._tally.hidden and _exists(parent, name):
            raise InvalidInput(f"tar has entries below {path!r}, which is not a directory")
        fd = self.open_or_make(parent, name, path)
        self._tally.imply(path)
        return fd


def _exists(parent: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True
