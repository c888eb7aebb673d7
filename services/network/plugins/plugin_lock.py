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
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kernel.errors import Internal
from kernel.host.aio import Deadline

CONTAINER_ID = "CNI_CONTAINERID"
"""Tells every plugin of a sandbox which one it is about."""
_LOG = logging.getLogger(__name__)
_POLL = 0.02
_ROUNDS = 20


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
            await asyncio.to_thread(end_holders, path, path.stem)
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


def end_holders(path: Path, container: str) -> None:
    """SIGKILL to every process that has the mark open, or the call's container id in its environment, but us: also to
    those that left their plugin's process group and session. Again until none is found: one may fork meanwhile.

    Blocks for some 20 ms. Who is seen once may be a child of ours that is about to become another plugin and has all
    our descriptors until then; who is seen twice is meant.
    """
    mark, told, before = path.stat(), f"{CONTAINER_ID}={container}".encode(), set[int]()
    pause = threading.Event()
    for _ in range(_ROUNDS):
        found = {
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and int(name) != os.getpid() and (_holds(name, mark) or _is_told(name, told))
        }
        if not found:
            return
        for pid in found & before:
            with suppress(ProcessLookupError):  # ended by itself
                os.kill(pid, signal.SIGKILL)
        before = found
        pause.wait(_POLL)
    _LOG.warning("processes that a plugin left behind do not end mark=%s", path)


def _is_told(pid: str, told: bytes) -> bool:
    if told.endswith(b"="):  # a call about no container
        return False
    with suppress(OSError):  # ended, or of more privilege than a plugin
        return told in Path("/proc", pid, "environ").read_bytes().split(b"\0")
    return False


def _holds(pid: str, mark: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or of more privilege than a plugin
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):  # closed meanwhile
                if os.path.samestat(os.stat(f"{folder}/{name}"), mark):
                    return True
    return False
