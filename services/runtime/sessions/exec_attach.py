"""Sessions: commands and attaches whose descriptors go to the stream process, which serves the client with them.

Run by the runtime worker. Rules kept: nothing of a session flows through this process, so its death ends none; a
command is started once, and one whose descriptors nobody takes is killed (its reaper does it, see `reaper`); what a
session leaves in the bundle goes with its command. An attach is a connection to conmon, and ends with its client.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import msgspec

from kernel.contracts.oci import IdMap
from kernel.contracts.runtime import ExecRequest, Executed, OpenExecRequest
from kernel.contracts.stream import Passed, Role
from kernel.errors import FailedPrecondition, Internal, ResourceExhausted
from kernel.host import fdpass, process
from kernel.host.aio import Deadline
from kernel.ids import SessionId, container_id, new_session, session_id
from services.runtime.context import Setting
from services.runtime.exits.watching import Container
from services.runtime.programs import oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.reaper import descendants
from services.runtime.reaper.client import Reaping
from services.runtime.records.bundle import ContainerBundle
from services.runtime.sessions import console
from services.runtime.sessions.console import Console
from services.runtime.sessions.exec_sync import Output, in_memory, kill_tree
from services.runtime.spec import exec_spec

_STARTS_AT_ONCE = 16
"""OCI runtimes starting sessions' commands: each takes some 15 MB for a moment."""
_PIPE_BYTES = 256 << 10
_MOST_ATTACHED = 1000
"""Descriptors of a conmon above which it gets no more attaches."""
_CLOCK_SECONDS = 2.0
"""How far the clock of files may be off that of processes."""


class _Ends:
    """Both sides of a command's input and output. All is closed in the end: who keeps a descriptor has a copy."""

    def __init__(self, opened: ExitStack, owner: tuple[int, int]) -> None:
        self._opened = opened
        self._given = opened.enter_context(ExitStack())
        self._owner = owner
        self.command: list[int] = []
        """The reaper's, then those of the command by number, then further ones of the OCI runtime."""
        self.stream: list[int] = []
        self.roles: list[Role] = []

    def nothing(self) -> None:
        """The command gets /dev/null."""
        self.give(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))

    def pipe(self, role: Role) -> None:
        """A pipe that belongs to the command's user, who may open it again by name (/dev/stdout)."""
        read, write = os.pipe2(os.O_CLOEXEC)
        theirs, ours = (read, write) if role is Role.STDIN else (write, read)
        self.give(theirs)
        self.take(role, self.hold(ours))
        os.fchown(read, *self._owner)
        with suppress(PermissionError):  # above the user's share of pipe buffers: a smaller one is only slower
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def give(self, fd: int) -> None:
        """The command's side gets this one; ours is closed with `close_given`, or in the end."""
        self._given.callback(os.close, fd)
        self.command.append(fd)

    def close_given(self) -> None:
        """The command's side has its own now: without ours, the ends are seen when it closes them."""
        self._given.close()

    def number(self, fd: int) -> int:
        """The OCI runtime gets this one too: under which number, which is not the reaper's."""
        self.give(fd)
        return len(self.command) - 2

    def take(self, role: Role, fd: int) -> None:
        """The stream process gets this one."""
        self.stream.append(fd)
        self.roles.append(role)

    def hold(self, fd: int) -> int:
        """Close this one in the end."""
        self._opened.callback(os.close, fd)
        return fd


