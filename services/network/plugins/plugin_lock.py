"""The lock that running plugins hold: a locked file, whose descriptor a plugin and all that it starts inherit.

A plugin outlives a worker that is killed. The next worker must not run DEL beside an ADD that still runs, or the ADD's
address would leak. So it tries the lock first: flock(2) keeps it until the last process that inherited the descriptor
has ended. The file exists only while plugins run.
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
"""The environment variable by which every plugin of a sandbox gets the sandbox's id (CNI specification, section 2)."""
_LOG = logging.getLogger(__name__)
_POLL = 0.02
"""Seconds between two looks."""
_ROUNDS = 20


@contextmanager
def hold(path: Path) -> Iterator[int]:
    """Lock the file at `path` while the body runs plugins; yields the descriptor that they must inherit.

    Internal if plugins of an earlier call still hold it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Internal(f"lock {path} cannot be made: {error.strerror}") from error
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


async def wait_or_kill(path: Path, patience: float) -> None:
    """Wait until plugins that an earlier worker started have ended; after `patience` seconds, kill them.

    Internal if they do not end even then.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Internal(f"lock {path} cannot be read: {error.strerror}") from error
    try:
        if not await _locked_within(fd, Deadline.after(patience)):
            _LOG.warning("%s: plugins that an earlier worker started hang and are killed", path)
            await asyncio.to_thread(kill_holders, path, path.stem)
            if not await _locked_within(fd, Deadline.after(patience)):
                raise Internal(f"plugins that an earlier worker started cannot be ended: {path} is locked")
        path.unlink(missing_ok=True)
    finally:
        os.close(fd)


async def _locked_within(fd: int, deadline: Deadline) -> bool:
    while True:  # flock(2) can only be awaited in a blocking thread, which cannot be cancelled; so poll
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if deadline.remaining() <= 0:
                return False
            await asyncio.sleep(_POLL)
        else:
            return True


def kill_holders(path: Path, container_id: str) -> None:
    """Kill every other process that has the lock open or the call's container id in its environment.

    That includes those that left their plugin's process group and session. It is repeated until no such process is
    found, for one may fork meanwhile. Blocks for some 20 ms. A process seen once may be our own child between fork and
    exec, which briefly holds all our descriptors; only a process that is seen in two rounds is killed.
    """
    lock, variable, before = path.stat(), f"{CONTAINER_ID}={container_id}".encode(), set[int]()
    pause = threading.Event()
    for _ in range(_ROUNDS):
        found = {
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and int(name) != os.getpid() and (_holds(name, lock) or _has_variable(name, variable))
        }
        if not found:
            return
        for pid in found & before:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
        before = found
        pause.wait(_POLL)
    _LOG.warning("%s: processes that a plugin left behind do not end", path)


def _has_variable(pid: str, variable: bytes) -> bool:
    if variable.endswith(b"="):  # a call that concerns no container
        return False
    with suppress(OSError):  # it has ended, or has more privileges than a plugin
        return variable in Path("/proc", pid, "environ").read_bytes().split(b"\0")
    return False


def _holds(pid: str, lock: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # as above
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):  # it was closed meanwhile
                if os.path.samestat(os.stat(f"{folder}/{name}"), lock):
                    return True
    return False
