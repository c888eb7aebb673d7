"""Where an archive of a checkpoint may be written, and writing it there as a whole.

Run by the runtime worker, for a path that a client of the CRI gives. Rules kept: the folder is there already, and is
neither one of the system's nor of crisp's own, whatever links lead to it; what has the name is a regular file or
nothing, never a link; the file appears whole, readable by root alone, or not at all.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kernel.config.sections import Config
from kernel.errors import FailedPrecondition, Internal, InvalidInput, ResourceExhausted
from kernel.host import syscalls

SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr")
"""What is the system's: a file of memory pages there would be run, read as configuration, or lost."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_forbidden(folder: str, config: Config) -> bool:
    """Whether a folder, links resolved, is the system's or crisp's own. Pure."""
    own = (os.path.normpath(config.root), os.path.normpath(config.run))
    return any(folder == top or folder.startswith(f"{top}/") for top in (*SYSTEM, *own))


def check(location: str, config: Config) -> None:
    """InvalidInput or FailedPrecondition where no archive may be written there; nothing is changed."""
    folder, name = _open_folder(location, config)
    try:
        _check_name(folder, name, location)
    finally:
        os.close(folder)


@contextmanager
def replacing(location: str, mark: str, config: Config) -> Iterator[IO[bytes]]:
    """A file to write; with the end of the body it gets its name, after an error nothing of it is left. `mark` tells
    its temporary name from those of others."""
    folder, name = _open_folder(location, config)
    temporary = temporary_name(name, mark)
    try:
        _check_name(folder, name, location)
        with suppress(FileNotFoundError):  # left by an attempt that was cut off
            os.unlink(temporary, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                yield file
                file.flush()
                os.fsync(fd)
            _check_name(folder, name, location)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
    except OSError as error:
        kind = ResourceExhausted if error.errno in _FULL else Internal
        raise kind(f"location: {location} cannot be written: {error.strerror}") from error
    finally:
        os.close(folder)


def temporary_name(name: str, mark: str) -> str:
    """What a file is called until it is whole. Pure."""
    return f".{name[:200]}.{mark}"


def discard(location: str, mark: str) -> None:
    """Remove what an attempt that was cut off has left."""
    path = Path(location)
    with suppress(OSError):  # it never came so far, or the folder is gone
        path.with_name(temporary_name(path.name, mark)).unlink()


def _open_folder(location: str, config: Config) -> tuple[int, str]:
    above, _, name = location.rpartition("/")
    if not location.startswith("/") or ".." in location.split("/") or name in ("", ".") or "\0" in location:
        raise InvalidInput(f"location: {location[:200]!r} is not the absolute path of a file")
    try:
        real = os.path.realpath(above or "/", strict=True)
        if is_forbidden(real, config):
            raise InvalidInput(f"location: {location}: {real} is not a folder for archives")
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY
            return syscalls.openat2(root, real.lstrip("/") or ".", flags, syscalls.RESOLVE_NO_SYMLINKS), name
        finally:
            os.close(root)
    except OSError as error:
        raise FailedPrecondition(f"location: {location}: its folder: {error.strerror}") from error


def _check_name(folder: int, name: str, location: str) -> None:
    try:
        status = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidInput(f"location: {location[:200]}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"location: {location} is there and not a regular file")