class Sessions:
    """Opens and closes sessions."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._fds = setting.config.paths.stream_fds
        self._reaping = Reaping(setting.root / "reaper")
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)

    def recover(self) -> None:
        """Take away what an earlier worker was amid; and commands whose reaper is gone too: nobody can hear of them."""
        console.remove_stale(self._setting.root)
        if not self._reaping.alive():
            for pid_file in self._setting.root.glob("containers/*/session-*.pid"):
                self._setting.tasks.start(self._end(pid_file), f"end of {pid_file.name}")

    def let_go(self) -> None:
        """Need no reaper for now; the sessions that there are keep theirs."""
        self._reaping.let_go()

    async def exec(
        self, container: Container, runtime: OciRuntime, ids: IdMap | None, request: OpenExecRequest, deadline: Deadline
    ) -> None:
        """Start a command and hand its descriptors over; Internal, in the OCI runtime's words, where it cannot."""
        session_id(request.session)
        exec_spec.check(request.cmd)
        _check_running(container)
        config = await asyncio.to_thread(_config, container.bundle)
        with ExitStack() as opened:
            ends = _ends(opened, request, _owner(container.bundle, config, ids))
            async with self._starts:
                await self._start(container, runtime, request, config, ends, deadline)
            await self._pass(request.session, ends, deadline)

    async def run(
        self, container: Container, runtime: OciRuntime, ids: IdMap | None, request: ExecRequest, limit: Deadline
    ) -> Executed:
        """Run a command to its end and return its output, of which OUTPUT_LIMIT bytes a stream are kept.

        Raises TimeoutError at the limit, when the command and what came of it is killed.
        """
        session = new_session()
        wanted = OpenExecRequest(session=session, container=container.id, cmd=request.cmd, stdout=True, stderr=True)
        config = await asyncio.to_thread(_config, container.bundle)
        with ExitStack() as opened:
            ends = _ends(opened, wanted, _owner(container.bundle, config, ids))
            status, out, err = (opened.enter_context(closing(Output(os.dup(fd)))) for fd in ends.stream)
            try:
                async with asyncio.timeout(max(limit.remaining(), 0)):
                    async with self._starts:
                        await self._start(container, runtime, wanted, config, ends, limit)
                    ends.close_given()
                    await status.over.wait()
            except BaseException:
                await self.close(session)
                raise
            if not status.kept:
                raise Internal(f"container {container.id}: exec: its reaper was killed")
            out.close()
            err.close()
            return Executed(stdout=bytes(out.kept), stderr=bytes(err.kept), exit_code=int(status.kept))

    async def attach(self, container: Container, session: SessionId, deadline: Deadline) -> None:
        """Connect to a container's own input and output and hand the connection over."""
        session_id(session)
        _check_running(container)
        if container.monitor_lost or container.conmon is None or not container.conmon.alive:
            raise FailedPrecondition(f"container {container.id}: its conmon is gone, nothing takes an attach")
        made_from = await asyncio.to_thread(container.bundle.request.read)
        if made_from is None:
            raise Internal(f"container {container.id}: its request does not read back")
        _check_attached(container, container.conmon.pid)
        with ExitStack() as opened:
            ends = _Ends(opened, (0, 0))
            connection = opened.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            )
            await _connect(connection, container.bundle, deadline)
            if not made_from.stdin:
                connection.shutdown(socket.SHUT_WR)  # conmon would keep what nobody reads, and look no further
            ends.take(Role.ATTACH, connection.fileno())
            if made_from.tty:
                ends.take(Role.CONTROL, ends.hold(_control(container.bundle)))
            await self._pass(session, ends, deadline)

    async def close(self, session: SessionId) -> None:
        """Kill what is left of a session's command, also where its reaper cannot."""
        session_id(session)
        for pid_file in list(self._setting.root.glob(f"containers/*/session-{session}.pid")):
            await self._end(pid_file)

    async def _start(
        self, container: Container, runtime: OciRuntime, request: OpenExecRequest, config: bytes, ends: _Ends,
        deadline: Deadline,
    ) -> None:  # fmt: skip
        size = (request.width, request.height)
        spec = ends.number(in_memory(exec_spec.process(config, request.cmd, tty=request.tty, size=size)))
        words = ["exec", "--detach", "--process", f"/proc/self/fd/{spec}"]
        if not request.tty:
            await self._run(container, runtime, words, request.session, ends, deadline)
            return
        with Console(self._setting.root) as wanted:
            words += ["--console-socket", str(wanted.path)]
            await self._run(container, runtime, words, request.session, ends, deadline)
            async with deadline.limit(f"container {container.id}: exec"):
                terminal = ends.hold(await wanted.terminal())
        if all(size):
            console.resize(terminal, *size)
        ends.take(Role.TERMINAL, terminal)

    async def _run(
        self, container: Container, runtime: OciRuntime, words: list[str], session: SessionId, ends: _Ends,
        deadline: Deadline,
    ) -> None:  # fmt: skip
        pid_file = container.bundle.path / f"session-{session}.pid"
        said = os.memfd_create("log", os.MFD_CLOEXEC)
        log = Path(f"/proc/self/fd/{ends.number(said)}")
        argv = runtime.command(*words, "--pid-file", str(pid_file), container.id, log=log)
        code = await self._reaping.start(argv, pid_file, ends.command, deadline)
        if code:
            why = oci_runtime.error_text(Path(f"/proc/self/fd/{said}")) or f"exec: {process.describe(code)}"
            _check_running(container)  # that it has just ended is the better reason
            raise Internal(f"container {container.id}: {why}")

    async def _pass(self, session: SessionId, ends: _Ends, deadline: Deadline) -> None:
        passed = Passed(session=session, roles=tuple(ends.roles))
        await fdpass.send(self._fds, passed.encode(), ends.stream, deadline)

    async def _end(self, pid_file: Path) -> None:
        """Kill what came of a command, as far as it is in its container."""
        folder = ContainerBundle(self._setting.root, container_id(pid_file.parent.name))
        state = await asyncio.to_thread(folder.state.read)
        roots = await asyncio.to_thread(_roots, pid_file)
        if state is not None and roots:
            await kill_tree(self._setting.cgroups, state.cgroup, roots)
        pid_file.unlink(missing_ok=True)


