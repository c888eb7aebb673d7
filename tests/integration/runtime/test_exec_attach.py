"""Sessions in real containers, with this test in the stream process's place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from operator import le
from pathlib import Path

import pytest

from kernel.contracts.runtime import (
    NamespaceMode,
    OpenAttachRequest,
    OpenExecRequest,
    Security,
    SessionRequest,
)
from kernel.contracts.stream import Passed, Role
from kernel.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kernel.host import fdpass
from kernel.ids import ContainerId, SandboxId, SessionId, new_id, new_session
from services.runtime.sessions import console, monitor_socket
from tests.harness import host
from tests.integration.runtime.conftest import Node

SOON = 30


class Session:
    """The stream process's descriptors of one session."""

    def __init__(self, session: SessionId, fds: dict[Role, int]) -> None:
        self.id = session
        self.fds = fds
        for fd in fds.values():
            os.set_blocking(fd, False)

    async def read(self, role: Role, enough: bytes | None = None) -> bytes:
        """All up to the end; or up to where `enough` has come."""
        got = bytearray()
        async with asyncio.timeout(SOON):
            while enough is None or enough not in got:
                try:
                    chunk = os.read(self.fds[role], 1 << 20)
                except BlockingIOError:
                    await readable(self.fds[role])
                    continue
                except OSError:  # a terminal whose other side is closed
                    break
                if not chunk:
                    break
                got += chunk
        assert enough is None or enough in got, bytes(got)
        return bytes(got)

    def write(self, role: Role, data: bytes) -> None:
        assert os.write(self.fds[role], data) == len(data)

    async def code(self) -> int | None:
        """The exit code; None where nobody knows it."""
        said = await self.read(Role.STATUS)
        return int(said) if said else None

    def close(self, *roles: Role) -> None:
        for role in roles or tuple(self.fds):
            os.close(self.fds.pop(role))


