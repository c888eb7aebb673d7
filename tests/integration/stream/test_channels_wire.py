"""Commands and port-forward over WebSockets, by a client of the library's own: every subprotocol."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect

from kernel.contracts.stream import Dial, Ended, Kind, Opened, RefuseRequest, Role

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


@asynccontextmanager
async def client(url: str, *subprotocols: str) -> AsyncIterator[ClientConnection]:
    async with connect(
        url.replace("http", "ws", 1), subprotocols=list(subprotocols) or None, compression=None, max_size=None,
        proxy=None,
    ) as made:  # fmt: skip
        yield made


async def everything(connection: ClientConnection, *, text: bool = False) -> dict[int, bytes]:
    """All that comes on each channel, to the end."""
    found: dict[int, bytes] = {}
    async with asyncio.timeout(30):
        async for message in connection:
            if text:
                assert isinstance(message, str)
                number, data = int(message[0]), base64.b64decode(message[1:])
            else:
                assert isinstance(message, bytes)
                number, data = message[0], message[1:]
            found[number] = found.get(number, b"") + data
    assert connection.close_code == 1000
    return found


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v5.channel.k8s.io"])
async def test_output_and_exit_code(stream, protocol: str) -> None:
    async with client(await stream.url(), protocol) as connection:
        assert connection.subprotocol == protocol
        assert await connection.recv() == b"\1"  # it stands
        started = await stream.run("sh", "-c", "echo out; echo err >&2; exit 7", stdin=False)
        found = await everything(connection)
    assert (found[STDOUT], found[STDERR]) == (b"out\n", b"err\n")
    assert json.loads(found[ERROR])["details"]["causes"][0]["message"] == "7"
    started.wait()
    await stream.heard(Ended)


async def test_the_end_of_the_input(stream) -> None:
    async with client(await stream.url(stdin=True), "v5.channel.k8s.io") as connection:
        started = await stream.run("sha256sum")
        data = os.urandom(1 << 20)
        for at in range(0, len(data), 100_000):
            await connection.send(b"\0" + data[at : at + 100_000])
        await connection.send([b"", b"\0", b"in pieces", b" of a message"])
        await connection.send(b"\7nobody there")
        await connection.send(b"")
        await connection.send(bytes([255, STDIN]))
        await connection.send(bytes([255, STDIN]))
        found = await everything(connection)
    assert found[STDOUT].split()[0].decode() == hashlib.sha256(data + b"in pieces of a message").hexdigest()
    assert json.loads(found[ERROR])["status"] == "Success"
    started.wait()


async def test_before_version_five_255_is_a_channel_that_is_not_there(stream) -> None:
    async with client(await stream.url(stdin=True), "v4.channel.k8s.io") as connection:
        started = await stream.run("head", "-c", "2")
        await connection.send(bytes([255, STDIN]))
        await connection.send(b"\0hi")
        found = await everything(connection)
    assert found[STDOUT] == b"hi"
    started.wait()


@pytest.mark.parametrize("protocol", ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_base64(stream, protocol: str) -> None:
    async with client(await stream.url(stdin=True), protocol) as connection:
        started = await stream.run("head", "-c", "5")
        await connection.send("0" + base64.b64encode(b"\0\xff\1\2\3").decode())
        found = await everything(connection, text=True)
    assert found[STDOUT] == b"\0\xff\1\2\3"
    assert bool(found.get(ERROR)) == protocol.startswith("v4")
    started.wait()


@pytest.mark.parametrize("protocols", [(), ("channel.k8s.io",)], ids=["none", "the first"])
async def test_the_first_version_knows_words_alone(stream, protocols: tuple[str, ...]) -> None:
    async with client(await stream.url(), *protocols) as connection:
        started = await stream.run("sh", "-c", "exit 9", stdin=False)
        assert b"exit code: 9" in (await everything(connection))[ERROR]
    started.wait()


@pytest.mark.parametrize(
    ("protocol", "message", "code"),
    [
        ("v4.channel.k8s.io", "text", 1003),
        ("v4.base64.channel.k8s.io", b"bytes", 1003),
        ("v4.base64.channel.k8s.io", "0not base64!", 1007),
        ("v5.channel.k8s.io", b"\xff", 1007),
        ("v5.channel.k8s.io", b"\xff\0\0", 1007),
    ],
)
async def test_messages_of_the_wrong_form(stream, protocol: str, message: str | bytes, code: int) -> None:
    async with client(await stream.url(stdin=True), protocol) as connection:
        await connection.send(message)
        async with asyncio.timeout(20):
            await connection.wait_closed()
        assert connection.close_code == code
    await stream.heard(Ended)


async def test_a_reader_that_does_not_read_stops_the_command(stream) -> None:
    async with client(await stream.url(), "v4.channel.k8s.io") as connection:
        started = await stream.run("cat", "/dev/zero", stdin=False)
        session = next(iter(stream.service._sessions.values()))
        async with asyncio.timeout(20):
            while not session.wire.client.congested:
                await asyncio.sleep(0.01)
        assert session.wire.client._transport.get_write_buffer_size() <= 1 << 20
        connection.transport.abort()
    await stream.heard(Ended)
    await asyncio.to_thread(started.wait, 20)  # its output was closed


@pytest.mark.parametrize("asked", ["by the request", "by the URL"])
async def test_ports(stream, asked: str) -> None:
    ports = (8080, 81)
    url = await stream.url(Kind.PORT_FORWARD, ports=ports if asked == "by the request" else ())
    if asked == "by the URL":
        url += "?port=8080&port=81"
    async with client(url, "v4.channel.k8s.io") as connection:
        assert [await connection.recv() for _ in range(4)] == [
            b"\0" + (8080).to_bytes(2, "little"), b"\1" + (8080).to_bytes(2, "little"),
            b"\2" + (81).to_bytes(2, "little"), b"\3" + (81).to_bytes(2, "little"),
        ]  # fmt: skip
        first, second = [await stream.heard(Dial) for _ in range(2)]
        assert (first.port, second.port) == ports
        ours, pod = socket.socketpair()
        await stream.give(first.session, {Role.CONNECTION: ours.detach()}, first.connection)
        await connection.send(b"\0ping")
        assert await asyncio.to_thread(pod.recv, 10) == b"ping"
        pod.sendall(b"pong")
        assert await connection.recv() == b"\0pong"
        refused = RefuseRequest(session=second.session, connection=second.connection, message="connection refused")
        await stream.service.refuse(refused, None)
        assert b"connection refused" in await connection.recv()
        pod.close()
        assert await everything(connection) == {}


async def test_a_terminals_size(stream) -> None:
    async with client(await stream.url(tty=True, stdin=True, stderr=False), "v5.channel.k8s.io") as connection:
        await stream.heard(Opened)
        await connection.send(bytes([RESIZE]) + b'{"Width":120,"Height":40}')
        session = next(iter(stream.service._sessions.values()))
        async with asyncio.timeout(20):
            while session.pending()[0].height != 40:
                await asyncio.sleep(0.01)