def _ends(opened: ExitStack, request: OpenExecRequest, owner: tuple[int, int]) -> _Ends:
    """The reaper's pipe, and what a command is to have as input and output."""
    ends = _Ends(opened, owner)
    status, theirs = os.pipe2(os.O_CLOEXEC)
    ends.give(theirs)
    ends.take(Role.STATUS, ends.hold(status))
    wanted = {Role.STDIN: request.stdin, Role.STDOUT: request.stdout, Role.STDERR: request.stderr}
    for role, is_wanted in wanted.items():
        if is_wanted and not request.tty:
            ends.pipe(role)
        else:
            ends.nothing()
    return ends


def _roots(pid_file: Path) -> set[int]:
    """What of it is to be killed: nothing where its reaper has seen its end, or where the pid is a later process's."""
    try:
        pid, written_at = int(pid_file.read_text()), pid_file.stat().st_mtime
    except (OSError, ValueError):  # gone, or not whole: then the command has not begun
        return set()
    found = descendants.entry(pid)
    if found is None:
        return {pid}  # an end that nobody reaps, or none: its session is still its children's
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - found.start / os.sysconf("SC_CLK_TCK")
    return descendants.origins(pid) if age >= time.time() - written_at - _CLOCK_SECONDS else set()


def _check_attached(container: Container, conmon: int) -> None:
    """conmon keeps an ended attach, 32 KiB of it, until the container next says something: that has an end."""
    try:
        count = len(os.listdir(f"/proc/{conmon}/fd"))
    except OSError:  # it has ended, which shows when it is asked
        return
    if count > _MOST_ATTACHED:
        raise ResourceExhausted(
            f"container {container.id}: its conmon holds {count} descriptors, of attaches that may be over",
            hint="it lets go of those when the container next writes output",
        )


async def _connect(connection: socket.socket, folder: ContainerBundle, deadline: Deadline) -> None:
    """To the container's attach socket, whose whole path is longer than a socket's address may be."""
    connection.setblocking(False)
    try:
        below = os.open(folder.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            async with deadline.limit(f"container {folder.path.name}: attach"):
                await fdpass.connect(connection, f"/proc/self/fd/{below}/{folder.attach.name}")
        finally:
            os.close(below)
    except OSError as error:
        raise FailedPrecondition(f"container {folder.path.name}: its attach socket: {error.strerror}") from error


def _control(folder: ContainerBundle) -> int:
    try:
        return os.open(folder.control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise FailedPrecondition(f"conmon's control pipe {folder.control}: {error.strerror}") from error


def _config(folder: ContainerBundle) -> bytes:
    try:
        return folder.config.read_bytes()
    except OSError as error:
        raise Internal(f"{folder.config} cannot be read: {error.strerror}") from error


def _owner(folder: ContainerBundle, config: bytes, ids: IdMap | None) -> tuple[int, int]:
    try:
        return exec_spec.owner(config, ids)
    except msgspec.DecodeError as error:
        raise Internal(f"{folder.config} does not read back: {error}") from error


def _check_running(container: Container) -> None:
    if container.exited.is_set() or container.state.phase not in ("starting", "started"):
        raise FailedPrecondition(f"container {container.id} is not running")
