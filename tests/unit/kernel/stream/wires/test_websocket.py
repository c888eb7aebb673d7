"""WebSocket frames against anything at all, and channels in messages that come in any pieces."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from kernel.stream.wires.channel import Channel
from kernel.stream.wires.channels_wire import ChannelsWire
from kernel.stream.wires.websocket import MOST_MESSAGE, WebSocket

HEAD = (
    b"GET /exec/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Paper:
    """A connection of paper."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = False
        self.congested = False

    def write(self, *parts: bytes) -> None:
        for part in parts:
            self.sent += part

    def close(self) -> None:
        self.closed = True

    def hold(self, holder: object) -> None: ...

    def release(self, holder: object) -> None: ...


class Owner:
    """A session that notes what it is told."""

    wire: object = None

    def __init__(self) -> None:
        self.got: dict[str, bytearray] = {}
        self.ended: list[str] = []
        self.gone = False

    def opened(self, channel: Channel, headers: dict[str, str]) -> str:
        name = headers["streamtype"]
        self.got[name] = bytearray()
        channel.on_data = self.got[name].extend  # type: ignore[assignment]
        channel.on_end = lambda: self.ended.append(name)
        return ""

    def active(self) -> None: ...

    def lost(self) -> None:
        self.gone = True


def made(*, text: bool = False) -> tuple[Paper, Owner, WebSocket]:
    client, owner = Paper(), Owner()
    socket = WebSocket(client, HEAD, "v5.channel.k8s.io")  # type: ignore[arg-type]
    ChannelsWire(socket, owner, ({"streamtype": "stdin"}, {"streamtype": "stdout"}), text=text, closes=True)  # type: ignore[arg-type]
    assert client.sent.startswith(b"HTTP/1.1 101 ")
    client.sent.clear()
    return client, owner, socket


def frame(first: int, payload: bytes, mask: bytes = b"\1\2\3\4") -> bytes:
    size = len(payload)
    head = bytes([first, 0x80 | size]) if size < 126 else bytes([first, 0xFE]) + struct.pack(">H", size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@given(st.lists(st.binary(max_size=200), max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_pieces_of_any_size_make_the_same(payloads: list[bytes], cuts: list[int]) -> None:
    client, owner, socket = made()
    data = b""
    for payload in payloads:
        half = len(payload) // 2
        data += frame(0x02, b"\0" + payload[:half]) + frame(0x89, b"?") + frame(0x80, payload[half:])
    data += frame(0x82, b"\xff\0")
    at = turn = 0
    while at < len(data):
        socket.received(memoryview(data)[at : at + cuts[turn % len(cuts)]])
        at, turn = at + cuts[turn % len(cuts)], turn + 1
    assert bytes(owner.got["stdin"]) == b"".join(payloads)
    assert owner.ended == ["stdin"]
    assert client.sent.count(b"\x8a\x01?") == len(payloads)
    assert not owner.gone


@settings(max_examples=300)
@given(st.lists(st.one_of(
    st.binary(max_size=60),
    st.builds(frame, st.integers(0, 255), st.binary(max_size=140), st.binary(min_size=4, max_size=4)),
), max_size=12), st.booleans())  # fmt: skip
def test_anything_is_taken_or_ends_the_connection(pieces: list[bytes], text: bool) -> None:
    client, owner, socket = made(text=text)
    for piece in pieces:
        if client.closed:
            break
        socket.received(memoryview(piece))
    assert owner.gone == client.closed
    assert len(client.sent) < 20_000
    if client.closed:
        assert b"\x88" in client.sent


@given(st.binary(max_size=300))
def test_any_handshake_is_taken_or_refused(head: bytes) -> None:
    for one in (head, head + b"\r\n\r\n", HEAD[:-2] + head + b"\r\n\r\n"):
        with suppress(InvalidInput):
            WebSocket(Paper(), one, "")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [MOST_MESSAGE + 1, 1 << 40])
def test_a_message_that_is_too_large_is_refused_by_its_head(size: int) -> None:
    client, owner, socket = made()
    socket.received(memoryview(bytes([0x82, 0xFF]) + struct.pack(">Q", size) + bytes(4)))
    assert owner.gone
    assert struct.unpack(">H", client.sent[2:4])[0] == 1009
