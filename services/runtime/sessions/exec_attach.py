"""Sessions: commands and attaches whose descriptors are handed to the stream process, which serves the client.

Run by the runtime worker on its event loop. Rules kept: nothing of a session flows through this process, so its death
ends none; a command is started once, and one whose descriptors are not taken is killed, by its reaper (see `reaper`);
the files of a session in the bundle are deleted with its command. An attach is a connection to conmon, and ends with
its client.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from kernel import ids
from kernel.contracts.oci import IdMap
from kernel.contracts.runtime import ExecRequest, Executed, OpenExecRequest
from kernel.contracts.stream import Passed, Role
from kernel.errors import FailedPrecondition, Internal
from kernel.host import fdpass, proc, process
from kernel.host.aio import Deadline
from kernel.ids import SessionId
from services.runtime.context import Context
from services.runtime.programs import oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.reaper import descendants
from services.runtime.reaper.client import ReaperClient
from services.runtime.records.bundle import ContainerBundle
from services.runtime.records.container import Container
from services.runtime.sessions import console, exec_process, monitor_socket
from services.runtime.sessions.console import Console
from services.runtime.sessions.descriptors import Descriptors
from services.runtime.sessions.output import Output
from services.runtime.spec import exec_spec

_STARTS_AT_ONCE = 16
"""OCI runtimes that start sessions' commands at the same time: each takes some 15 MB for a moment."""
_CLOCK_SECONDS = 2.0
"""Seconds by which the clock of files may differ from that of processes."""


class Sessions:
    """Opens and closes sessions."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stream_socket = context.config.paths.stream_fds
        self._reaper = ReaperClient(context.root / "reaper")
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)

    def recover(self) -> None:
        """Clean up what an earlier worker left half-started, and kill commands whose reaper has died: their exit code
        can no longer reach anyone."""
        console.remove_stale(self._context.root)
        if not self._reaper.alive():
            for pid_file in self._context.root.glob("containers/*/session-*.pid"):
                self._context.tasks.spawn(self._end(pid_file), f"end of {pid_file.name}")

    def let_go(self) -> None:
        """Stop keeping the reaper; it stays as long as it has sessions."""
        self._reaper.let_go()

    async def exec(
        self, container: Container, runtime: OciRuntime, id_map: IdMap | None, request: OpenExecRequest,
        deadline: Deadline,
    ) -> None:  # fmt: skip
        """Start a command in a container and hand its descriptors to the stream process.

        `id_map` is that of the pod's user namespace. FailedPrecondition if the container does not run, Internal with
        the OCI runtime's message if the command cannot be started, Unavailable if the descriptors are not taken.
        """
        ids.session_id(request.session)
        exec_spec.check(request.cmd)
        container.check_running()
        config = await asyncio.to_thread(_config, container.bundle)
        with ExitStack() as opened:
            descriptors = _descriptors(opened, request, _owner(container.bundle, config, id_map))
            async with self._starts:
                await self._start(container, runtime, request, config, descriptors, deadline)
            await self._hand_over(request.session, descriptors, deadline)

    async def run(
        self, container: Container, runtime: OciRuntime, id_map: IdMap | None, request: ExecRequest, limit: Deadline
    ) -> Executed:
        """Run a command to its end, as the reaper's child, and return its output.

        At the limit the command and every process that it started are killed, and TimeoutError is raised.
        """
        session_id = ids.new_session()
        wanted = OpenExecRequest(
            session=session_id, container_id=container.id, cmd=request.cmd, stdout=True, stderr=True
        )
        config = await asyncio.to_thread(_config, container.bundle)
        with ExitStack() as opened:
            descriptors = _descriptors(opened, wanted, _owner(container.bundle, config, id_map))
            status, out, err = (opened.enter_context(closing(Output(os.dup(fd)))) for fd in descriptors.stream)
            try:
                async with asyncio.timeout(max(limit.remaining(), 0)):
                    async with self._starts:
                        await self._start(container, runtime, wanted, config, descriptors, limit)
                    descriptors.close_given()
                    await status.over.wait()
            except BaseException:
                await self.close(session_id)
                raise
            if not status.kept:
                raise Internal(f"container {container.id}: exec: its reaper was killed")
            out.close()
            err.close()
            return Executed(stdout=bytes(out.kept), stderr=bytes(err.kept), exit_code=int(status.kept))

    async def attach(self, container: Container, session_id: SessionId, deadline: Deadline) -> None:
        """Connect to a container's own input and output, and hand the connection to the stream process.

        FailedPrecondition if the container or its conmon does not run, ResourceExhausted if that has too many
        attaches, Unavailable if the connection is not taken.
        """
        ids.session_id(session_id)
        container.check_running()
        if container.monitor_lost or container.conmon is None or not container.conmon.alive:
            raise FailedPrecondition(f"container {container.id}: its conmon is gone, nothing takes an attach")
        made_from = await asyncio.to_thread(container.request)
        monitor_socket.check_room(container, container.conmon.pid)
        with ExitStack() as opened:
            descriptors = Descriptors(opened)
            connection = opened.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            )
            await monitor_socket.connect(connection, container.bundle, deadline)
            if not made_from.stdin:
                # else conmon would keep input that is never read, and stop looking for more
                connection.shutdown(socket.SHUT_WR)
            descriptors.pass_on(Role.ATTACH, connection.fileno())
            if made_from.tty:
                descriptors.pass_on(Role.CONTROL, descriptors.hold(monitor_socket.open_control(container.bundle)))
            await self._hand_over(session_id, descriptors, deadline)

    async def close(self, session_id: SessionId) -> None:
        """Kill the rest of a session's command, even if its reaper has died; no such session is success."""
        ids.session_id(session_id)
        for pid_file in list(self._context.root.glob(f"containers/*/session-{session_id}.pid")):
            await self._end(pid_file)

    async def _start(
        self, container: Container, runtime: OciRuntime, request: OpenExecRequest, config: bytes,
        descriptors: Descriptors, deadline: Deadline,
    ) -> None:  # fmt: skip
        """Start the command; if it has a terminal, wait for that and pass it on."""
        size = (request.width, request.height)
        process_spec = exec_spec.process(config, request.cmd, tty=request.tty, size=size)
        number = descriptors.add_for_runtime(exec_process.in_memory(process_spec))
        words = ["exec", "--detach", "--process", f"/proc/self/fd/{number}"]
        if not request.tty:
            await self._run(container, runtime, words, request.session, descriptors, deadline)
            return
        with Console(self._context.root) as wanted:
            words += ["--console-socket", str(wanted.path)]
            await self._run(container, runtime, words, request.session, descriptors, deadline)
            async with deadline.limit(f"container {container.id}: exec"):
                terminal = descriptors.hold(await wanted.terminal())
        if all(size):
            console.resize(terminal, *size)
        descriptors.pass_on(Role.TERMINAL, terminal)

    async def _run(
        self, container: Container, runtime: OciRuntime, words: list[str], session_id: SessionId,
        descriptors: Descriptors, deadline: Deadline,
    ) -> None:  # fmt: skip
        """Have the reaper run the OCI runtime, which starts the command."""
        pid_file = container.bundle.path / f"session-{session_id}.pid"
        log_fd = os.memfd_create("log", os.MFD_CLOEXEC)
        log = Path(f"/proc/self/fd/{descriptors.add_for_runtime(log_fd)}")
        argv = runtime.command(*words, "--pid-file", str(pid_file), container.id, log=log)
        code = await self._reaper.start(argv, pid_file, descriptors.command, deadline)
        if code:
            reason = oci_runtime.error_text(Path(f"/proc/self/fd/{log_fd}")) or f"exec: {process.describe(code)}"
            container.check_running()  # if it has just ended, that is the better reason
            raise Internal(f"container {container.id}: {reason}")

    async def _hand_over(self, session_id: SessionId, descriptors: Descriptors, deadline: Deadline) -> None:
        passed = Passed(session=session_id, roles=tuple(descriptors.roles))
        await fdpass.send(self._stream_socket, passed.encode(), descriptors.stream, deadline)

    async def _end(self, pid_file: Path) -> None:
        """Kill every process that a command started and that is in its container."""
        folder = ContainerBundle(self._context.root, ids.container_id(pid_file.parent.name))
        state = await asyncio.to_thread(folder.state.read)
        roots = await asyncio.to_thread(_roots, pid_file)
        if state is not None and roots:
            await exec_process.kill_tree(self._context.cgroups, state.cgroup, roots)
        pid_file.unlink(missing_ok=True)