async def readable(fd: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


class Stream:
    """Takes descriptors as the stream process does, and opens sessions as the front does."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.willing = True
        self.sessions: dict[str, Session] = {}
        path = node.config.paths.stream_fds
        path.parent.mkdir(parents=True, exist_ok=True)
        self.receiver = fdpass.Receiver(path, self._take)

    def _take(self, message: bytes, fds: list[int]) -> bool:
        if self.willing:
            passed = Passed.decode(message)
            self.sessions[passed.session] = Session(passed.session, dict(zip(passed.roles, fds, strict=True)))
        return self.willing

    async def exec(self, container: ContainerId, *cmd: str, seconds: float = 60, **fields: object) -> Session:
        session = new_session()
        values: dict[str, object] = {"stdin": True, "stdout": True, "stderr": True, **fields}
        request = OpenExecRequest(session=session, container_id=container, cmd=cmd, **values)  # type: ignore[arg-type]
        await self.node.service.open_exec(request, self.node.call(seconds))  # type: ignore[arg-type]
        return self.sessions[session]

    async def attach(self, container: ContainerId) -> Session:
        session = new_session()
        request = OpenAttachRequest(session=session, container_id=container)
        await self.node.service.open_attach(request, self.node.call())  # type: ignore[arg-type]
        return self.sessions[session]

    async def end(self, session: SessionId) -> None:
        await self.node.service.close_session(SessionRequest(session=session), self.node.call())  # type: ignore[arg-type]

    def close(self) -> None:
        self.receiver.close()
        for session in self.sessions.values():
            session.close()


@pytest.fixture
async def any_stream(any_node: Node) -> AsyncIterator[Stream]:
    made = Stream(any_node)
    yield made
    made.close()


@pytest.fixture
async def stream(node: Node) -> AsyncIterator[Stream]:
    made = Stream(node)
    yield made
    made.close()


async def box(node: Node, **fields: object) -> ContainerId:
    return await node.run(await node.pod(handler=node.handler), "sleep", "1000", **fields)


async def test_output_input_and_exit_codes(any_node: Node, any_stream: Stream) -> None:
    container = await box(any_node, security=Security(run_as_user=33))
    both = await any_stream.exec(container, "sh", "-c", "cat; echo err >&2; id -u >/dev/stdout; exit 5")
    assert set(both.fds) == {Role.STDIN, Role.STDOUT, Role.STDERR, Role.STATUS}
    both.write(Role.STDIN, b"in\0\xff\n")
    assert await both.read(Role.STDOUT, b"\n") == b"in\0\xff\n"
    both.close(Role.STDIN)  # end of file for the command
    assert await both.read(Role.STDOUT) == b"33\n"
    assert (await both.read(Role.STDERR), await both.code()) == (b"err\n", 5)
    for script, code in (("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)):
        one = await any_stream.exec(container, "sh", "-c", script)
        assert await one.code() == code
    silent = await any_stream.exec(container, "sh", "-c", "cat; ls -l /proc/self/fd", stdin=False, stderr=False)
    assert set(silent.fds) == {Role.STDOUT, Role.STATUS}
    listed = await silent.read(Role.STDOUT)
    assert listed.count(b"/dev/null") == 2
    assert listed.count(b" -> ") == 3, "nothing else is inherited"
    assert await silent.code() == 0


async def test_a_terminal(any_node: Node, any_stream: Stream) -> None:
    container = await box(any_node)
    session = await any_stream.exec(container, "sh", "-c", "tty; stty size; echo $TERM; read x; stty size; exit 3",
                                    tty=True, width=91, height=17)  # fmt: skip
    assert set(session.fds) == {Role.TERMINAL, Role.STATUS}
    assert b"17 91\r\nxterm\r\n" in await session.read(Role.TERMINAL, b"xterm\r\n")
    console.resize(session.fds[Role.TERMINAL], 132, 43)
    session.write(Role.TERMINAL, b"go\n")
    assert b"43 132" in await session.read(Role.TERMINAL)
    assert await session.code() == 3


async def test_a_terminal_or_none_whatever_the_container_has(node: Node, stream: Stream) -> None:
    container = await box(node, tty=True)
    with_one = await stream.exec(container, "tty", tty=True)
    assert b"/dev/pts/" in await with_one.read(Role.TERMINAL)
    assert await with_one.code() == 0
    without = await stream.exec(container, "sh", "-c", "tty; echo said; echo err >&2")
    assert await without.read(Role.STDOUT) == b"not a tty\nsaid\n"
    assert (await without.read(Role.STDERR), await without.code()) == (b"err\n", 0)


async def test_what_cannot_be_started_is_told_and_leaves_nothing(any_node: Node, any_stream: Stream) -> None:
    container = await box(any_node)
    for tty in (False, True):
        with pytest.raises(Internal, match="no-such-program"):
            await any_stream.exec(container, "no-such-program", tty=tty)
    with pytest.raises(Internal, match=r"(?i)permission denied|/etc/passwd.* is not executable"):
        await any_stream.exec(container, "/etc/passwd")
    for cmd in ((), ("",), ("a\0b",), ("x" * (3 << 20),)):
        with pytest.raises(InvalidInput, match="cmd"):
            await any_stream.exec(container, *cmd)
    with pytest.raises(NotFound):
        await any_stream.exec(ContainerId(new_id()), "true")
    assert not any_stream.sessions
    assert files(any_node, container) == []
    await any_node.stop(container, 0)
    for opened in (any_stream.exec(container, "true"), any_stream.attach(container)):
        with pytest.raises(FailedPrecondition, match="is not running"):
            await opened


async def test_a_container_that_was_never_started_is_refused(node: Node, stream: Stream) -> None:
    request = node.create_request(await node.pod(), "true")
    await node.create(request)
    for opened in (stream.exec(request.container_id, "true"), stream.attach(request.container_id)):
        with pytest.raises(FailedPrecondition, match="is not running"):
            await opened


async def test_a_child_that_holds_the_output_open_does_not_keep_the_exit_code_back(node: Node, stream: Stream) -> None:
    container = await box(node)
    session = await stream.exec(container, "sh", "-c", "sleep 777 & echo said; exit 4")
    assert await session.code() == 4
    assert await session.read(Role.STDOUT, b"said\n") == b"said\n"
    session.close()
    assert b"sleep 777" in (await node.exec(container, "ps")).stdout, "as a daemon of the command's it lives on"


@pytest.mark.parametrize("tty", [False, True])
async def test_when_the_client_has_gone_all_that_came_of_the_command_is_killed(
    any_node: Node, any_stream: Stream, tty: bool
) -> None:
    container = await box(any_node)
    script = "trap '' HUP PIPE; (sleep 888 & sleep 888 &); sleep 888 & echo up; sleep 888; true"
    session = await any_stream.exec(container, "sh", "-c", script, tty=tty)
    await session.read(Role.TERMINAL if tty else Role.STDOUT, b"up")
    assert files(any_node, container) != []
    session.close()
    await gone(any_node, container, b"888")
    assert files(any_node, container) == []
    assert (await any_node.fact(container)).state == "running"


async def test_neither_an_end_nor_a_kill_leaves_a_zombie(any_node: Node, any_stream: Stream) -> None:
    """The container's first process reaps nothing: whoever started the command must have."""
    container = await box(any_node)
    session, other = await any_stream.exec(container, "sleep", "888"), await any_stream.exec(container, "true")
    assert await other.code() == 0
    session.close()
    await gone(any_node, container, b"888")
    states = await any_node.exec(container, "sh", "-c", "cat /proc/[0-9]*/status | grep State")
    assert b"zombie" not in states.stdout


async def test_a_command_that_nobody_takes_is_killed(node: Node, stream: Stream) -> None:
    container = await box(node)
    stream.willing = False
    with pytest.raises(Unavailable, match="not wanted"):
        await stream.exec(container, "sleep", "888")
    await gone(node, container, b"888")
    stream.receiver.close()
    with pytest.raises(Unavailable):
        await stream.exec(container, "sleep", "888")
    await gone(node, container, b"888")
    assert files(node, container) == []


async def test_a_session_goes_on_without_the_worker_and_its_next_one_leaves_it_alone(
    any_node: Node, any_stream: Stream
) -> None:
    container = await box(any_node)
    session = await any_stream.exec(container, "sh", "-c", "read x; echo $x; exit 7")
    await any_node.restart()
    other = await any_stream.exec(container, "sh", "-c", "read x; exit 8")
    assert reaper_of(any_node, container, other) == reaper_of(any_node, container, session), "it was found again"
    await any_node.restart()
    session.write(Role.STDIN, b"still here\n")
    assert (await session.read(Role.STDOUT), await session.code()) == (b"still here\n", 7)
    other.write(Role.STDIN, b"\n")
    assert await other.code() == 8
    assert files(any_node, container) == []


async def test_a_reaper_that_is_killed_costs_the_exit_code_alone(node: Node, stream: Stream) -> None:
    container = await box(node)
    session = await stream.exec(container, "sh", "-c", "read x; echo $x; (sleep 888 &); sleep 888")
    os.kill(reaper_of(node, container, session), signal.SIGKILL)
    assert await session.code() is None
    session.write(Role.STDIN, b"still here\n")
    assert await session.read(Role.STDOUT, b"\n") == b"still here\n"
    await stream.end(session.id)
    await gone(node, container, b"888")
    assert files(node, container) == []
    await stream.end(session.id)  # again, and for what never was: success
    await stream.end(new_session())
    assert await (await stream.exec(container, "sh", "-c", "exit 6")).code() == 6, "the next one has a fresh reaper"


async def test_the_next_worker_ends_commands_whose_reaper_is_gone_too(any_node: Node, any_stream: Stream) -> None:
    container = await box(any_node)
    script = "(sleep 888 & sleep 888 &); echo up; sleep 888"
    session = await any_stream.exec(container, "sh", "-c", script)
    await session.read(Role.STDOUT, b"up")
    reaper = reaper_of(any_node, container, session)
    os.kill(reaper, signal.SIGKILL)
    host.until("the reaper is gone", lambda: not Path(f"/proc/{reaper}").exists())
    assert len(files(any_node, container)) == 1
    stranger = any_node.config.paths.runtime_state / "containers" / container / "session-stranger.pid"
    stranger.write_text(str((await any_node.fact(container)).pid))
    os.utime(stranger, (0, 0))  # written long before the process that has its pid now
    await any_node.restart()
    await gone(any_node, container, b"888")
    assert (await any_node.fact(container)).state == "running"
    later = await any_stream.exec(container, "sleep", "889")
    await any_node.restart()
    assert b"sleep 889" in (await any_node.exec(container, "ps")).stdout
    later.close()


async def test_close_session_kills_the_command_of_a_session(node: Node, stream: Stream) -> None:
    container = await box(node)
    session, other = [await stream.exec(container, "sleep", f"88{number}") for number in range(2)]
    await stream.end(session.id)
    assert await session.code() == 137
    assert b"sleep 881" in (await node.exec(container, "ps")).stdout
    other.close()
    with pytest.raises(InvalidInput):
        await stream.end(SessionId("../" + "a" * 19))


@pytest.mark.parametrize("pid", [NamespaceMode.CONTAINER, NamespaceMode.NODE])
async def test_a_container_that_ends_ends_its_sessions(node: Node, stream: Stream, pid: NamespaceMode) -> None:
    container = await box(node, security=Security(pid=pid))
    sessions = [await stream.exec(container, "sleep", "888", tty=tty) for tty in (False, True)]
    await node.stop(container, 0)
    assert [await session.code() for session in sessions] == [137, 137]
    await node.remove(container)


async def test_an_oci_runtime_that_hangs_is_ended_with_the_deadline(node: Node, base: Path, stream: Stream) -> None:
    container = await box(node)
    runtime = node.service._context.runtimes["runc"]
    slow = base / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 999 & {runtime.path} "$@"; sleep 999\n')
    slow.chmod(0o755)
    fast, runtime.path = runtime.path, str(slow)
    with pytest.raises(DeadlineExceeded):
        await stream.exec(container, "sleep", "888", seconds=0.7)
    runtime.path = fast
    await gone(node, container, b"888")
    host.until("all that it started is gone", lambda: not host.processes(base / "slow"))
    assert files(node, container) == []


async def test_many_sessions_leave_nothing(any_node: Node, any_stream: Stream) -> None:
    container = await box(any_node)
    await (await any_stream.exec(container, "true")).code()
    keeper = await any_stream.exec(container, "cat")
    reaper = reaper_of(any_node, container, keeper)
    host.until("the first one is reaped", lambda: len(children(reaper)) == 1)
    ours, reapers = descriptors(reaper)

    async def one(number: int) -> None:
        session = await any_stream.exec(container, "sh", "-c", f"echo {number}; exit {number}", tty=number % 3 == 0)
        if number % 4:
            assert await session.code() == number
        session.close()
        del any_stream.sessions[session.id]

    await asyncio.gather(*(one(number) for number in range(100)))
    keeper.write(Role.STDIN, b"x")
    assert await keeper.read(Role.STDOUT, b"x")
    host.until("the reaper has reaped all but one", lambda: len(children(reaper)) == 1)
    host.until("it has forgotten their files", lambda: len(files(any_node, container)) == 1)
    host.until("nobody has a descriptor too many", lambda: all(map(le, descriptors(reaper), (ours, reapers))))
    assert list(any_node.config.paths.runtime_state.glob("tty-*")) == []
    keeper.close()
    await any_node.restart()
    host.until("the reaper has ended", lambda: not Path(f"/proc/{reaper}").exists())


async def test_attach_is_conmons_own_connection(node: Node, stream: Stream) -> None:
    script = "echo before; while read x; do echo out $x; echo err $x >&2; done; echo over; exec sleep 1000"
    container = await node.run(await node.pod(), "sh", "-c", script, stdin=True)
    one, two = await stream.attach(container), await stream.attach(container)
    assert set(one.fds) == {Role.ATTACH}
    one.write(Role.ATTACH, b"first\n")
    for session in (one, two):
        assert await packets(session, 3, b"err first\n") == b"err first\n"
    one.close()
    two.write(Role.ATTACH, b"second\n")
    assert await packets(two, 2, b"second\n") == b"out second\n"
    await node.restart()
    three = await stream.attach(container)
    three.write(Role.ATTACH, b"third\n")
    assert b"out third\n" in await packets(two, 2, b"third\n")
    await node.stop(container, 0)
    assert await packets(three, 2) == b"out third\n"
    lines = [line.split(" ", 3)[3] for line in node.log(await sandbox_of(node, container), container)]
    assert lines[:3] == ["before", "out first", "err first"]


async def test_stdin_once_ends_with_its_first_attach(node: Node, stream: Stream) -> None:
    container = await node.run(
        await node.pod(), "sh", "-c", "cat; echo over; exec sleep 1000", stdin=True, stdin_once=True
    )
    one, two = await stream.attach(container), await stream.attach(container)
    one.write(Role.ATTACH, b"said\n")
    assert await packets(two, 2, b"said\n") == b"said\n"
    shut(one)  # the client's end of file; output goes on
    assert await packets(one, 2, b"over\n") == b"said\nover\n"


async def test_stdin_that_stays_open_outlives_its_attaches(node: Node, stream: Stream) -> None:
    container = await node.run(await node.pod(), "sh", "-c", "cat; echo over", stdin=True)
    one = await stream.attach(container)
    shut(one)
    one.close()
    two = await stream.attach(container)
    two.write(Role.ATTACH, b"still\n")
    assert await packets(two, 2, b"still\n") == b"still\n"


async def test_a_container_without_stdin_takes_none(node: Node, stream: Stream) -> None:
    container = await node.run(await node.pod(), "sh", "-c", "cat; echo over; while sleep 0.1; do echo on; done")
    one = await stream.attach(container)
    with pytest.raises(BrokenPipeError):
        os.write(one.fds[Role.ATTACH], b"for nobody")
    assert b"on\n" in await packets(one, 2, b"on\n")


async def test_an_attached_terminal_is_resized(node: Node, stream: Stream) -> None:
    script = "read x; stty size; tty; read x; exit 3"
    container = await node.run(await node.pod(), "sh", "-c", script, stdin=True, tty=True)
    one = await stream.attach(container)
    assert set(one.fds) == {Role.ATTACH, Role.CONTROL}
    one.write(Role.CONTROL, b"1 23 117\n")
    one.write(Role.ATTACH, b"go\n")
    assert b"23 117\r\n/dev/" in await packets(one, 2, b"/dev/")
    one.write(Role.ATTACH, b"go\n")
    assert (await node.ended(container)).exit_code == 3


async def test_attaches_to_a_silent_container_have_an_end(
    node: Node, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """conmon sees that one has ended only when it writes to it."""
    container = await node.run(await node.pod(), "sh", "-c", "read x; echo $x; exec sleep 1000", stdin=True)
    conmon = int((node.config.paths.runtime_state / "containers" / container / "conmon.pid").read_text())
    before = len(os.listdir(f"/proc/{conmon}/fd"))
    monkeypatch.setattr(monitor_socket, "_MOST_ATTACHED", before + 4)
    for _ in range(5):
        (await stream.attach(container)).close()
    host.until("conmon has them all", lambda: len(os.listdir(f"/proc/{conmon}/fd")) == before + 5)
    with pytest.raises(ResourceExhausted, match="conmon holds"):
        await stream.attach(container)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as direct:
        below = os.open(node.config.paths.runtime_state / "containers" / container, os.O_PATH)
        direct.connect(f"/proc/self/fd/{below}/attach")
        os.close(below)
        direct.send(b"said\n")
        assert await asyncio.to_thread(direct.recv, 64) == b"\2said\n"
    host.until("conmon has let go", lambda: len(os.listdir(f"/proc/{conmon}/fd")) <= before + 1)
    await stream.attach(container)


async def test_an_attach_without_conmon_is_refused(node: Node, stream: Stream) -> None:
    container = await box(node)
    conmon = int((node.config.paths.runtime_state / "containers" / container / "conmon.pid").read_text())
    os.kill(conmon, signal.SIGKILL)
    async with asyncio.timeout(SOON):
        while not (await node.fact(container)).monitor_lost:
            await asyncio.sleep(0.02)
    with pytest.raises(FailedPrecondition, match="conmon"):
        await stream.attach(container)


async def packets(session: Session, kind: int, enough: bytes | None = None) -> bytes:
    """Output of one kind as it comes in conmon's packets, up to the end or until `enough` has come."""
    got, fd = bytearray(), session.fds[Role.ATTACH]
    async with asyncio.timeout(SOON):
        while enough is None or enough not in got:
            try:
                packet = os.read(fd, 1 << 16)
            except BlockingIOError:
                await readable(fd)
                continue
            if not packet:
                break
            got += packet[1:] if packet[0] == kind else b""
    return bytes(got)


def shut(session: Session) -> None:
    """The end of the client's input."""
    with socket.socket(fileno=os.dup(session.fds[Role.ATTACH])) as connection:
        connection.shutdown(socket.SHUT_WR)


def files(node: Node, container: ContainerId) -> list[str]:
    """What sessions have left in a container's bundle."""
    folder = node.config.paths.runtime_state / "containers" / container
    return sorted(path.name for path in folder.glob("session-*"))


async def gone(node: Node, container: ContainerId, word: bytes) -> None:
    """Wait until no process of a container has a word in its arguments, and its sessions have left no file."""
    async with asyncio.timeout(SOON):
        while word in (await node.exec(container, "ps")).stdout or files(node, container):
            await asyncio.sleep(0.05)


def descriptors(reaper: int) -> tuple[int, int]:
    """How many this process and the reaper hold, with none but one session; the reaper's do not vary by then."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{reaper}/fd"))


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def reaper_of(node: Node, container: ContainerId, session: Session) -> int:
    """The parent of a session's command."""
    folder = node.config.paths.runtime_state / "containers" / container
    pid = int((folder / f"session-{session.id}.pid").read_text())
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def sandbox_of(node: Node, container: ContainerId) -> SandboxId:
    return (await node.fact(container)).sandbox_id
