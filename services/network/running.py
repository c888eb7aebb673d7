"""The mark of plugins under way: a locked file that a plugin and all that it starts inherit.

A plugin outlives a worker that is killed. The next life must not run DEL beside an ADD that still runs, or the
ADD's address stays behind: the lock tells it that one does, for it is held until the last process that
inherited it has ended. The mark lies there only while a chain runs.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kernel.errors import Internal
from kernel.host.aio import Deadline

_LOG = logging.getLogger(__name__)
_POLL = 0.02


@contextmanager
def mark(path: Path) -> Iterator[int]:
    """A locked descriptor for plugins to inherit, for as long as the body runs them."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Internal(f"mark {path} cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Internal(f"plugins of an earlier call still run: {path} is locked") from error
    try:
        yield fd
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


async def settle(path: Path, patience: float) -> None:
    """Wait until plugins of an earlier life of this worker have ended; after `patience` seconds end them."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Internal(f"mark {path} cannot be read: {error.strerror}") from error
    try:
        if not await _unlocked(fd, Deadline.after(patience)):
            _LOG.warning("plugins of an earlier life of this worker hang and are ended mark=%s", path)
            await asyncio.to_thread(_end_holders, path)
            if not await _unlocked(fd, Deadline.after(patience)):
                raise Internal(f"plugins of an earlier life of this worker cannot be ended: {path} is locked")
        path.unlink(missing_ok=True)
    finally:
        os.close(fd)


async def _unlocked(fd: int, deadline: Deadline) -> bool:
    while True:  # the kernel tells of a lock's release only to a thread that cannot be called back
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if deadline.remaining() <= 0:
                return False
            await asyncio.sleep(_POLL)
        else:
            return True


def _end_holders(path: Path) -> None:
    """SIGKILL to every process that has the mark open, but us."""
    mark = path.stat()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _holds(name, mark):
            with suppress(ProcessLookupError):  # ended by itself
                os.kill(int(name), signal.SIGKILL)


def _holds(pid: str, mark: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or of more privilege than a plugin
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):  # closed meanwhile
                if os.path.samestat(os.stat(f"{folder}/{name}"), mark):
                    return True
    return False
