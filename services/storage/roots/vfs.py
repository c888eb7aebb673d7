"""Root file systems as plain copies of their layers, for hosts where no overlay can be mounted.

Runs in threads of the storage worker. It costs the space and the time of a copy for each container, so it is only the
way out: below an overlay of somebody else's, say. Layers are put over each other as the kernel would merge them.
Every name in a layer is an image's: no link is followed, and each step is on a single name in an open folder, or on a
path of folders that this copy has made itself.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kernel.contracts.oci import IdMap
from kernel.host import syscalls
from services.storage.roots.mapped_overlay import owner
from services.storage.trees import removal

_PLAIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 27
_NO_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})


class Copy:
    """A folder that becomes what layers show together."""

    def __init__(self, target: Path, ids: IdMap | None = None) -> None:
        self._root = os.open(target, _FOLDER)
        self._ids = ids
        self._times: dict[bytes, int] = {}

    def add(self, layer: Path, implied: frozenset[bytes]) -> None:
        """Put one more layer on top."""
        source = os.open(layer, _FOLDER)
        try:
            self._add(source, implied)
        finally:
            os.close(source)

    def end(self) -> int:
        """No more layers come; the folder's descriptor, which the caller closes."""
        for path, time_ns in self._times.items():
            with suppress(OSError):  # a later layer has something else there
                fd = _open(self._root, path)
                os.utime(fd, ns=(time_ns, time_ns))
                os.close(fd)
        return self._root

    def _add(self, source: int, implied: frozenset[bytes]) -> None:
        linked: dict[int, bytes] = {}
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            below, made = _open(source, path), _open(self._root, path)
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
        """One entry; whether it is a folder, whose own are to come."""
        status = os.lstat(name, dir_fd=below)
        if stat.S_ISDIR(status.st_mode):
            self._put_folder(below, made, name, path, status, only_implied=path in implied)
            return True
        _clear(made, name)
        if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
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
        source = os.open(name, _FOLDER, dir_fd=below)
        try:
            there = _mode(made, name)
            if there and not stat.S_ISDIR(there):
                _clear(made, name)
            if not stat.S_ISDIR(there):
                os.mkdir(name, 0o700, dir_fd=made)
            target = os.open(name, _FOLDER, dir_fd=made)
            try:
                anew = not stat.S_ISDIR(there)
                if not anew and _is_opaque(source):
                    removal.empty(target)
                    anew = True
                if anew or not only_implied:
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
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=made)  # made above: not a link
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=made, follow_symlinks=False)

    def _look(self, source: int, target: int, status: os.stat_result) -> None:
        """Owner first: changing it clears set-user-id bits and file capabilities."""
        os.fchown(target, *self._owner(status))
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source):
            if name == "security.capability" or name.startswith("user."):
                os.setxattr(target, name, os.getxattr(source, name))

    def _owner(self, status: os.stat_result) -> tuple[int, int]:
        return owner(self._ids, status.st_uid, status.st_gid) if self._ids else (status.st_uid, status.st_gid)


def make(target: Path, layers: Sequence[tuple[Path, frozenset[bytes]]], ids: IdMap | None = None) -> int:
    """Copy layers, the lowest first, each with the folders that it only implies, into an empty folder; its descriptor,
    which the caller closes."""
    copy = Copy(target, ids)
    for layer, implied in layers:
        copy.add(layer, implied)
    return copy.end()


def _open(root: int, path: bytes) -> int:
    return syscalls.openat2(root, os.fsdecode(path or b"."), _FOLDER, _PLAIN)


def _mode(folder: int, name: bytes) -> int:
    try:
        return os.lstat(name, dir_fd=folder).st_mode
    except FileNotFoundError:
        return 0


def _clear(folder: int, name: bytes) -> None:
    """Take away what is at a name."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        inner = os.open(name, _FOLDER, dir_fd=folder)
        try:
            removal.empty(inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder)


def _is_opaque(folder: int) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


def _copy(source: int, target: int, size: int) -> None:
    """The bytes of a file; shared with it where the file system can."""
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
