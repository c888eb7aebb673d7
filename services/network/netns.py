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
from contextlib import suppress
from pathlib import Path

from kernel.errors import Internal
from kernel.host import syscalls
from kernel.ids import SandboxId

_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ_FLAGS = "16sh22x"


async def make(path: Path) -> None:
    """A new namespace with `lo` up, pinned at `path`. Internal where the kernel refuses."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[OSError | None] = loop.create_future()

    def settle(error: OSError | None) -> None:
        if not done.done():
            done.set_result(error)

    def work() -> None:
        error: OSError | None = None
        try:
            _make(path)
        except OSError as refused:
            error = refused
        loop.call_soon_threadsafe(settle, error)

    # A thread of its own, not one of a pool: it stays in the new namespace until it ends.
    threading.Thread(target=work, name="netns", daemon=True).start()
    if (error := await done) is not None:
        with suppress(Internal):  # what hinders the pin may hinder its removal: the first error says what
            await remove(path)
        what = f": {error.filename}" if error.filename else ""
        raise Internal(f"network namespace {path} cannot be made: {error.strerror}{what}") from error


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


def _make(path: Path) -> None:
    path.touch(mode=0o444)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _refuse_router_advertisements()
    _loopback_up()
    syscalls.mount("/proc/thread-self/ns/net", path, flags=syscalls.MS_BIND)


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
