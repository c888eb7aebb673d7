"""One function for each kind of entry: makes it by a single name in an open directory, and sets its metadata.

Runs in the child that makes files. Nothing is followed or changed through a name's last component. A name that is
taken raises FileExistsError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from kernel.errors import InvalidInput
from kernel.formats.tar_header import Kind
from kernel.host import syscalls
from services.storage.tar.pipe_source import Stream
from services.storage.tar.reader import Entry
from services.storage.tar.whiteout import keeps_xattr, locate
from services.storage.trees import overlay_marks, within

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE_BEHIND = 1 << 20
"""Bytes from which on a file is sent on to the disk at once, so that the sync at the end is short."""
_SYNC_FILE_RANGE_WRITE = 2
"""linux/fs.h"""
_FORMS = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


def make_file(parent: int, name: bytes, entry: Entry, source: Stream) -> None:
    """Make a file; its contents are the next bytes of the tar."""
    fd = os.open(name, _FRESH, 0o600, dir_fd=parent)
    try:
        if entry.size:
            source.copy_to(fd, entry.size)
        set_metadata(fd, entry)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        if entry.size >= _WRITE_BEHIND:
            syscalls.sync_file_range(fd, _SYNC_FILE_RANGE_WRITE)
    finally:
        os.close(fd)


def make_symlink(parent: int, name: bytes, entry: Entry) -> None:
    """Make a symbolic link. Its target is any text: it is followed only inside a container."""
    os.symlink(entry.link, name, dir_fd=parent)
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def make_node(parent: int, name: bytes, entry: Entry) -> None:
    """Make a device or a fifo."""
    os.mknod(name, _FORMS[entry.kind] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    os.chmod(name, entry.mode, dir_fd=parent)  # made two lines above: not a link
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def make_hard_link(root: int, parent: int, name: bytes, entry: Entry) -> None:
    """Link to an earlier entry of the layer. Its last component is not followed, and the entry is not changed."""
    target_parent, target_name = locate(entry.link)
    if not target_name:
        raise InvalidInput(f"tar entry {entry.path!r} is a hard link to the layer's root")
    try:
        source = within.open_in_root(root, target_parent)
    except OSError as error:
        raise _no_target(entry) from error
    try:
        status = os.lstat(target_name, dir_fd=source)
        if stat.S_ISDIR(status.st_mode):
            raise InvalidInput(f"tar entry {entry.path!r} is a hard link to the directory {entry.link!r}")
        if overlay_marks.is_whiteout(status):
            raise InvalidInput(f"tar entry {entry.path!r} is a hard link to {entry.link!r}, which is deleted")
        os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError as error:
        raise _no_target(entry) from error
    finally:
        os.close(source)


def is_linked(root: int, parent: int, name: bytes, entry: Entry) -> bool:
    """Return whether the hard link is there already, or names itself."""
    target_parent, target_name = locate(entry.link)
    with contextlib.suppress(OSError):  # no such target: making the link raises the error for it
        source = within.open_in_root(root, target_parent)
        try:
            return os.path.samestat(os.lstat(target_name, dir_fd=source), os.lstat(name, dir_fd=parent))
        finally:
            os.close(source)
    return False


def set_metadata(fd: int, entry: Entry) -> None:
    """Set owner, mode and attributes. The owner comes first: changing it clears set-user-id bits and capabilities."""
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)
    for name, value in entry.xattrs:
        if not keeps_xattr(name, value, entry.path):
            continue
        if name == b"security.capability" and entry.kind is not Kind.FILE:
            continue
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP or name == b"security.capability":
                raise


def _no_target(entry: Entry) -> InvalidInput:
    return InvalidInput(f"tar entry {entry.path!r} is a hard link to {entry.link!r}, which is not there")
