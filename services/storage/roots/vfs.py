"""Root file systems as plain copies of their layers, for hosts on which no overlay can be mounted.

Runs in threads of the storage worker. Each container costs the space and the time of a copy, so this is a last resort,
for example inside a container whose own root is an overlay. Layers are put over each other as the kernel would
merge them. Every name in a layer is an image's: no link is followed, and each step works on a single name in an open
folder, or on a path of folders that this copy has made itself.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from kernel.contracts.oci import IdMap
from services.storage.roots.mapped_overlay import owner
from services.storage.trees import overlay_marks, removal, within

_CHUNK = 1 << 27
_NO_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors with which copy_file_range(2) leaves the copy to others."""
_REPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors of a path at which a later layer has something else than a folder, or nothing."""


class Copy:
    """A folder that becomes the merged view of layers."""

    def __init__(self, target: Path, ids: IdMap | None = None) -> None:
        self._root = os.open(target, within.FOLDER)
        self._ids = ids
        self._times: dict[bytes, int] = {}

    def add(self, layer: Path, implied: frozenset[bytes]) -> None:
        """Put one more layer on top. `implied`: the directories that it only implies, which keep their look."""
        source = os.open(layer, within.FOLDER)
        try:
            self._add(source, implied)
        finally:
            os.close(source)

    def end(self) -> int:
        """Set the times of folders, as no more layers come. Return the folder's descriptor, which the caller closes."""
        for path, time_ns in self._times.items():
            try:
                fd = within.open_plain(self._root, path)
            except OSError as error:
                if error.errno not in _REPLACED:
                    raise
                continue
            try:
                os.utime(fd, ns=(time_ns, time_ns))
            finally:
                os.close(fd)
        return self._root

    def close(self) -> None:
        """Close the folder's descriptor, if the copy has failed."""
        os.close(self._root)

    def _add(self, source: int, implied: frozenset[bytes]) -> None:
        linked: dict[int, bytes] = {}
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            below, made = within.open_plain(source, path), within.open_plain(self._root, path)
            try:
                with os.scandir(below) as found:
                    names = [os.fsencode(entry.name) for entry in found]
                for name in names:
                    inner = path + b"/" + name if path else name
                    if self._put(below, made, name, inner, implied, linked):
                        waiting.append(inner)
            finally:
                os.close(below)
                os.close(made)

    def _put(
        self, below: int, made: int, name: bytes, path: bytes, implied: frozenset[bytes], linked: dict[int, bytes]
    ) -> bool:
        """Put one entry in its place. Return whether it is a folder, whose entries are still to come."""
        status = os.lstat(name, dir_fd=below)
        if stat.S_ISDIR(status.st_mode):
            self._put_folder(below, made, name, path, status, only_implied=path in implied)
            return True
        _clear(made, name)
        if overlay_marks.is_whiteout(status):
            return False
        if status.st_nlink > 1 and status.st_ino in linked:
            os.link(linked[status.st_ino], name, src_dir_fd=self._root, dst_dir_fd=made, follow_symlinks=False)
            return False
        linked[status.st_ino] = path
        self._make(below, made, name, status)
        return False

    def _put_folder(
        self, below: int, made: int, name: bytes, path: bytes, status: os.stat_result, *, only_implied: bool
    ) -> None:
        source = os.open(name, within.FOLDER, dir_fd=below)
        try:
            there = _mode(made, name)
            if there and not stat.S_ISDIR(there):
                _clear(made, name)
            if not stat.S_ISDIR(there):
                os.mkdir(name, 0o700, dir_fd=made)
            target = os.open(name, within.FOLDER, dir_fd=made)
            try:
                fresh = not stat.S_ISDIR(there)
                if not fresh and overlay_marks.is_opaque(source):
                    removal.empty(target)
                    fresh = True
                if fresh or not only_implied:
                    self._look(source, target, status)
                    self._times[path] = status.st_mtime_ns
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _make(self, below: int, made: int, name: bytes, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=below)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                target = os.open(name, flags, 0o600, dir_fd=made)
                try:
                    _copy(source, target, status.st_size)
                    self._look(source, target, status)
                    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
                finally:
                    os.close(target)
            finally:
                os.close(source)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=below), name, dir_fd=made)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=made)
        os.chown(name, *self._owner(status), dir_fd=made, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=made)  # made above, so it is not a link
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=made, follow_symlinks=False)

    def _look(self, source: int, target: int, status: os.stat_result) -> None:
        """Copy owner, mode and attributes. The owner comes first: it clears set-user-id bits and file capabilities."""
        os.fchown(target, *self._owner(status))
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source):
            if name == "security.capability" or name.startswith("user."):
                os.setxattr(target, name, os.getxattr(source, name))

    def _owner(self, status: os.stat_result) -> tuple[int, int]:
        return owner(self._ids, status.st_uid, status.st_gid) if self._ids else (status.st_uid, status.st_gid)


def make(target: Path, layers: Sequence[tuple[Path, frozenset[bytes]]], ids: IdMap | None = None) -> int:
    """Copy layers, the lowest first, each with the directories that it only implies, into the empty folder `target`.

    Return its descriptor, which the caller closes. `ids` maps the owners of files.
    """
    copy = Copy(target, ids)
    try:
        for layer, implied in layers:
            copy.add(layer, implied)
        return copy.end()
    except BaseException:
        copy.close()
        raise


def _mode(folder: int, name: bytes) -> int:
    try:
        return os.lstat(name, dir_fd=folder).st_mode
    except FileNotFoundError:
        return 0


def _clear(folder: int, name: bytes) -> None:
    """Delete what is at a name, if anything is."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        inner = os.open(name, within.FOLDER, dir_fd=folder)
        try:
            removal.empty(inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder)


def _copy(source: int, target: int, size: int) -> None:
    """Copy the bytes of a file; the copy shares them if the file system can do that."""
    while size > 0:
        try:
            count = os.copy_file_range(source, target, min(size, _CHUNK))
        except OSError as error:
            if error.errno not in _NO_RANGE:
                raise
            count = os.sendfile(target, source, None, min(size, _CHUNK))
        if not count:
            return
        size -= count
