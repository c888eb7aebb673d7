"""conmon: the monitor of one container, which runs the OCI runtime, writes log and exit file and outlives the daemon.

Run by the runtime worker. Rules kept: conmon is put into its own cgroup before it starts anything; it inherits
exactly two descriptors (its two pipes); the log file is made here, in the pod's log directory and through no
symbolic link, before conmon opens it by path.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from kernel.host import pidfd, process, syscalls, thread
from kernel.host.aio import Deadline
from services.runtime.programs import oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import ContainerBundle

_SYNC_LIMIT = 64 << 10
_REOPEN = b"2 0 0\n"
"""The control message that makes conmon open its log anew."""
_INOTIFY_EVENT = struct.Struct("=iIII")
"""Watch, mask, cookie, length of the name that follows (inotify(7))."""
_NO_LOG = frozenset({
    errno.ELOOP, errno.EXDEV, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG
})  # fmt: skip
_BENEATH = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


Enter = Callable[[int], None]
"""Puts a process into conmon's cgroup; blocks."""


class _Sync(msgspec.Struct):
    pid: int
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A container to create."""

    container: str
    bundle: ContainerBundle
    runtime: OciRuntime
    log: Path | None = None
    restore: Path | None = None
    """The folder of CRIU's files to restore the processes from, instead of making one."""
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False


def command_line(conmon: str, launch: Launch) -> list[str]:
    """conmon's arguments. Pure."""
    bundle = launch.bundle
    arguments = [
        conmon, "--cid", launch.container, "--cuuid", launch.container, "--name", launch.container,
        "--bundle", str(bundle.path), "--runtime", launch.runtime.path,
        "--container-pidfile", str(bundle.pid_file), "--conmon-pidfile", str(bundle.conmon_pid_file),
        "--exit-dir", str(bundle.exit_dir), "--full-attach",
        "--log-path", f"k8s-file:{launch.log}" if launch.log else "none:", "--log-level", "warning",
    ]  # fmt: skip
    for argument in launch.runtime.global_arguments(bundle.runtime_log):
        arguments += ["--runtime-arg", argument]
    if launch.runtime.systemd:
        arguments.append("--systemd-cgroup")
    if launch.terminal:
        arguments.append("--terminal")
    if launch.stdin:
        arguments.append("--stdin")
        if not launch.stdin_once:
            arguments.append("--leave-stdin-open")
    if launch.restore:
        arguments += ["--restore", str(launch.restore), "--runtime-opt", "--file-locks"]
    return arguments


