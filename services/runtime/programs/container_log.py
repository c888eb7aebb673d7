"""A container's log: the file that conmon writes (ContainerConfig.log_path), made here, and opened again on demand.

Run by the runtime worker. Rule kept: the file is below the pod's log directory, no symbolic link leads to it, and it
is a plain file. A container that sees the folder of all logs could have put a link there.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from kernel.host import pidfd, syscalls, thread
from kernel.host.aio import Deadline
from services.runtime.records.bundle import ContainerBundle

_REOPEN = b"2 0 0\n"
"""The control message that makes conmon open its log again (conmon's ctl pipe)."""
_INOTIFY_EVENT = struct.Struct("=iIII")
"""Watch, mask, cookie, length of the name that follows (inotify(7))."""
_NOT_PLAIN = frozenset({
    errno.ELOOP, errno.EXDEV, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG
})  # fmt: skip
"""Errors of opening a path that is no plain file below the log directory."""
_BENEATH = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


def prepare(pod: PodRequest, request: CreateRequest) -> Path | None:
    """Make the container's log file and the folders to it, and return its path; None if no log is requested.

    InvalidInput names log_path or log_directory if they cannot be used.
    """
    if not request.log_path or not pod.log_directory:
        return None
    parts = request.log_path.split("/")
    if request.log_path.startswith("/") or ".." in parts or len(request.log_path) > 4096 or "\0" in request.log_path:
        raise InvalidInput(f"log_path: {request.log_path[:64]!r} is not a path below the log directory")
    if not pod.log_directory.startswith("/"):
        raise InvalidInput(f"log_directory: {pod.log_directory[:64]!r} is not an absolute path")
    names = [part for part in parts if part not in ("", ".")]
    try:
        os.makedirs(pod.log_directory, mode=0o755, exist_ok=True)
        top = os.open(pod.log_directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"log_directory: {pod.log_directory!r}: {error.strerror}") from error
    try:
        for count in range(1, len(names)):
            with suppress(FileExistsError):  # if it is no folder, to enter it fails
                _make_folder(top, names[:count])
        _make_file(top, names)
    except OSError as error:
        if error.errno in _NOT_PLAIN:
            raise InvalidInput(f"log_path: {request.log_path!r} is not a plain file below the log directory") from error
        raise Internal(f"log {pod.log_directory}/{request.log_path}: {error.strerror}") from error
    finally:
        os.close(top)
    return Path(pod.log_directory, *names)


def _make_folder(top: int, names: list[str]) -> None:
    parent = syscalls.openat2(top, "/".join(names[:-1]) or ".", os.O_PATH | os.O_DIRECTORY, _BENEATH)
    try:
        os.mkdir(names[-1], 0o755, dir_fd=parent)
    finally:
        os.close(parent)


def _make_file(top: int, names: list[str]) -> None:
    """Make the file unless it is there; OSError ENXIO if there is something else."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    fd = syscalls.openat2(top, "/".join(names), flags, _BENEATH, mode=0o640)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    finally:
        os.close(fd)


async def reopen(
    bundle: ContainerBundle, conmon: pidfd.Watched | None, pod: PodRequest, request: CreateRequest, deadline: Deadline
) -> None:
    """Make conmon write to a new file at the log's path, for ReopenContainerLog: the kubelet has renamed the old one.

    FailedPrecondition if there is no conmon, or no folder for the log.
    """
    if not request.log_path or not pod.log_directory:
        return
    if conmon is None or not conmon.alive:
        raise FailedPrecondition(f"container {request.container_id}: its conmon is gone, nothing writes its log")
    log = Path(pod.log_directory, request.log_path)
    watch = syscalls.inotify_init()
    try:
        try:
            syscalls.inotify_add_watch(watch, log.parent, syscalls.IN_MOVED_TO)
        except OSError as error:
            raise FailedPrecondition(f"log directory {log.parent}: {error.strerror}") from error
        await thread.run(
            lambda: _tell_conmon(bundle.control), deadline, f"container {request.container_id}: reopen log"
        )
        async with deadline.limit(f"container {request.container_id}: reopen log"):
            await _renamed(watch, log.name, conmon)
    finally:
        os.close(watch)


def _tell_conmon(control: Path) -> None:
    try:
        fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise FailedPrecondition(f"conmon's control pipe {control}: {error.strerror}") from error
    try:
        os.write(fd, _REOPEN)
    finally:
        os.close(fd)


async def _renamed(watch: int, name: str, conmon: pidfd.Watched) -> None:
    """Wait until a file was renamed to `name`, which is how conmon opens a log again.

    FailedPrecondition if conmon ends before that.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def settle(reopened: bool) -> None:
        if not done.done():
            done.set_result(reopened)

    def on_event() -> None:
        with suppress(BlockingIOError):  # the wakeup was spurious
            if name in _event_names(os.read(watch, 65536)):
                settle(True)

    loop.add_reader(watch, on_event)
    forget = conmon.on_end(lambda: settle(False))
    try:
        if not await done:
            raise FailedPrecondition(f"conmon ended before it opened the log {name} again")
    finally:
        forget()
        loop.remove_reader(watch)


def _event_names(events: bytes) -> list[str]:
    """Return the file names in the events that inotify(7) reports. Pure."""
    names, offset = [], 0
    while offset < len(events):
        *_, length = _INOTIFY_EVENT.unpack_from(events, offset)
        offset += _INOTIFY_EVENT.size
        names.append(os.fsdecode(events[offset : offset + length].rstrip(b"\0")))
        offset += length
    return names
