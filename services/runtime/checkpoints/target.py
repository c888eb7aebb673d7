"""The place for an archive of a checkpoint: its check, and the writing there.

Run by the runtime worker in threads, for a path that a client of the CRI gives. Rules kept: the folder exists, and is
neither one of the system's nor of crisp's own, whatever links lead to it; a file of that name is replaced only if it is
a regular one; the archive appears whole, readable by root alone, or not at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kernel.config.sections import Config
from kernel.errors import FailedPrecondition, InvalidInput, from_os
from kernel.host import files, syscalls

SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr")
"""Folders of the system: a file of memory pages there would be run, read as configuration, or lost."""


def is_forbidden(folder: str, config: Config) -> bool:
    """Return whether a folder, with links resolved, is the system's or crisp's own. Pure."""
    own = (os.path.normpath(config.root), os.path.normpath(config.run))
    return any(folder == top or folder.startswith(f"{top}/") for top in (*SYSTEM, *own))


def check(location: str, config: Config) -> None:
    """Raise InvalidInput or FailedPrecondition if no archive may be written there; nothing is changed."""
    folder, name = _open_folder(location, config)
    try:
        _check_name(folder, name, location)
    finally:
        os.close(folder)


@contextmanager
def replacing(location: str, mark: str, config: Config) -> Iterator[BinaryIO]:
    """Yield a file to write, which gets its name at the end of the body; after an error nothing of it is left.

    `mark` distinguishes its temporary name from those of other writers. InvalidInput or FailedPrecondition if it may
    not be written, ResourceExhausted if it does not fit, Internal for other failures.
    """
    folder, name = _open_folder(location, config)
    try:
        _check_name(folder, name, location)
        named = temporary_name(name, mark)
        with files.replacing(Path(location), durable=True, folder=folder, named=named) as file:
            yield file
            _check_name(folder, name, location)
    except OSError as error:
        raise from_os(error, f"location: {location} cannot be written") from error
    finally:
        os.close(folder)


def temporary_name(name: str, mark: str) -> str:
    """Return the name that a file has until it is whole. Pure."""
    return f".{name[:200]}.{mark}"


def discard(location: str, mark: str) -> None:
    """Remove the temporary file that an attempt which was cut off may have left."""
    path = Path(location)
    with suppress(OSError):  # the attempt never began to write, or the folder is gone
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
        raise InvalidInput(f"location: {location} exists and is not a regular file")