async def create(conmon: str, launch: Launch, enter: Enter, deadline: Deadline) -> int:
    """Start conmon, which creates the container: the pid of its process, which waits to be started, or which runs
    where it was restored. `enter` puts conmon into its cgroup."""
    sync_read, sync_write = os.pipe2(os.O_CLOEXEC)
    start_read, start_write = os.pipe2(os.O_CLOEXEC)
    said = os.open(launch.bundle.path / "conmon.log", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    ours, theirs = [sync_read, start_write, said], [sync_write, start_read]
    try:
        env = {
            **process.ENVIRONMENT,
            **launch.runtime.settings.conmon_env,
            "_OCI_SYNCPIPE": str(sync_write),
            "_OCI_STARTPIPE": str(start_read),
        }
        # conmon leaves its note of an out-of-memory kill in the folder that it is started in
        home = str(launch.bundle.path)
        words = command_line(launch.runtime.settings.conmon or conmon, launch)
        first = process.launch(words, stderr=said, env=env, cwd=home, pass_fds=theirs)
        while theirs:
            os.close(theirs.pop())
        try:
            async with deadline.limit(f"container {launch.container}: create"):
                await asyncio.to_thread(enter, first.pid)
                os.write(start_write, b"\0")
                answer = await _line(sync_read)
                code = await first.wait()  # the first process ends once the one that stays has been forked
        finally:
            if first.returncode is None:
                process.kill_group(first)
                await first.wait()
        return _created(launch, answer, code, said)
    finally:
        for fd in ours + theirs:
            os.close(fd)


def _created(launch: Launch, answer: bytes, code: int, said: int) -> int:
    try:
        sync = msgspec.json.decode(answer, type=_Sync)
    except msgspec.DecodeError:
        if why := oci_runtime.error_text(launch.bundle.runtime_log):
            raise Internal(why) from None
        words = os.pread(said, _SYNC_LIMIT, 0).decode(errors="replace").strip()
        raise Internal(
            f"conmon of container {launch.container}: {process.describe(code)}: {words or 'it said nothing'}"
        ) from None
    if sync.pid <= 0:
        raise Internal(
            oci_runtime.error_text(launch.bundle.runtime_log) or sync.message.strip() or "it does not say why"
        )
    return sync.pid


async def _line(fd: int) -> bytes:
    """What comes on a pipe up to the end of a line or of the pipe."""
    os.set_blocking(fd, False)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()
    got = bytearray()

    def on_readable() -> None:
        with suppress(BlockingIOError):  # woken for nothing
            chunk = os.read(fd, 4096)
            got.extend(chunk)
            if (not chunk or b"\n" in chunk or len(got) > _SYNC_LIMIT) and not done.done():
                done.set_result(bytes(got))

    loop.add_reader(fd, on_readable)
    try:
        return await done
    finally:
        loop.remove_reader(fd)


def conmon_of(bundle: ContainerBundle) -> pidfd.Identity | None:
    """The conmon that wrote its pid into the bundle, if it is one and still runs."""
    try:
        text = bundle.conmon_pid_file.read_text()
    except OSError:  # it never came so far
        return None
    found = pidfd.identify(int(text)) if text.strip().isdigit() else None
    if found is None:
        return None
    with suppress(OSError):  # ended meanwhile
        if str(bundle.path).encode() in Path(f"/proc/{found.pid}/cmdline").read_bytes().split(b"\0"):
            return found
    return None


def strays(bundle: ContainerBundle) -> list[int]:
    """Processes whose arguments say `--bundle` and it: a conmon and an OCI runtime that a dead worker left at work."""
    mark, found = b"--bundle\0" + os.fsencode(bundle.path) + b"\0", []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):  # ended while the list was read
                if mark in Path(entry.path, "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def prepare_log(pod: PodRequest, request: CreateRequest) -> Path | None:
    """Make the container's log file and the folders to it; its path, or None where no log is wanted.

    The log directory is the kubelet's; neither it nor a component below it may be a symbolic link (a container that
    sees the folder of all logs could have put one there), and the file must be a plain one.
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
            with suppress(FileExistsError):  # whether it is a folder shows when it is entered
                _make_folder(top, names[:count])
        _check_log(top, names)
    except OSError as error:
        if error.errno in _NO_LOG:
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


def _check_log(top: int, names: list[str]) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    fd = syscalls.openat2(top, "/".join(names), flags, _BENEATH, mode=0o640)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    finally:
        os.close(fd)


async def reopen_log(
    bundle: ContainerBundle, conmon: pidfd.Watched | None, pod: PodRequest, request: CreateRequest, deadline: Deadline
) -> None:
    """Make conmon write to a fresh file at the log's path (the kubelet has renamed the old one)."""
    if not request.log_path or not pod.log_directory:
        return
    if conmon is None or not conmon.alive:
        raise FailedPrecondition(f"container {request.container}: its conmon is gone, nothing writes its log")
    log = Path(pod.log_directory, request.log_path)
    watch = syscalls.inotify_init()
    try:
        try:
            syscalls.inotify_add_watch(watch, log.parent, syscalls.IN_MOVED_TO)
        except OSError as error:
            raise FailedPrecondition(f"log directory {log.parent}: {error.strerror}") from error
        await thread.run(lambda: _tell_conmon(bundle.control), deadline, f"container {request.container}: reopen log")
        async with deadline.limit(f"container {request.container}: reopen log"):
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
    """Wait until a file was renamed to `name`; FailedPrecondition where conmon ends before."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def settle(reopened: bool) -> None:
        if not done.done():
            done.set_result(reopened)

    def on_event() -> None:
        with suppress(BlockingIOError):  # woken for nothing
            if name in _names(os.read(watch, 65536)):
                settle(True)

    loop.add_reader(watch, on_event)
    forget = conmon.on_end(lambda: settle(False))
    try:
        if not await done:
            raise FailedPrecondition(f"conmon ended before it opened the log {name} anew")
    finally:
        forget()
        loop.remove_reader(watch)


def _names(events: bytes) -> list[str]:
    """The file names in what inotify(7) reports."""
    names, offset = [], 0
    while offset < len(events):
        *_, length = _INOTIFY_EVENT.unpack_from(events, offset)
        offset += _INOTIFY_EVENT.size
        names.append(os.fsdecode(events[offset : offset + length].rstrip(b"\0")))
        offset += length
    return names
