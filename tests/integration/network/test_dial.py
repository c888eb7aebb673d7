"""Connections into pods for port-forwards, with this test in the stream process's place."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from kernel.contracts.network import DialRequest
from kernel.contracts.stream import Passed, Role
from kernel.errors import CrispError, DeadlineExceeded, FailedPrecondition, InvalidInput, NotFound, Unavailable
from kernel.host import fdpass, syscalls
from kernel.host.aio import Deadline
from kernel.ids import SandboxId, new_session
from services.network.links import netns
from tests.integration.network.conftest import Client, FakeCall, Node

V4 = (socket.AF_INET, "127.0.0.1")
V6 = (socket.AF_INET6, "::1")


class Stream:
    """The stream process's end."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self.got: asyncio.Queue[tuple[Passed, socket.socket]] = asyncio.Queue()
        self.willing = True
        self.receiver = fdpass.Receiver(path, self._take)

    def _take(self, message: bytes, fds: list[int]) -> bool:
        if self.willing:
            [fd] = fds
            self.got.put_nowait((Passed.decode(message), socket.socket(fileno=fd)))
        return self.willing


@pytest.fixture
async def stream(node: Node) -> AsyncIterator[Stream]:
    made = Stream(node.config.paths.stream_fds)
    yield made
    made.receiver.close()


@pytest.fixture
async def pinned(node: Node, client: Client, sandbox: SandboxId) -> AsyncIterator[SandboxId]:
    """A pod's namespace, without any plugin."""
    await netns.Spare().pin(node.pin(sandbox), Deadline.after(20))
    yield sandbox
    await netns.remove(node.pin(sandbox))


def listen(pin: Path | None, family: int, address: str, backlog: int = 512) -> socket.socket:
    """A server in a pod; on the host where there is no pin."""
    made: list[socket.socket] = []

    def make() -> None:
        if pin is not None:
            fd = os.open(pin, os.O_RDONLY)
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
            os.close(fd)
        server = socket.socket(family, socket.SOCK_STREAM)
        server.bind((address, 0))
        server.listen(backlog)
        made.append(server)

    if pin is None:
        make()  # this thread is in what stands for the host's namespace
    else:
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
    return made[0]


async def dial(client: Client, sandbox: str, port: int, seconds: float = 20, **fields: object) -> None:
    request = DialRequest(session=new_session(), connection=7, sandbox_id=SandboxId(sandbox), port=port, **fields)  # type: ignore[arg-type]
    await client.service.dial(request, FakeCall(seconds))  # type: ignore[arg-type]


def said(server: socket.socket, connection: socket.socket) -> bytes:
    """What the server hears of the connection."""
    with closing(server.accept()[0]) as peer:
        connection.sendall(b"hello")
        return peer.recv(64)


@pytest.mark.parametrize(("family", "address"), [V4, V6], ids=["IPv4", "IPv6 where IPv4 refuses"])
async def test_a_connection_is_made_in_the_pod_and_handed_over(
    node: Node, client: Client, stream: Stream, pinned: SandboxId, family: int, address: str
) -> None:
    with listen(node.pin(pinned), family, address) as server:
        await dial(client, pinned, server.getsockname()[1])
        passed, connection = stream.got.get_nowait()
        with connection:
            assert (passed.connection, passed.roles) == (7, (Role.CONNECTION,))
            assert not connection.get_inheritable()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            connection.setblocking(True)
            assert said(server, connection) == b"hello"


async def test_a_pod_on_the_hosts_network_is_reached_on_the_hosts_loopback(
    client: Client, stream: Stream, sandbox: SandboxId
) -> None:
    with listen(None, *V4) as server:
        await dial(client, sandbox, server.getsockname()[1], host_network=True)
        _, connection = stream.got.get_nowait()
        with connection:
            connection.setblocking(True)
            assert said(server, connection) == b"hello"


async def test_a_port_that_nobody_listens_on_is_told_with_both_addresses(
    client: Client, stream: Stream, pinned: SandboxId
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await dial(client, pinned, 81)
    assert str(caught.value) == (
        f"failed to connect to localhost:81 inside pod {pinned[:13]}: dial tcp4 127.0.0.1:81: connect: connection "
        "refused; dial tcp6 [::1]:81: connect: connection refused"
    )


@pytest.mark.parametrize("port", [0, -1, 65536, 1 << 40])
async def test_a_number_that_is_no_port_is_refused(
    client: Client, stream: Stream, pinned: SandboxId, port: int
) -> None:
    with pytest.raises(InvalidInput, match=f"port {port} "):
        await dial(client, pinned, port)


async def test_a_pod_without_its_namespace_and_a_wrong_id_are_refused(
    client: Client, stream: Stream, sandbox: SandboxId
) -> None:
    with pytest.raises(NotFound, match=sandbox[:13]):
        await dial(client, sandbox, 80)
    with pytest.raises(InvalidInput):
        await dial(client, "../" + sandbox[3:], 80)


async def test_a_server_that_takes_nobody_costs_the_deadline(
    node: Node, client: Client, stream: Stream, pinned: SandboxId
) -> None:
    with listen(node.pin(pinned), *V4, backlog=0) as server:
        port = server.getsockname()[1]

        async def until_full() -> None:
            for _ in range(8):  # the backlog takes one or two
                await dial(client, pinned, port, seconds=0.5)

        with pytest.raises(DeadlineExceeded, match=f"127.0.0.1:{port}"):
            await until_full()
        while not stream.got.empty():
            stream.got.get_nowait()[1].close()


async def test_a_thousand_dials_leave_nothing(node: Node, client: Client, stream: Stream, pinned: SandboxId) -> None:
    stop = threading.Event()
    with listen(node.pin(pinned), *V4) as server:
        port = server.getsockname()[1]
        await dial(client, pinned, port)
        stream.got.get_nowait()[1].close()
        before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        server.settimeout(0.1)

        def accept() -> None:
            while not stop.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        accepting = threading.Thread(target=accept)
        accepting.start()

        async def once(number: int) -> None:
            kind = number % 4
            try:
                await dial(client, pinned, (port, port, 81, 0)[kind])
            except CrispError:
                assert kind > 1
            else:
                assert kind < 2

        try:
            for start in range(0, 1000, 50):
                await asyncio.gather(*(once(number) for number in range(start, start + 50)))
                while not stream.got.empty():
                    stream.got.get_nowait()[1].close()
        finally:
            stop.set()
            accepting.join()
    assert len(os.listdir("/proc/self/fd")) == before - 1, "but the server's"
    assert threading.active_count() <= threads


async def test_a_connection_that_the_stream_process_does_not_take_is_closed(
    node: Node, client: Client, stream: Stream, pinned: SandboxId
) -> None:
    with listen(node.pin(pinned), *V4) as server:
        stream.willing = False
        with pytest.raises(Unavailable):
            await dial(client, pinned, server.getsockname()[1])
        with closing(server.accept()[0]) as peer:
            assert peer.recv(1) == b""
        stream.receiver.close()
        with pytest.raises(Unavailable):
            await dial(client, pinned, server.getsockname()[1])
