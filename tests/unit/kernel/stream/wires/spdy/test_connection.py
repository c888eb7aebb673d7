"""SPDY framing, both sides against each other and against anything at all."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.stream.client.rate import PINGS, Rate
from kernel.stream.wires import spdy
from kernel.stream.wires.spdy import (
    Connection,
    Data,
    GoneAway,
    Opened,
    ProtocolError,
    Replied,
    Reset,
    Status,
    Window,
)
from kernel.stream.wires.spdy.frames import FIN, Kind


def events(connection: Connection, data: bytes, now: float = 1000.0) -> list[spdy.Event]:
    """All events, with payloads as bytes."""
    found: list[spdy.Event] = []
    for event in connection.receive(memoryview(data), now):
        found.append(Data(event.stream, bytes(event.data), event.fin) if isinstance(event, Data) else event)  # type: ignore[arg-type]
    return found


def control(kind: int, body: bytes, flags: int = 0, version: int = 3) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | len(body)) + body


def data_frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">II", stream, len(data)) + data


@pytest.fixture
def client() -> Connection:
    return Connection(server=False)


@pytest.fixture
def server() -> Connection:
    return Connection(server=True, allow_ping=Rate(*PINGS).take)


def opened(client: Connection, server: Connection) -> int:
    stream, frame = client.open({"streamtype": "data"})
    assert events(server, frame) == [Opened(stream, {"streamtype": "data"}, fin=False)]
    assert events(client, server.reply(stream)) == [Replied(stream, {}, fin=False)]
    return stream


def test_a_stream_from_beginning_to_end(client: Connection, server: Connection) -> None:
    stream = opened(client, server)
    assert events(server, client.data(stream, 5) + b"hello") == [Data(stream, b"hello", fin=False)]  # type: ignore[arg-type]
    assert events(server, client.data(stream, 0, fin=True)) == [Data(stream, b"", fin=True)]  # type: ignore[arg-type]
    assert server.knows(stream)
    assert events(client, server.data(stream, 2, fin=True) + b"yo") == [Data(stream, b"yo", fin=True)]  # type: ignore[arg-type]
    assert not server.knows(stream)
    assert not client.knows(stream)
    assert events(client, server.go_away()) == [GoneAway()]


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 64), min_size=1, max_size=50))
def test_pieces_of_any_size_make_the_same(payloads: list[bytes], cuts: list[int]) -> None:
    client, server = Connection(server=False), Connection(server=True)
    stream, data = client.open({"streamtype": "data", "port": "80"})
    for payload in payloads:
        data += client.data(stream, len(payload)) + payload + client.ping(1)
    data += client.data(stream, 0, fin=True)
    found: list[spdy.Event] = []
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        found += events(server, data[at : at + size])
        at, turn = at + size, turn + 1
    assert found[0] == Opened(stream, {"streamtype": "data", "port": "80"}, fin=False)
    pieces = [event for event in found[1:] if isinstance(event, Data)]
    assert b"".join(piece.data for piece in pieces) == b"".join(payloads)
    assert [piece.fin for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert server.replies().count(client.ping(1)) == len(payloads)


@settings(max_examples=300)
@given(st.lists(st.one_of(
    st.binary(max_size=64),
    st.builds(control, st.integers(0, 12), st.binary(max_size=64), st.integers(0, 255)),
    st.builds(data_frame, st.integers(0, 9), st.binary(max_size=64)),
), max_size=20))  # fmt: skip
def test_anything_is_events_or_refused(frames: list[bytes]) -> None:
    server = Connection(server=True)
    opened(Connection(server=False), server)
    try:
        for frame in frames:
            events(server, frame)
    except ProtocolError:
        pass
    assert len(server.replies()) < 4096


def test_a_large_frame_is_not_gathered(client: Connection, server: Connection) -> None:
    stream = opened(client, server)
    piece = memoryview(bytes(1 << 16))
    list(server.receive(memoryview(client.data(stream, spdy.MOST_DATA)), 0))
    tracemalloc.start()
    for _ in range(spdy.MOST_DATA >> 16):
        assert [len(event.data) for event in server.receive(piece, 0) if isinstance(event, Data)] == [1 << 16]
    assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (struct.pack(">II", 0, 4) + b"xxxx", "stream 0"),
        (control(Kind.PING, b"xxxx", version=2), "version 2"),
        (struct.pack(">HHI", 0x8003, Kind.SYN_STREAM, 1 << 20), "1048576 bytes, more than"),
        (control(Kind.SETTINGS, struct.pack(">I", 0xFFFFFFFF)), "4294967295 entries"),
        (control(Kind.SETTINGS, struct.pack(">I", 0x20000000) + bytes(8)), "entries"),
        (control(Kind.SETTINGS, b""), "entries"),
        (control(Kind.SETTINGS, struct.pack(">III", 1, 7, 1 << 31)), "initial window"),
        (control(Kind.PING, b""), "PING has 0 bytes"),
        (control(Kind.RST_STREAM, b"123"), "RST_STREAM has 3"),
        (control(Kind.WINDOW_UPDATE, b""), "WINDOW_UPDATE has 0"),
        (control(Kind.WINDOW_UPDATE, struct.pack(">II", 0, 0)), "cannot grow by 0"),
        (control(Kind.WINDOW_UPDATE, struct.pack(">II", 0, 0x7FFFFFFF)), "cannot grow by 2147483647"),
        (control(Kind.SYN_STREAM, b"123"), "too short"),
        (control(Kind.SYN_REPLY, b"1"), "too short"),
    ],
)
def test_a_hostile_frame_ends_the_connection(server: Connection, frame: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        events(server, frame)


@pytest.mark.parametrize("wrong", [0, 2])
def test_a_stream_id_is_one_of_the_peers(client: Connection, server: Connection, wrong: int) -> None:
    client._next = wrong
    with pytest.raises(ProtocolError, match=f"stream {wrong} is not a new one"):
        events(server, client.open({})[1])


def test_an_id_is_not_used_again_after_its_end(client: Connection, server: Connection) -> None:
    stream, frame = client.open({})
    events(server, frame)
    server.reset(stream, Status.CANCEL)
    client._next = stream
    with pytest.raises(ProtocolError, match="not a new one"):
        events(server, client.open({})[1])


def test_a_flood_of_pings_ends_the_connection(client: Connection, server: Connection) -> None:
    for number in range(200):
        events(server, client.ping(2 * number + 1))
    assert len(server.replies()) == 200 * 12
    with pytest.raises(ProtocolError, match="pings"):
        events(server, client.ping(1))
    other = Connection(server=True, allow_ping=Rate(*PINGS).take)
    for number in range(1000):  # one every two seconds
        events(other, client.ping(1), now=1000.0 + 2 * number)
    unbounded = Connection(server=True)
    for _ in range(1000):
        events(unbounded, client.ping(1))


def test_an_answer_to_a_ping_is_not_answered(client: Connection, server: Connection) -> None:
    events(client, server.ping(2))
    assert client.replies() == server.ping(2)
    events(server, server.ping(2))
    assert server.replies() == b""


def test_more_streams_than_anybody_needs_are_refused(server: Connection) -> None:
    client = Connection(server=False)
    for _ in range(spdy.MOST_STREAMS):
        events(server, client.open({})[1])
    stream, frame = client.open({})
    assert events(server, frame) == []
    assert events(client, server.replies()) == [Reset(stream, Status.REFUSED_STREAM)]


def test_a_peer_that_shows_no_windows_has_none(client: Connection, server: Connection) -> None:
    stream = opened(client, server)
    server.data(stream, 10 << 20)
    assert server.room(stream) == spdy.MOST_DATA


def test_a_peers_windows_are_kept_to(client: Connection, server: Connection) -> None:
    assert events(server, client.settings(1000)) == [Window(0)]
    stream = opened(client, server)
    assert server.room(stream) == 1000
    server.data(stream, 1000)
    assert server.room(stream) == 0
    events(server, control(Kind.WINDOW_UPDATE, struct.pack(">II", stream, 70000)))
    assert server.room(stream) == spdy.WINDOW - 1000  # the connection's own
    events(server, client.settings(500))
    assert server.room(stream) == spdy.WINDOW - 1000
    assert events(server, control(Kind.WINDOW_UPDATE, struct.pack(">II", 0, 70000))) == [Window(0)]
    assert server.room(stream) == 69500


@pytest.mark.parametrize("delta", [0, 0x7FFFFFFF])
def test_a_wrong_update_ends_its_stream(client: Connection, server: Connection, delta: int) -> None:
    stream = opened(client, server)
    found = events(server, control(Kind.WINDOW_UPDATE, struct.pack(">II", stream, delta)))
    assert [type(event) for event in found] == [Reset]
    assert not server.knows(stream)
    assert [type(event) for event in events(client, server.replies())] == [Reset]


def test_what_is_read_is_acknowledged(client: Connection, server: Connection) -> None:
    stream = opened(client, server)
    events(client, server.settings(spdy.WINDOW))
    half = spdy.WINDOW // 2
    events(server, client.data(stream, half) + bytes(half))
    assert client.room(stream) == half
    server.consumed(stream, half)
    events(client, server.replies())
    assert client.room(stream) == spdy.WINDOW


def test_what_comes_for_a_stream_that_was_given_up_is_thrown_away(client: Connection, server: Connection) -> None:
    stream = opened(client, server)
    server.reset(stream, Status.CANCEL)
    assert server.reset(stream, Status.CANCEL) == b""
    assert events(server, client.data(stream, spdy.WINDOW) + bytes(spdy.WINDOW)) == []
    assert server.replies() != b""  # the connection's window is free again


def test_unknown_control_frames_are_passed_over(server: Connection) -> None:
    assert events(server, control(77, b"whatever")) == []


def test_headers_may_end_a_stream(client: Connection, server: Connection) -> None:
    stream = opened(client, server)
    body = struct.pack(">I", stream) + client._block({"a": "b"})
    assert events(server, control(Kind.HEADERS, body)) == []
    body = struct.pack(">I", stream) + client._block({})
    assert events(server, control(Kind.HEADERS, body, FIN)) == [Data(stream, b"", fin=True)]  # type: ignore[arg-type]