def _descriptors(opened: ExitStack, request: OpenExecRequest, owner: tuple[int, int]) -> Descriptors:
    """Return the descriptors of the status pipe and of a command's input and outputs."""
    descriptors = Descriptors(opened, owner)
    descriptors.add_status()
    wanted = {Role.STDIN: request.stdin, Role.STDOUT: request.stdout, Role.STDERR: request.stderr}
    for role, is_wanted in wanted.items():
        if is_wanted and not request.tty:
            descriptors.add_pipe(role)
        else:
            descriptors.add_nothing()
    return descriptors


def _roots(pid_file: Path) -> set[int]:
    """Return the processes and sessions of a command that are to be killed with their descendants.

    Empty if its reaper has seen its end, or if its pid is a later process's by now.
    """
    try:
        pid, written_at = int(pid_file.read_text()), pid_file.stat().st_mtime
    except (OSError, ValueError):  # deleted, or not yet written: then the command has not begun
        return set()
    found = proc.live(pid)
    if found is None:
        return {pid}  # it has ended, reaped or not: its children may still be in its session
    return descendants.origins(pid) if proc.age(found.start) >= time.time() - written_at - _CLOCK_SECONDS else set()


def _config(folder: ContainerBundle) -> bytes:
    try:
        return folder.config.read_bytes()
    except OSError as error:
        raise Internal(f"{folder.config} cannot be read: {error.strerror}") from error


def _owner(folder: ContainerBundle, config: bytes, id_map: IdMap | None) -> tuple[int, int]:
    try:
        return exec_spec.owner(config, id_map)
    except msgspec.DecodeError as error:
        raise Internal(f"{folder.config} cannot be read: {error}") from error
