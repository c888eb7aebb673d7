"""The folder of one container's checkpoint, `Paths.checkpoint`, and errors that name the file concerned.

Runs in threads of the storage worker. The runtime worker uses the same folder: for a checkpoint it puts CRIU's dump
there, for a restore it reads the dump from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel.errors import FailedPrecondition, Internal, InvalidInput, ResourceExhausted, from_os
from services.storage.trees import removal


def renew(folder: Path) -> None:
    """Make a checkpoint's folder, empty, in the place of an earlier one."""
    with os_errors("checkpoint's folder cannot be made"):
        removal.delete(folder)
        folder.mkdir(mode=0o700)


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """Turn errors of the file system in the body into crisp's errors."""
    try:
        yield
    except OSError as error:
        raise from_os(error, what) from error


@contextmanager
def named(what: str) -> Iterator[None]:
    """Put `what` before the message of an error in the body."""
    try:
        yield
    except (InvalidInput, ResourceExhausted, Internal, FailedPrecondition) as error:
        raise type(error)(f"{what}: {error.message}", hint=error.hint) from error
