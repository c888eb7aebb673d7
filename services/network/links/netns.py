"""Network namespaces pinned at a path: made in a throw-away thread, never with a process.

Wants CAP_SYS_ADMIN (unshare, bind mount) and CAP_NET_ADMIN (`lo` up) in the host's mount namespace.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kernel.errors import Internal
from kernel.host import syscalls
from kernel.ids import SandboxId

_AFTER = 0.01
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ_FLAGS = "16sh22x"


class Spare:
    """A namespace made ahead, so that a pod need not wait for it: no more than a descriptor, gone with the worker."""

    def __init__(self) -> None:
        self._fd = -1

    async def pin(self, path: Path) -> None:
        """Pin a new namespace with `lo` up at `path`. Internal where the kernel refuses."""
        try:
            fd, self._fd = self._fd, -1
            if fd < 0:
                fd = await _in_thread(_make)
            try:
                _pin(fd, path)
            finally:
                os.close(fd)
        except OSError as error:
            with suppress(Internal):  # what hinders the pin may hinder its removal: the first error says what
                await remove(path)
            what = f": {error.filename}" if error.filename else ""
            raise Internal(f"network namespace {path} cannot be made: {error.strerror}{what}") from error

    async def refill(self) -> None:
        """Make the next one in a moment, if there is none. A refusal is told to the pod that needs it."""
        await asyncio.sleep(_AFTER)  # a pause, not a wait: first comes what the caller does with the one it got
        if self._fd < 0:
            with suppress(OSError):
                fd = await _in_thread(_make)
                if self._fd < 0:
                    self._fd = fd
                else:  # made twice at once
                    os.close(fd)

    def close(self) -> None:
        """Let it go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def stand_in(path: Path, furnish: Callable[[], None]) -> None:
    """Pin a new namespace at `path` in place of one that was lost, once `furnish` has run in it. Internal where the
    kernel refuses."""

    def make() -> int:
        fd = _make()
        try:
            furnish()
        except OSError:
            os.close(fd)
            raise
        return fd

    try:
        fd = await _in_thread(make)
        try:
            _pin(fd, path)
        finally:
            os.close(fd)
    except OSError as error:
        with suppress(Internal):
            await remove(path)
        raise Internal(f"network namespace {path} cannot be stood in for: {error.strerror}") from error


async def adopt(made: Path, path: Path) -> None:
    """Pin a namespace at `path` that was made for the pod, in its user namespace, and lies at `made`; `lo` is up then.
    Internal where it is not there."""

    def enter() -> int:
        fd = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
            _prepare()
        except OSError:
            os.close(fd)
            raise
        return fd

    try:
        fd = await _in_thread(enter)
        try:
            await asyncio.to_thread(_pin, fd, path)
        finally:
            os.close(fd)
    except OSError as error:
        with suppress(Internal):
            await remove(path)
        what = f": {error.filename}" if error.filename else ""
        raise Internal(f"network namespace {made} cannot be pinned at {path}: {error.strerror}{what}") from error


async def open_socket(
    pin: Path, family: socket.AddressFamily, kind: socket.SocketKind = socket.SOCK_STREAM, protocol: int = 0
) -> int:
    """A descriptor of a socket, TCP's if no other is asked for, that belongs to the namespace at `pin`, wherever it is
    used later."""

    def make() -> int:
        fd = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        finally:
            os.close(fd)
        return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol).detach()

    return await _in_thread(make)


async def _in_thread(work: Callable[[], int]) -> int:
    """Run `work` in a thread of its own, not one of a pool: it stays in the new namespace until it ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[int] = loop.create_future()

    def settle(outcome: int | OSError) -> None:
        if isinstance(outcome, OSError):
            if not done.done():
                done.set_exception(outcome)
        elif done.done():
            os.close(outcome)  # nobody waits any more
        else:
            done.set_result(outcome)

    def run() -> None:
        outcome: int | OSError
        try:
            outcome = work()
        except OSError as error:
            outcome = error
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:  # the worker has ended meanwhile, and its loop is closed
            if not isinstance(outcome, OSError):
                os.close(outcome)

    threading.Thread(target=run, name="netns", daemon=True).start()
    return await done


def pinned(path: Path) -> bool:
    """Whether a namespace lies at `path`, and not only the file that was to carry it."""
    try:
        return path.stat().st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


def sandboxes(folder: Path) -> tuple[SandboxId, ...]:
    """Every sandbox that has a pin in `folder`."""
    return tuple(sorted(SandboxId(name) for name in os.listdir(folder) if _ID.fullmatch(name)))


async def remove(path: Path) -> None:
    """Take the pin away; gone already is success. The namespace ends with its last process."""
    try:
        await asyncio.to_thread(_remove, path)
    except OSError as error:
        raise Internal(f"network namespace {path} cannot be removed: {error.strerror}") from error


def _make() -> int:
    """A descriptor of a new namespace, which the calling thread has entered."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _prepare()
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _prepare() -> None:
    _refuse_router_advertisements()
    _loopback_up()


def _pin(fd: int, path: Path) -> None:
    path.touch(mode=0o444)
    syscalls.mount(f"/proc/self/fd/{fd}", path, flags=syscalls.MS_BIND)


def _refuse_router_advertisements() -> None:
    """Interfaces yet to come take no routes from whoever sends them on the pod network (CVE-2020-10749)."""
    with suppress(FileNotFoundError):  # a kernel without IPv6
        Path("/proc/sys/net/ipv6/conf/default/accept_ra").write_text("0")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack(_IFREQ_FLAGS, b"lo", 0))
        flags = struct.unpack(_IFREQ_FLAGS, answer)[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack(_IFREQ_FLAGS, b"lo", flags | _IFF_UP))


def _remove(path: Path) -> None:
    while True:  # a pin upon a pin, where two lives of this worker met
        try:
            syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # no mount there
                break
            raise
    path.unlink(missing_ok=True)
