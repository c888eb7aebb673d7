"""Network namespaces pinned at a path, each made in a throw-away thread and never with a process.

The thread enters the namespace and stays in it until it ends, so no thread of a pool may do this. Needs CAP_SYS_ADMIN
(unshare, bind mount) and CAP_NET_ADMIN (setting `lo` up) in the host's mount namespace.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kernel.errors import DeadlineExceeded, Internal
from kernel.host import syscalls, thread
from kernel.host.aio import Deadline
from kernel.ids import SandboxId

_REFILL_PAUSE = 0.01
_REFILL_SECONDS = 10.0
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ_FLAGS = "16sh22x"


class Spare:
    """A namespace made ahead, so that a pod need not wait for it.

    It is only a descriptor, so the kernel removes it when the worker ends.
    """

    def __init__(self) -> None:
        self._fd = -1

    async def pin(self, path: Path, deadline: Deadline) -> None:
        """Pin a new namespace, its `lo` up, at `path`. Internal if the kernel refuses."""
        try:
            fd, self._fd = self._fd, -1
            if fd < 0:
                fd = await thread.run(_make, deadline, "netns", discard=os.close)
            _pin_and_close(fd, path)
        except OSError as error:
            await _remove_half_made(path)
            raise Internal(f"network namespace {path} cannot be made: {_reason(error)}") from error

    async def refill(self) -> None:
        """Make the next namespace ahead, if there is none. If that fails, the next pod makes its own and gets the
        error."""
        await asyncio.sleep(_REFILL_PAUSE)  # a pause, not a wait: first the caller goes on with the namespace it got
        if self._fd >= 0:
            return
        with suppress(OSError, DeadlineExceeded):
            fd = await thread.run(_make, Deadline.after(_REFILL_SECONDS), "netns", discard=os.close)
            if self._fd < 0:
                self._fd = fd
            else:  # another refill was faster
                os.close(fd)

    def close(self) -> None:
        """Release the namespace, if there is one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def stand_in(path: Path, furnish: Callable[[], None], deadline: Deadline) -> None:
    """Pin a new namespace at `path` in place of one that was lost, after `furnish` has run in it.

    Internal if the kernel refuses.
    """

    def make() -> int:
        fd = _make()
        try:
            furnish()
        except OSError:
            os.close(fd)
            raise
        return fd

    try:
        _pin_and_close(await thread.run(make, deadline, "netns", discard=os.close), path)
    except OSError as error:
        await _remove_half_made(path)
        raise Internal(f"network namespace {path} cannot be replaced: {error.strerror}") from error


async def adopt(made: Path, path: Path, deadline: Deadline) -> None:
    """Pin the namespace at `made`, which was made for the pod in its user namespace, at `path`, and set its `lo` up.

    Internal if there is no namespace at `made`, or if the kernel refuses.
    """

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
        fd = await thread.run(enter, deadline, "netns", discard=os.close)
        await asyncio.to_thread(_pin_and_close, fd, path)
    except OSError as error:
        await _remove_half_made(path)
        raise Internal(f"network namespace {made} cannot be pinned at {path}: {_reason(error)}") from error


async def open_socket(
    pin: Path,
    family: socket.AddressFamily,
    deadline: Deadline,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    protocol: int = 0,
) -> int:
    """Return the descriptor of a new socket that belongs to the namespace at `pin`, wherever it is used later."""

    def make() -> int:
        fd = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        finally:
            os.close(fd)
        return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol).detach()

    return await thread.run(make, deadline, "netns", discard=os.close)


def is_pinned(path: Path) -> bool:
    """Return whether there is a namespace at `path`, not only the empty file that one is mounted on."""
    try:
        return path.stat().st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


def sandboxes(folder: Path) -> tuple[SandboxId, ...]:
    """Return the ids of all sandboxes that have a pin in `folder`."""
    return tuple(sorted(SandboxId(name) for name in os.listdir(folder) if _ID.fullmatch(name)))


async def remove(path: Path) -> None:
    """Remove the pin; succeeds if there is none. The namespace ends with its last process."""
    try:
        await asyncio.to_thread(_remove, path)
    except OSError as error:
        raise Internal(f"network namespace {path} cannot be removed: {error.strerror}") from error


def _make() -> int:
    """Return the descriptor of a new namespace, which the calling thread has entered."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _prepare()
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _prepare() -> None:
    _refuse_router_advertisements()
    _loopback_up()


def _pin_and_close(fd: int, path: Path) -> None:
    try:
        path.touch(mode=0o444)
        syscalls.mount(f"/proc/self/fd/{fd}", path, flags=syscalls.MS_BIND)
    finally:
        os.close(fd)


async def _remove_half_made(path: Path) -> None:
    with suppress(Internal):  # the removal may fail for the same reason as the pin, whose error is the one to report
        await remove(path)


def _reason(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)


def _refuse_router_advertisements() -> None:
    """Have interfaces that are added later take no routes from senders on the pod network (CVE-2020-10749)."""
    with suppress(FileNotFoundError):  # a kernel without IPv6
        Path("/proc/sys/net/ipv6/conf/default/accept_ra").write_text("0")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack(_IFREQ_FLAGS, b"lo", 0))
        flags = struct.unpack(_IFREQ_FLAGS, answer)[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack(_IFREQ_FLAGS, b"lo", flags | _IFF_UP))


def _remove(path: Path) -> None:
    while True:  # once for each mount at the path: two lives of this worker may each have mounted one
        try:
            syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # nothing is mounted there
                break
            raise
    path.unlink(missing_ok=True)
