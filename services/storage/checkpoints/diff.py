"""Writes a container's changes in its root: a tar of the files that it wrote, and a list of the paths it deleted.

Runs in a thread of the storage worker, on the writable layer of a frozen container. Every name and file in it is the
container's, so folders are opened within the layer, no link is followed, and only regular files are read. The overlay's
own marks take a form that other engines know too: a whiteout becomes a deleted path, and if a folder hides the layers
below, each path that it hides is listed as deleted. Sockets are left out: a tar cannot hold one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from kernel.formats import tar_header
from kernel.formats.tar_header import Kind
from services.storage.tar.whiteout import keeps_xattr
from services.storage.trees import overlay_marks, within

_KINDS = {
    stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.CHARACTER, stat.S_IFBLK: Kind.BLOCK, stat.S_IFIFO: Kind.FIFO,
}  # fmt: skip


class Diff:
    """One writable layer being read."""

    def __init__(self, upper: Path, lower: Sequence[Path], out: IO[bytes]) -> None:
        """Read `upper` and write to `out`. `lower`: the folders of the layers below, in any order."""
        self._upper = upper
        self._lower = lower
        self._out = out
        self._names: dict[tuple[int, int], bytes] = {}
        """Files with several names that are in the tar already, by device and inode."""
        self._deleted: list[bytes] = []

    def write(self) -> list[bytes]:
        """Write the tar and return the deleted paths, relative to the root, in order."""
        top = os.open(self._upper, within.FOLDER)
        try:
            self._walk(top)
        finally:
            os.close(top)
        self._out.write(tar_header.END)
        return sorted(self._deleted)

    def _walk(self, top: int) -> None:
        waiting: list[tuple[bytes, bool]] = [(b"", False)]
        while waiting:
            path, hides = waiting.pop()
            fd = within.open_plain(top, path)
            try:
                hides = hides or overlay_marks.is_opaque(fd)
                if path:
                    self._write_header(path, Kind.DIRECTORY, os.fstat(fd), _xattrs(fd, path))
                names = sorted(os.fsencode(name) for name in os.listdir(fd))
                for name in names:
                    below = path + b"/" + name if path else name
                    if self._is_folder(fd, name, below):
                        waiting.append((below, hides))
                if hides:
                    self._deleted += [path + b"/" + name for name in self._hidden(path) if name not in names]
            finally:
                os.close(fd)

    def _is_folder(self, parent: int, name: bytes, path: bytes) -> bool:
        """Return whether an entry is a folder to walk through; everything else is written at once."""
        status = os.lstat(name, dir_fd=parent)
        form = stat.S_IFMT(status.st_mode)
        if form == stat.S_IFDIR:
            return True
        if overlay_marks.is_whiteout(status):
            self._deleted.append(path)
        elif form == stat.S_IFREG:
            self._write_file(parent, name, path)
        elif form in _KINDS:
            link = os.fsencode(os.readlink(name, dir_fd=parent)) if form == stat.S_IFLNK else b""
            self._write_header(path, _KINDS[form], status, link=link)
        return False

    def _write_file(self, parent: int, name: bytes, path: bytes) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            status = os.fstat(fd)
            inode = (status.st_dev, status.st_ino)
            if status.st_nlink > 1 and inode in self._names:
                self._write_header(path, Kind.HARD_LINK, status, link=self._names[inode])
                return
            self._names[inode] = path
            self._write_header(path, Kind.FILE, status, _xattrs(fd, path), size=status.st_size)
            copy(fd, self._out, status.st_size)
            self._out.write(tar_header.padding(status.st_size))
        finally:
            os.close(fd)

    def _write_header(
        self, path: bytes, kind: Kind, status: os.stat_result, xattrs: Sequence[tuple[bytes, bytes]] = (), *,
        link: bytes = b"", size: int = 0,
    ) -> None:  # fmt: skip
        self._out.write(
            tar_header.header(
                path, kind, size=size, mode=status.st_mode, uid=status.st_uid, gid=status.st_gid,
                mtime_ns=status.st_mtime_ns, link=link, xattrs=xattrs,
                device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
            )
        )  # fmt: skip

    def _hidden(self, path: bytes) -> set[bytes]:
        """Return the names that the layers below have in a folder, whiteouts too: deleting one changes nothing."""
        found: set[bytes] = set()
        for layer in self._lower:
            found.update(_names_in(layer, path))
        return found


def copy(fd: int, out: IO[bytes], size: int) -> None:
    """Copy `size` bytes of a file; OSError EIO if it has fewer, which it cannot have while the container is frozen."""
    out.flush()
    while size:
        sent = os.sendfile(out.fileno(), fd, None, size)
        if not sent:
            raise OSError(errno.EIO, "a file became shorter while it was read")
        size -= sent


def _names_in(layer: Path, path: bytes) -> Iterator[bytes]:
    top = os.open(layer, within.FOLDER)
    try:
        fd = within.open_plain(top, path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return
    finally:
        os.close(top)
    try:
        yield from (os.fsencode(name) for name in os.listdir(fd))
    finally:
        os.close(fd)


def _xattrs(fd: int, path: bytes) -> list[tuple[bytes, bytes]]:
    """Return the attributes that an archive keeps: those that a layer would."""
    found = []
    for name in os.listxattr(fd):
        if name == "security.capability" or name.startswith("user."):
            value = os.getxattr(fd, name)
            if keeps_xattr(os.fsencode(name), value, path):
                found.append((os.fsencode(name), value))
    return found
