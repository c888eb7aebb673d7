"""conmon: the monitor of one container, which runs the OCI runtime, writes log and exit file and outlives the daemon.

Run by the runtime worker. Rules kept: conmon is put into its own cgroup before it starts anything; it inherits
exactly two descriptors (its two pipes); the log file is made by `container_log` before conmon opens it by path.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kernel.errors import Internal
from kernel.host import pidfd, process
from kernel.host.aio import Deadline
from kernel.ids import ContainerId
from services.runtime.programs import command_lines, oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.bundle import ContainerBundle

_REPLY_LIMIT = 64 << 10
"""Bytes of conmon's reply, or of its output in an error."""

Enter = Callable[[int], None]
"""Puts a process, by its pid, into conmon's cgroup; blocks."""


class _Reply(msgspec.Struct):
    """The message on conmon's sync pipe: the pid of the container's process, or -1 and why there is none."""

    pid: int
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A container to create."""

    container_id: ContainerId
    bundle: ContainerBundle
    runtime: OciRuntime
    log: Path | None = None
    """The log file; None for no log."""
    restore: Path | None = None
    """The folder of CRIU's files to restore the processes from, instead of starting one."""
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    """Whether the input ends with the first client that was attached to it."""


def command_line(conmon: str, launch: Launch) -> list[str]:
    """Return conmon's arguments (conmon(8)). Pure."""
    bundle, container_id = launch.bundle, launch.container_id
    arguments = [
        conmon, "--cid", container_id, "--cuuid", container_id, "--name", container_id,
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
    """Start conmon, which creates the container, and return the pid of the container's process.

    The process waits to be started, or runs already if it was restored. `enter` puts conmon into its cgroup. Internal
    with the OCI runtime's or conmon's own message if there is no process.
    """
    sync_read, sync_write = os.pipe2(os.O_CLOEXEC)
    start_read, start_write = os.pipe2(os.O_CLOEXEC)
    output = os.open(launch.bundle.path / "conmon.log", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    ours, theirs = [sync_read, start_write, output], [sync_write, start_read]
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
        first = process.launch(words, stderr=output, env=env, cwd=home, pass_fds=theirs)
        while theirs:
            os.close(theirs.pop())
        async with process.ended_with_body(first), deadline.limit(f"container {launch.container_id}: create"):
            await asyncio.to_thread(enter, first.pid)
            os.write(start_write, b"\0")
            reply = await _line(sync_read)
            code = await first.wait()  # the first process ends once the one that stays has been forked
        return _created(launch, reply, code, output)
    finally:
        for fd in ours + theirs:
            os.close(fd)


def _created(launch: Launch, line: bytes, code: int, output: int) -> int:
    """Return the pid in conmon's reply, or raise Internal with the best reason there is."""
    try:
        reply = msgspec.json.decode(line, type=_Reply)
    except msgspec.DecodeError:
        if reason := oci_runtime.error_text(launch.bundle.runtime_log):
            raise Internal(reason) from None
        words = os.pread(output, _REPLY_LIMIT, 0).decode(errors="replace").strip()
        raise Internal(
            f"conmon of container {launch.container_id}: {process.describe(code)}: {words or 'without any output'}"
        ) from None
    if reply.pid <= 0:
        raise Internal(
            oci_runtime.error_text(launch.bundle.runtime_log) or reply.message.strip() or "conmon gives no reason"
        )
    return reply.pid


async def _line(fd: int) -> bytes:
    """Return the bytes from a pipe up to the end of a line, or to the end of the pipe."""
    os.set_blocking(fd, False)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()
    received = bytearray()

    def on_readable() -> None:
        with suppress(BlockingIOError):  # the wakeup was spurious
            chunk = os.read(fd, 4096)
            received.extend(chunk)
            if (not chunk or b"\n" in chunk or len(received) > _REPLY_LIMIT) and not done.done():
                done.set_result(bytes(received))

    loop.add_reader(fd, on_readable)
    try:
        return await done
    finally:
        loop.remove_reader(fd)


def running(bundle: ContainerBundle) -> pidfd.Identity | None:
    """Return the conmon that wrote its pid into the bundle; None if it has ended or its pid is another process's."""
    try:
        text = bundle.conmon_pid_file.read_text()
    except OSError:  # it did not get as far as to write the file
        return None
    found = pidfd.identify(int(text)) if text.strip().isdigit() else None
    if found is None:
        return None
    with suppress(OSError):  # ended meanwhile
        if str(bundle.path).encode() in Path(f"/proc/{found.pid}/cmdline").read_bytes().split(b"\0"):
            return found
    return None


def strays(bundle: ContainerBundle) -> list[int]:
    """Return the processes with `--bundle` and this bundle's path among their arguments.

    They are a conmon and an OCI runtime that go on although the worker that started them has died.
    """
    return command_lines.pids_with("--bundle", bundle.path)
