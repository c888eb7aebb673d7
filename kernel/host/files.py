"""Files that are replaced whole, and files that are trusted only if no user but root can have written them.

The caller that replaces a file answers one question, `durable`: must the new content survive a crash of the machine?

- `durable=True` syncs the content before the rename and the folder after it. After a crash of the machine the file
  has the old content or the new one; once the function has returned, the new one.
- `durable=False` syncs nothing. It is for files that lose their meaning with a boot (everything below the run folder),
  and for files that can be made again or are checked when they are read. Other processes see the old content or the
  new one, and so does a process that starts after crisp was killed; after a crash of the machine the file may be empty.

Everything here blocks. Errors are OSErrors that carry the file's path; `kernel.errors.from_os` converts them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_CHUNK = 1 << 20


class NotTrusted(PermissionError):
    """A file is not trusted: `reason` is the cause in a few words, `filename` is its path.

    It is an OSError too, with the reason as `strerror`, so that a caller may handle it like a file that cannot be read.
    """

    @property
    def reason(self) -> str:
        """The reason why the file is not trusted."""
        return str(self.strerror)


def temporary(path: Path) -> Path:
    """Return the name that the new content of `path` has until it is whole. A crash may leave it behind. Pure."""
    return path.with_name(_temporary(path.name))


def replace(path: Path, data: bytes, *, durable: bool, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Give a file new content at once: a reader finds the old content or the new one, never a part.

    The file gets `mode` whatever the umask is. `owner`: uid and gid; those of this process if None. After an error the
    file is as it was, and no temporary file is left.
    """
    with replacing(path, durable=durable, mode=mode, owner=owner) as file:
        file.write(data)


@contextmanager
def replacing(
    path: Path,
    *,
    durable: bool,
    mode: int | None = 0o600,
    owner: tuple[int, int] | None = None,
    folder: int | None = None,
    named: str = "",
) -> Iterator[BinaryIO]:
    """Yield a file to write; at the end of the body it replaces the one at `path`, as `replace` does.

    If the body raises, the new content is removed. `mode`: None for an ordinary file of this process's user, whose
    umask decides. `folder`: a descriptor of the folder that contains the file, if its path may lead elsewhere by now;
    `path` then only names the file. `named`: the temporary name, if more than one process or thread may write this file
    at a time; a file that has this name is overwritten.
    """
    access = os.O_RDONLY if durable else os.O_PATH  # what is not synced need not be readable
    where = os.open(path.parent, access | os.O_DIRECTORY | os.O_CLOEXEC) if folder is None else folder
    fresh = named or _temporary(path.name)
    try:
        fd = _open_fresh(fresh, where, 0o666 if mode is None else 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                if mode is not None:
                    os.fchmod(fd, mode)
                if owner is not None:
                    os.fchown(fd, *owner)
                yield file
                file.flush()
                if durable:
                    os.fsync(fd)
            os.rename(fresh, path.name, src_dir_fd=where, dst_dir_fd=where)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=where)
            raise
        if durable:
            os.fsync(where)
    except OSError as error:
        if error.filename in (None, fresh):  # a write names no file, and the temporary name would confuse a reader
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if folder is None:
            os.close(where)


def put_in_place(fresh: Path, path: Path, *, durable: bool) -> None:
    """Let a file that another component has written (a database, a download) replace the one at `path`.

    Both are in the same folder. `durable` as above; it syncs the content of `fresh` too, which costs nothing if its
    writer has done so.
    """
    if durable:
        sync(fresh)
    fresh.rename(path)
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Sync the content of a file, or the names in a folder, to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(fd)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)


def why_not_trusted(status: os.stat_result, *, owners: Collection[int] = (0,), group_may_write: bool = False) -> str:
    """Return why a file or folder of this status may have been changed by others than root; empty if it cannot. Pure.

    `owners`: uids that are trusted. `group_may_write`: accept a file that its group can write.
    """
    others_write = stat.S_IWOTH if group_may_write else stat.S_IWOTH | stat.S_IWGRP
    if status.st_uid not in owners or status.st_mode & others_write:
        return "can be written by others than root"
    return ""


def open_trusted(
    path: Path,
    *,
    follow_link: bool = False,
    check_folder: bool = False,
    owners: Collection[int] = (0,),
    group_may_write: bool = False,
) -> int:
    """Open a plain file for reading, if only root can have written it; the caller closes the descriptor.

    All checks are made on the open descriptor, so a file that replaces it meanwhile changes nothing. A pipe or a device
    is not waited for. `follow_link`: whether the last part of the path may be a symbolic link. `check_folder`: the
    folder must be trusted too, for a user who can write it can put another trusted file there. The other arguments are
    those of `why_not_trusted`. Raises NotTrusted if the file is not trusted, OSError if it cannot be opened.
    """
    if check_folder and (reason := why_not_trusted(os.stat(path.parent), owners=owners)):
        raise NotTrusted(errno.EPERM, f"its folder {path.parent} {reason}", str(path))
    fd = os.open(path, _READ | (0 if follow_link else os.O_NOFOLLOW))
    try:
        status = os.fstat(fd)
        reason = "" if stat.S_ISREG(status.st_mode) else "is not a plain file"
        reason = reason or why_not_trusted(status, owners=owners, group_may_write=group_may_write)
        if reason:
            raise NotTrusted(errno.EPERM, reason, str(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_trusted(
    path: Path,
    limit: int,
    *,
    follow_link: bool = False,
    check_folder: bool = False,
    owners: Collection[int] = (0,),
    group_may_write: bool = False,
) -> bytes:
    """Return the content of a file that `open_trusted` opens; raises NotTrusted also if it is larger than `limit`
    bytes."""
    fd = open_trusted(
        path, follow_link=follow_link, check_folder=check_folder, owners=owners, group_may_write=group_may_write
    )
    try:
        data = _read(fd, limit + 1)
    finally:
        os.close(fd)
    if len(data) > limit:
        raise NotTrusted(errno.EPERM, f"is larger than {limit} bytes", str(path))
    return data


def open_plain(path: Path) -> int:
    """Open a plain file for reading, whoever wrote it. Raises OSError ELOOP for a link, EINVAL for any other kind of
    file."""
    fd = os.open(path, _READ | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a plain file", str(path))
    return fd


def read_plain(path: Path, limit: int) -> bytes:
    """Return the content of a file that `open_plain` opens; raises OSError EFBIG if it is larger than `limit` bytes."""
    fd = open_plain(path)
    try:
        data = _read(fd, limit + 1)
    finally:
        os.close(fd)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes", str(path))
    return data


def _read(fd: int, most: int) -> bytes:
    parts = []
    while most > 0 and (part := os.read(fd, min(most, _CHUNK))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _temporary(name: str) -> str:
    return f".{name[:200]}.new"  # a name has at most 255 bytes


def _open_fresh(name: str, folder: int, mode: int) -> int:
    """Open a new file. A file left by an attempt that was cut off is removed first, because it has its own mode and
    names."""
    try:
        return os.open(name, _FRESH, mode, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, _FRESH, mode, dir_fd=folder)
