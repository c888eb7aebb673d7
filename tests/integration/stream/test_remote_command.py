"""Commands and attached containers over SPDY, with real processes behind real pipes and terminals."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pty
import resource
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress

import pytest

from kernel.contracts.stream import Ended, Kind, Opened, RefuseRequest, Role
from kernel.stream.sessions import attach_session, remote_command
from kernel.stream.wires import spdy
from tests.harness.streams import Command, Spdy
from tests.integration.stream.conftest import telling

MANY = 1000
"""Attaches at once."""


async def begin(url: str, **options: object) -> asyncio.Task[Command]:
    return asyncio.create_task(asyncio.to_thread(Command, url, **options))


def fill_until_closed(monitor: socket.socket) -> None:
    """Send until the other side has gone."""
    with suppress(BrokenPipeError, ConnectionResetError):
        while True:
            monitor.send(b"\2" + bytes(8192))


def fill(send: Callable[[], object]) -> None:
    """Send until no more is taken."""
    with suppress(BlockingIOError):
        while True:
            send()


async def test_output_and_exit_code(stream) -> None:
    client = await begin(await stream.url())
    started = await stream.run("sh", "-c", "echo out; echo err >&2; exit 7", stdin=False)
    with await client as command:
        assert await asyncio.to_thread(command.exit_code) == 7
        assert (command.output(), command.output("stderr")) == (b"out\n", b"err\n")
        assert command.ended.issuperset(command.streams.values())
        await asyncio.to_thread(command.drain)
        assert command.gone
    started.wait()
    ended = await stream.heard(Ended)
    assert ended.kind is Kind.EXEC


async def test_input_is_ended(stream) -> None:
    client = await begin(await stream.url(stdin=True), stdin=True)
    started = await stream.run("cat")
    with await client as command:
        command.write(b"hello ")
        command.write(b"world", fin=True)
        assert await asyncio.to_thread(command.exit_code) == 0
        assert command.output() == b"hello world"
    started.wait()


@pytest.mark.parametrize("strict", [False, True], ids=["without windows", "with windows"])
async def test_any_bytes_come_back_as_they_were(stream, strict: bool) -> None:
    data = os.urandom(3 << 20)
    client = await begin(await stream.url(stdin=True), stdin=True, strict=strict)
    started = await stream.run("sha256sum")
    with await client as command:
        await asyncio.to_thread(command.write, data, fin=True)
        assert await asyncio.to_thread(command.exit_code) == 0
        assert command.output().split()[0].decode() == hashlib.sha256(data).hexdigest()
    started.wait()
    source = stream.folder / "data"
    source.write_bytes(data)
    client = await begin(await stream.url(), strict=strict)
    started = await stream.run("cat", str(source), stdin=False)
    with await client as command:
        assert await asyncio.to_thread(command.exit_code) == 0
        assert command.output() == data
    started.wait()


@pytest.mark.parametrize("protocol", ["channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io"])
async def test_older_protocols_say_it_in_words(stream, protocol: str) -> None:
    client = await begin(await stream.url(), protocol=protocol)
    started = await stream.run("sh", "-c", "exit 3", stdin=False)
    with await client as command:
        await asyncio.to_thread(command.drain)
        assert b"exit code: 3" in command.output("error")
    started.wait()


async def test_what_cannot_be_run_is_said(stream) -> None:
    client = await begin(await stream.url())
    opened = await stream.heard(Opened)
    assert (opened.kind, opened.target) == (Kind.EXEC, "c" * 64)
    await stream.service.refuse(RefuseRequest(session=opened.session, message="no such program"), None)
    with await client as command:
        found = await asyncio.to_thread(command.result)
        assert (found["status"], found["reason"]) == ("Failure", "InternalError")
        assert "no such program" in found["message"]


async def test_a_command_that_is_killed_has_no_exit_code(stream) -> None:
    client = await begin(await stream.url())
    opened = await stream.heard(Opened)
    pipes = [os.pipe() for _ in range(3)]
    for _, write in pipes:
        os.close(write)
    roles = (Role.STDOUT, Role.STDERR, Role.STATUS)
    await stream.give(opened.session, {role: read for role, (read, _) in zip(roles, pipes, strict=True)})
    with await client as command:
        assert "killed" in (await asyncio.to_thread(command.result))["message"]


async def test_a_child_that_holds_the_output_is_not_waited_for(stream) -> None:
    client = await begin(await stream.url())
    started = await stream.run("sh", "-c", "sleep 60 & echo $!", stdin=False)
    with await client as command:
        assert await asyncio.to_thread(command.exit_code) == 0
        os.kill(int(command.output()), 9)
    started.wait()


async def test_a_client_that_goes_takes_the_command_with_it(stream) -> None:
    client = await begin(await stream.url(stdin=True), stdin=True)
    started = await stream.run("cat")
    (await client).close()
    await stream.heard(Ended)
    await asyncio.to_thread(started.wait, 20)  # its input has ended, and nobody reads its exit code


async def test_a_client_that_goes_while_its_input_waits_is_noticed(stream, monkeypatch) -> None:
    monkeypatch.setattr("kernel.stream.server._LOOK_SECONDS", 0.2)
    quick = stream
    quick.service._server._look()
    client = await begin(await quick.url(stdin=True), stdin=True)
    started = await quick.run("sh", "-c", "exec sleep 60")
    command = await client
    command.socket.setblocking(False)
    fill(lambda: command.write(bytes(1 << 16)))
    command.close()
    await quick.heard(Ended)
    started.kill()
    started.wait()


async def test_a_reader_that_does_not_read_stops_the_command_and_nothing_else(stream) -> None:
    client = await begin(await stream.url())
    started = await stream.run("cat", "/dev/zero", stdin=False)
    command = await client
    other = await begin(await stream.url(stdin=True), stdin=True)
    second = await stream.run("cat")
    with await other as quick:
        for number in range(20):
            quick.write(b"<%d>" % number)
            await asyncio.to_thread(quick.until, quick.streams["stdout"], b"<%d>" % number)
        quick.write(b"", fin=True)
        assert await asyncio.to_thread(quick.exit_code) == 0
    second.wait()
    sessions = list(stream.service._sessions.values())
    assert len(sessions) == 1
    assert sessions[0].wire.client._transport.get_write_buffer_size() <= 512 << 10
    command.close()
    await stream.heard(Ended)
    await asyncio.to_thread(started.wait, 20)  # its output was closed


async def test_a_slow_reader_gets_all_that_a_command_has_left(stream) -> None:
    source = stream.folder / "data"
    source.write_bytes(data := os.urandom(60_000))
    pipes: list[int] = []
    client = await begin(await stream.url(), strict=True)
    command = await client
    command.socket.sendall(command.spdy.settings(0))  # nothing is taken for now
    opened = await stream.heard(Opened)
    stdout, out = os.pipe()
    stderr, err = os.pipe()
    status, said = os.pipe()
    os.write(out, data)
    os.write(said, b"0\n")
    pipes += [out, err]  # a child holds them open
    os.close(said)
    await stream.give(opened.session, {Role.STDOUT: stdout, Role.STDERR: stderr, Role.STATUS: status})
    session = stream.service._sessions[opened.session]
    async with asyncio.timeout(20):
        while not session._sources["stdout"]._draining:  # the command has ended
            await asyncio.sleep(0.01)
    assert len(command.output()) <= spdy.WINDOW
    command.socket.sendall(command.spdy.settings(spdy.WINDOW))
    with command:
        assert await asyncio.to_thread(command.exit_code) == 0
        assert command.output() == data
    for fd in pipes:
        os.close(fd)


async def terminal(stream, *argv: str) -> subprocess.Popen[bytes]:
    """A command on a terminal, for the session that is opened next."""
    opened = await stream.heard(Opened)
    ours, theirs = pty.openpty()
    status, said = os.pipe()
    started = subprocess.Popen(
        ["setsid", "-c", *telling(said), *argv], stdin=theirs, stdout=theirs, stderr=theirs, pass_fds=(said,)
    )  # fmt: skip
    os.close(theirs)
    os.close(said)
    await stream.give(opened.session, {Role.TERMINAL: ours, Role.STATUS: status})
    return started


async def test_a_terminal_and_its_size(stream) -> None:
    client = await begin(await stream.url(tty=True, stdin=True, stderr=False), tty=True, stdin=True)
    started = await terminal(stream, "sh")
    with await client as command:
        command.resize(133, 44)
        command.write(b"until [ \"$(stty size)\" = '44 133' ]; do :; done; echo sized; exit 5\n")
        assert await asyncio.to_thread(command.exit_code) == 5
        assert b"sized\r\n" in command.output()
    started.wait()


async def test_a_size_that_comes_first_is_told_and_set(stream) -> None:
    client = await begin(await stream.url(tty=True, stderr=False), tty=True)
    with await client as command:
        command.resize(99, 11)
        session = next(iter(stream.service._sessions.values()))
        async with asyncio.timeout(10):
            while session.pending()[0].width != 99:
                await asyncio.sleep(0.01)
        # It starts a moment before the stream process has its terminal, and with it the size to set.
        started = await terminal(stream, "sh", "-c", 'while [ "$(stty size)" = "0 0" ]; do sleep 0.05; done; stty size')
        assert await asyncio.to_thread(command.exit_code) == 0
        assert command.output() == b"11 99\r\n"
    started.wait()


async def test_many_sizes_that_nobody_reads(stream) -> None:
    client = await begin(await stream.url(tty=True, kind=Kind.ATTACH, stderr=False), tty=True)
    opened = await stream.heard(Opened)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    await stream.give(opened.session, {Role.ATTACH: ours.detach(), Role.CONTROL: write})
    with theirs, await client as command:

        def many() -> None:
            text = b"".join(b'{"Width":%d,"Height":1}' % (number % 65536) for number in range(100_000))
            command.send(command.streams["resize"], text)
            command.resize(65535, 65535)
            command.socket.sendall(command.spdy.ping(1))
            while not command.pump():
                pass

        await asyncio.to_thread(many)
        session = next(iter(stream.service._sessions.values()))
        async with asyncio.timeout(20):
            while session._size != (65535, 65535):
                await asyncio.sleep(0.01)
        lines = b""
        async with asyncio.timeout(20):
            while not lines.endswith(b"1 65535 65535\n"):
                lines += await asyncio.to_thread(os.read, read, 65536)
        assert {line.split()[0] for line in lines.splitlines()} == {b"1"}
    os.close(read)


class TestAttach:
    async def attached(self, stream, **options) -> tuple[Command, socket.socket]:
        client = await begin(await stream.url(Kind.ATTACH, **options), **options)
        opened = await stream.heard(Opened)
        assert (opened.kind, opened.target) == (Kind.ATTACH, "c" * 64)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.settimeout(20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)  # of a thousand the kernel keeps little, too
        await stream.give(opened.session, {Role.ATTACH: ours.detach()})
        return await client, theirs

    async def test_packets_are_output_and_input(self, stream) -> None:
        command, monitor = await self.attached(stream, stdin=True)
        with command, monitor:
            monitor.send(b"\2out")
            monitor.send(b"\3err")
            monitor.send(b"\2")
            command.write(bytes(20000))
            sizes = [len(await asyncio.to_thread(monitor.recv, 32768)) for _ in range(3)]
            assert sizes == [8192, 8192, 3616]
            command.write(b"", fin=True)
            assert await asyncio.to_thread(monitor.recv, 10) == b""  # the end of the input alone
            monitor.send(b"\2 more")
            monitor.close()
            assert await asyncio.to_thread(command.exit_code) == 0
            assert (command.output(), command.output("stderr")) == (b"out more", b"err")

    async def test_a_client_that_leaves(self, stream) -> None:
        command, monitor = await self.attached(stream)
        command.close()
        with monitor:
            assert await asyncio.to_thread(monitor.recv, 10) == b""

    async def test_clients_that_never_read_do_not_block_the_container_for_the_others(self, stream) -> None:
        pairs = [await self.attached(stream) for _ in range(MANY)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reader, monitor = await self.attached(stream)
        for _, one in pairs:
            one.setblocking(False)
            fill(lambda one=one: one.send(b"\2" + bytes(8192)))
        monitor.send(b"\2still here")
        monitor.close()
        assert await asyncio.to_thread(reader.exit_code) == 0
        assert reader.output() == b"still here"
        reader.close()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        assert grown < MANY * (32 << 10), "what is kept for a client that does not read is a packet or two"
        for command, one in pairs:
            command.close()
            one.close()

    async def test_a_client_that_keeps_the_container_waiting_is_let_go(self, stream, monkeypatch) -> None:
        monkeypatch.setattr(attach_session, "_STALL_SECONDS", 0.3)
        command, monitor = await self.attached(stream)
        slow, other = await self.attached(stream)
        with command, monitor, slow, other:
            # conmon's writes wait, as these do: one that reads after a while is kept, one that never does is not
            sent = asyncio.create_task(asyncio.to_thread(fill_until_closed, monitor))
            for number in range(200):
                await asyncio.to_thread(other.send, b"\2" + bytes(8192))
                if not number % 10:
                    await asyncio.to_thread(slow.pump)
            await asyncio.wait_for(sent, 20)
            other.send(b"\2the end")
            other.close()
            assert await asyncio.to_thread(slow.exit_code) == 0
            assert slow.output().endswith(b"the end")
        assert (await stream.heard(Ended)).kind is Kind.ATTACH


async def test_streams_that_nobody_asked_for_or_twice_are_refused(stream) -> None:
    url = await stream.url()

    def client() -> dict[int, int]:
        with Spdy(url) as spdy:
            first, again, strange = (spdy.open(streamtype=name) for name in ("stdout", "stdout", "x"))
            while not {again, strange} <= spdy.resets.keys():
                assert spdy.pump()
            assert first not in spdy.resets
            return spdy.resets

    assert await asyncio.to_thread(client)


async def test_a_client_that_never_makes_its_streams(stream, monkeypatch) -> None:
    monkeypatch.setattr(remote_command, "STREAMS_SECONDS", 0.3)
    url = await stream.url()

    def client() -> None:
        with Spdy(url) as spdy:
            spdy.open(streamtype="stdout")
            spdy.drain()
            assert spdy.gone

    await asyncio.to_thread(client)
    await stream.heard(Ended)


async def test_descriptors_that_do_not_fit_are_not_taken(stream) -> None:
    client = await begin(await stream.url())
    opened = await stream.heard(Opened)
    for roles in ((Role.STDOUT,), (Role.TERMINAL, Role.STATUS), (Role.ATTACH,)):
        given = {role: os.dup(0) for role in roles}
        with pytest.raises(Exception, match="not wanted"):
            await stream.give(opened.session, given)
    await stream.service.refuse(RefuseRequest(session=opened.session, message="x"), None)
    (await client).close()


async def test_an_idle_session_ends(make, monkeypatch) -> None:
    monkeypatch.setattr("kernel.stream.server._LOOK_SECONDS", 0.1)
    quick = make(idle_timeout=0.5)
    client = await begin(await quick.url(stdin=True), stdin=True)
    started = await quick.run("cat")
    with await client as command:
        await asyncio.to_thread(command.drain)
        assert command.eof
    await quick.heard(Ended)
    started.wait()


async def test_two_hundred_at_once(stream) -> None:
    async def one(number: int) -> None:
        with await asyncio.to_thread(Command, await stream.url(stdin=True), stdin=True) as command:
            command.write(b"%d" % number, fin=True)
            assert await asyncio.to_thread(command.exit_code) == 0
            assert command.output() == b"%d" % number

    async def serve() -> None:
        """The commands, without processes: each gives back what it gets."""
        for _ in range(200):
            opened = await stream.heard(Opened)
            stdin, stdout = os.pipe()
            status, said = os.pipe()
            stderr, other = os.pipe()
            os.write(said, b"0\n")
            os.close(said)
            os.close(other)
            await stream.give(
                opened.session,
                {Role.STDIN: stdout, Role.STDOUT: stdin, Role.STDERR: stderr, Role.STATUS: status},
            )

    clients = [asyncio.create_task(one(number)) for number in range(200)]
    await asyncio.wait_for(serve(), 60)
    await asyncio.wait_for(asyncio.gather(*clients), 60)
