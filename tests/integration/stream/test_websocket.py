"""What WebSocket clients do wrong ends their own connection, by the code that the protocol has for it; and SPDY inside
of WebSocket messages."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time

import pytest

from kernel.contracts.stream import Dial, Ended, Kind, Role
from kernel.stream.client.upgrade import TUNNEL
from kernel.stream.wires import spdy
from kernel.stream.wires.websocket import MOST_MESSAGE
from tests.harness.streams import answer, ask, connect

HEADERS = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True, rsv: int = 0) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    flag = 0x80 if mask else 0
    if size < 126:
        head += bytes([flag | size])
    elif size < 1 << 16:
        head += bytes([flag | 126]) + struct.pack(">H", size)
    else:
        head += bytes([flag | 127]) + struct.pack(">Q", size)
    return head + (bytes(4) if mask else b"") + payload


def talk(url: str, data: bytes, *, protocol: str = "v4.channel.k8s.io") -> tuple[int, bytes]:
    """Send after the handshake; the close code (0 where none came), and all that came."""
    with connect(url) as end:
        end.sendall(ask(url, *HEADERS, f"Sec-WebSocket-Protocol: {protocol}", method="GET"))
        status, _, got = answer(end)
        assert status == 101
        try:
            end.sendall(data)
            while piece := end.recv(65536):
                got += piece
        except ConnectionError:
            pass
    at = got.rfind(b"\x88")
    return (struct.unpack(">H", got[at + 2 : at + 4])[0] if at >= 0 else 0), got


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(2, b"\0unmasked", mask=False), 1002),
        (frame(2, b"\0compressed", rsv=0x40), 1002),
        (frame(2, b"\0reserved", rsv=0x10), 1002),
        (frame(9, b"", fin=False), 1002),
        (frame(9, bytes(126)), 1002),
        (frame(3, b"reserved"), 1002),
        (frame(0, b"nothing to continue"), 1002),
        (frame(2, b"\0", fin=False) + frame(2, b"\0"), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(2, bytes(MOST_MESSAGE + 1))[:20], 1009),
        (bytes([0x82, 0xFF]) + b"\xff" * 12, 1009),
        (bytes([0x82, 0xFF]) + b"\x7f" + b"\xff" * 7 + bytes(4), 1009),
        ((frame(2, bytes(MOST_MESSAGE // 2), fin=False) + frame(0, bytes(MOST_MESSAGE // 2 + 1), fin=False)), 1009),
        (frame(9, b"x") * 300, 1008),
    ],
    ids=["unmasked", "compressed", "reserved bit", "fragmented ping", "long ping", "unknown", "continuation", "nested",
         "bad close", "oversize", "negative", "exabytes", "oversize in pieces", "ping flood"],
)  # fmt: skip
async def test_wrong_frames(stream, data: bytes, code: int) -> None:
    found, _ = await asyncio.to_thread(talk, await stream.url(stdin=True), data)
    assert found == code
    await stream.heard(Ended)


async def test_pings_are_answered_and_a_close_is(stream) -> None:
    data = frame(9, b"are you there") + frame(8, struct.pack(">H", 1000))
    code, got = await asyncio.to_thread(talk, await stream.url(stdin=True), data)
    assert code == 1000
    assert b"\x8a\x0dare you there" in got


@pytest.mark.parametrize(
    "headers",
    [HEADERS[:3], (*HEADERS[:2], "Sec-WebSocket-Version: 8", HEADERS[3]), (*HEADERS[:3], "Sec-WebSocket-Key: short")],
    ids=["no key", "old version", "bad key"],
)
async def test_wrong_handshakes(stream, headers: tuple[str, ...]) -> None:
    url = await stream.url()

    def client() -> int:
        with connect(url) as end:
            end.sendall(ask(url, *headers, "Sec-WebSocket-Protocol: v4.channel.k8s.io", method="GET"))
            return answer(end)[0]

    assert await asyncio.to_thread(client) == 400
    assert not stream.service._sessions


class Tunnel:
    """A client that speaks SPDY inside of a WebSocket."""

    def __init__(self, url: str) -> None:
        self.socket = connect(url)
        self.socket.sendall(ask(url, *HEADERS, f"Sec-WebSocket-Protocol: {TUNNEL}", method="GET"))
        status, head, self.rest = answer(self.socket)
        assert status == 101
        assert TUNNEL.encode() in head
        self.spdy = spdy.Connection(server=False)
        self.received: dict[int, bytes] = {}

    def send(self, data: bytes) -> None:
        """SPDY's bytes, cut anywhere."""
        half = len(data) // 2
        self.socket.sendall(frame(2, data[:half], fin=False) + frame(0, data[half:]))

    def until(self, stream: int, text: bytes) -> None:
        while text not in self.received.get(stream, b""):
            self._read()

    def _read(self) -> None:
        while len(self.rest) < 2 or len(self.rest) < self._size():
            piece = self.socket.recv(65536)
            assert piece
            self.rest += piece
        size = self._size()
        payload, self.rest = self.rest[size - self._payload : size], self.rest[size:]
        for event in self.spdy.receive(memoryview(payload), time.monotonic()):
            if isinstance(event, spdy.Data):
                self.received[event.stream] = self.received.get(event.stream, b"") + bytes(event.data)

    def _size(self) -> int:
        """Of the frame that is next, as far as its head is there."""
        short = self.rest[1] & 0x7F
        if short < 126:
            self._payload, head = short, 2
        elif len(self.rest) < 10:
            return 10
        elif short == 126:
            self._payload, head = struct.unpack(">H", self.rest[2:4])[0], 4
        else:
            self._payload, head = struct.unpack(">Q", self.rest[2:10])[0], 10
        return head + self._payload


async def test_spdy_inside(stream) -> None:
    tunnel = await asyncio.to_thread(Tunnel, await stream.url(Kind.PORT_FORWARD))
    with tunnel.socket:
        for number in range(2):  # one connection after the other
            given = {"port": "80", "requestid": str(number)}
            _, first = tunnel.spdy.open({"streamtype": "error", **given})
            data, second = tunnel.spdy.open({"streamtype": "data", **given})
            tunnel.send(first + second)
            dial = await stream.heard(Dial)
            ours, pod = socket.socketpair()
            await stream.give(dial.session, {Role.CONNECTION: ours.detach()}, dial.connection)
            with pod:
                sent = os.urandom(100_000)
                tunnel.send(tunnel.spdy.data(data, len(sent)) + sent)
                got = b""
                while len(got) < len(sent):
                    got += await asyncio.to_thread(pod.recv, 65536)
                assert got == sent
                pod.sendall(b"and back")
                await asyncio.to_thread(tunnel.until, data, b"and back")
                assert tunnel.received[data] == b"and back"
    await stream.heard(Ended)


async def test_a_broken_tunnel_ends(stream) -> None:
    code, _ = await asyncio.to_thread(talk, await stream.url(Kind.PORT_FORWARD), frame(2, b"\0" * 8), protocol=TUNNEL)
    assert code in (0, 1000)  # a data frame of stream 0
    await stream.heard(Ended)
