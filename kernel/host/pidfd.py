"""A process, watched and signalled through a pidfd, so that a later process with the same pid is never signalled or
reported.

Everything runs on the event loop. The supervisor watches its workers with it, the runtime worker the processes of
containers, which are also identified by pid, start time and boot (`Identity`), so that they are found again after a
restart of the worker.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import signal
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from kernel.host import proc

_GET_INFO = 0xC0000000 | 0xFF << 8 | 11
"""PIDFD_GET_INFO without its size (linux/pidfd.h): _IOWR(0xFF, 11, struct pidfd_info)."""
_INFO = struct.Struct("=QQ11Ii")
"""mask, cgroup id, 11 ids, exit status (struct pidfd_info, first version)."""
_INFO_EXIT = 1 << 3
KERNEL_KEEPS_EXIT_CODES = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process, distinguished from every other that had or will have its pid. It can be a part of a msgspec
    structure."""

    pid: int
    start: int
    """Clock ticks after the boot (proc(5), stat, field 22)."""
    boot: str


def identify(pid: int) -> Identity | None:
    """Return the process that has this pid now; None if none runs. One that ended and is not reaped does not run."""
    found = proc.live(pid)
    return Identity(pid=pid, start=found.start, boot=proc.boot_id()) if found else None


def open_same(pid: int, start: int) -> int | None:
    """Return a pidfd of the process with this pid and start time; None if it does not run any more."""
    if pid <= 0:
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):  # EINVAL: a thread of some process has this number
            return None
        raise
    found = proc.live(pid)  # read after the pidfd was taken: it belongs to that process, or to none
    if found is not None and found.start == start:
        return fd
    os.close(fd)
    return None


class Watched:
    """A process with an open pidfd; `ended` is set when it ends. Make it inside a running loop."""

    def __init__(self, pid: int, fd: int) -> None:
        """`fd`: a pidfd of the process, which belongs to this object from now on."""
        self.pid = pid
        self.ended = asyncio.Event()
        self._fd = fd
        self._callbacks: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._on_end)

    @classmethod
    def open(cls, identity: Identity | None) -> Watched | None:
        """Watch a process; None if it has ended, if its pid is another's now, or if there is nothing to watch."""
        if identity is None or identity.boot != proc.boot_id():
            return None
        fd = open_same(identity.pid, identity.start)
        return None if fd is None else cls(identity.pid, fd)

    @property
    def alive(self) -> bool:
        """Whether its end has not been noticed yet."""
        return not self.ended.is_set()

    def signal(self, number: int) -> None:
        """Send a signal; does nothing if the process has ended."""
        if self._fd >= 0 and self.alive:
            with suppress(ProcessLookupError):  # it has ended, and the loop has not run since
                signal.pidfd_send_signal(self._fd, number)

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the process has ended (soon, if it has). Return a function that cancels this."""
        if self.ended.is_set():
            self._loop.call_soon(callback)
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def exit_code(self, seconds: float) -> int | None:
        """Return the exit code that the kernel keeps for holders of a pidfd (since Linux 6.15), as a shell counts it.

        It exists only after the parent has reaped the process, which is waited for up to `seconds`. None if the code is
        not known.
        """
        if self._fd < 0 or not KERNEL_KEEPS_EXIT_CODES:
            return None
        fd = os.dup(self._fd)
        try:
            await asyncio.to_thread(_wait_reaped, fd, seconds)
            return _exit_code(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_end(self) -> None:
        self._loop.remove_reader(self._fd)
        self.ended.set()
        for callback in list(self._callbacks):
            callback()


async def kill(pids: Iterable[int], seconds: float) -> bool:
    """Send SIGKILL to processes and wait for their ends. Return whether all ended within `seconds`."""
    watched = [found for found in (Watched.open(identify(pid)) for pid in pids) if found]
    try:
        for process in watched:
            process.signal(signal.SIGKILL)
        with suppress(TimeoutError):  # the result tells
            async with asyncio.timeout(seconds):
                for process in watched:
                    await process.ended.wait()
        return not any(process.alive for process in watched)
    finally:
        for process in watched:
            process.close()


def _wait_reaped(fd: int, seconds: float) -> None:
    """Wait until the process is reaped, which its pidfd reports by POLLHUP."""
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll(seconds * 1000)


def _exit_code(fd: int) -> int | None:
    info = bytearray(_INFO.size)
    struct.pack_into("=Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(fd, _GET_INFO | _INFO.size << 16, info)
    except OSError:  # it is not reaped, so its code is not known
        return None
    mask, *_, status = _INFO.unpack_from(info)
    if not int(mask) & _INFO_EXIT:
        return None
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
