"""A process of the host by pid, start time and boot, never by a bare pid; watched and signalled through a pidfd.

Run by the runtime worker on its event loop. A stranger that got the pid later is never signalled or reported.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_GET_INFO = 0xC0000000 | 0xFF << 8 | 11
"""PIDFD_GET_INFO without its size (linux/pidfd.h): _IOWR(0xFF, 11, struct pidfd_info)."""
_INFO = struct.Struct("=QQ11Ii")
"""mask, cgroup id, 11 ids, exit status (struct pidfd_info, first version)."""
_INFO_EXIT = 1 << 3
KERNEL_KEEPS_EXIT_CODES = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 15)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A process, told from every other that had or will have its pid."""

    pid: int
    start: int
    """Clock ticks after boot (proc(5), stat, field 22)."""
    boot: str


def identify(pid: int) -> Identity | None:
    """The process that has this pid now; None where none runs (one that ended and is not reaped does not run)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Identity(pid=pid, start=int(fields[19]), boot=_BOOT_ID.read_text().strip())


class Watched:
    """A process with an open pidfd; `ended` is set when it exits."""

    def __init__(self, identity: Identity, fd: int) -> None:
        self.identity = identity
        self.ended = asyncio.Event()
        self._fd = fd
        self._callbacks: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._on_exit)

    @classmethod
    def open(cls, identity: Identity | None) -> Watched | None:
        """Watch a process; None where it has gone, or where its pid is another's now."""
        if identity is None:
            return None
        try:
            fd = os.pidfd_open(identity.pid)
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.EINVAL):
                return None
            raise
        if identify(identity.pid) != identity:
            os.close(fd)
            return None
        return cls(identity, fd)

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to exit."""
        return not self.ended.is_set()

    def signal(self, number: int) -> None:
        """Send a signal; none where it has ended."""
        if self._fd >= 0:
            with suppress(ProcessLookupError):  # ended and reaped in between
                signal.pidfd_send_signal(self._fd, number)

    async def exit_code(self, seconds: float) -> int | None:
        """The exit code that the kernel keeps for holders of a pidfd (since Linux 6.15), as a shell counts it.

        Only once its parent has reaped the process: that is waited for. None where the code is not known.
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

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when it has exited (soon, where it has already); the result forgets the callback."""
        if self.ended.is_set():
            self._loop.call_soon(callback)
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._fd)
        self.ended.set()
        for callback in list(self._callbacks):
            callback()


def _wait_reaped(fd: int, seconds: float) -> None:
    """A pidfd hangs up when its process is reaped."""
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll(seconds * 1000)


def _exit_code(fd: int) -> int | None:
    info = bytearray(_INFO.size)
    struct.pack_into("=Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(fd, _GET_INFO | _INFO.size << 16, info)
    except OSError:  # not reaped yet: not known
        return None
    mask, *_, status = _INFO.unpack_from(info)
    if not int(mask) & _INFO_EXIT:
        return None
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


async def kill(pids: list[int], seconds: float) -> bool:
    """SIGKILL to all and wait for their ends; whether all ended in time."""
    watched = [found for found in (Watched.open(identify(pid)) for pid in pids) if found]
    try:
        for process in watched:
            process.signal(signal.SIGKILL)
        if watched:
            async with asyncio.timeout(seconds):
                for process in watched:
                    await process.ended.wait()
    except TimeoutError:
        return False
    finally:
        for process in watched:
            process.close()
    return True
