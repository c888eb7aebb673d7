"""Clients of the CRI socket that keep to no rule of HTTP/2: others are served meanwhile, and memory stays as it is."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from tests.harness.cri import Cri
from tests.harness.daemon import Daemon

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
CANCEL = struct.pack(">I", 8)
MOST_GROWTH = 48 << 20


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """A header for HPACK's dynamic table, or not; values of more than 126 bytes take a length of more bytes."""
    size, rest = len(value), b""
    if size >= 127:
        rest, left = b"", size - 127
        while left >= 128:
            rest, left = rest + bytes([left % 128 | 128]), left // 128
        rest, size = rest + bytes([left]), 127
    return bytes([0x40 if indexed else 0, len(name)]) + name + bytes([size]) + rest + value


REQUEST = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/runtime.v1.RuntimeService/Version"),
        (b":authority", b"localhost"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    )
)  # fmt: skip


def rapid_resets(count: int = 20_000) -> Iterator[bytes]:
    for number in range(0, count, 500):
        yield b"".join(
            frame(HEADERS, 2 * one + 1, REQUEST, END_HEADERS) + frame(RST_STREAM, 2 * one + 1, CANCEL)
            for one in range(number, number + 500)
        )


def growing_tables(count: int = 2000) -> Iterator[bytes]:
    for number in range(count):
        more = literal(b"x-%d" % number, b"v" * 4000, indexed=True)
        yield frame(HEADERS, 2 * number + 1, REQUEST + more, END_HEADERS | END_STREAM)


def headers_without_end(count: int = 4000) -> Iterator[bytes]:
    yield frame(HEADERS, 1, REQUEST)
    for number in range(count):
        yield frame(CONTINUATION, 1, literal(b"x-%d" % number, b"v" * 8000))


def pings(count: int = 400) -> Iterator[bytes]:
    for _ in range(count):
        yield frame(PING, 0, bytes(8)) * 500


def settings(count: int = 400) -> Iterator[bytes]:
    for _ in range(count):
        yield frame(SETTINGS, 0, struct.pack(">HI", 4, 65535)) * 500


def nonsense(count: int = 400) -> Iterator[bytes]:
    for number in range(count):
        yield frame(number % 256, number, bytes(number % 100) * 50)


def attack(path: str, pieces: Iterator[bytes], reading: bool) -> None:
    """Send as long as the server takes it; what it answers is read, or not."""
    with socket.socket(socket.AF_UNIX) as end, suppress(OSError):
        end.settimeout(2)
        end.connect(path)
        if reading:
            threading.Thread(target=swallow, args=(end.dup(),), daemon=True).start()
        end.sendall(PREFACE + frame(SETTINGS, 0))
        for piece in pieces:
            end.sendall(piece)


def swallow(end: socket.socket) -> None:
    with end, suppress(OSError):
        while end.recv(1 << 16):
            pass


@pytest.mark.parametrize("reading", [True, False], ids=["and read", "and do not read"])
@pytest.mark.parametrize(
    "pieces",
    [rapid_resets, growing_tables, headers_without_end, pings, settings, nonsense],
    ids=lambda one: one.__name__,
)
def test_others_are_served(daemon: Daemon, cri: Cri, pieces: Callable[[], Iterator[bytes]], reading: bool) -> None:
    front = psutil.Process(daemon.workers()["front"])
    before = front.memory_info().rss
    attacker = threading.Thread(target=attack, args=(str(daemon.socket), pieces(), reading))
    attacker.start()
    while attacker.is_alive():
        assert cri.call("Version", limit=10).runtime_name
        attacker.join(0.05)
    assert cri.call("Version", limit=10).runtime_name
    assert front.is_running()
    assert front.memory_info().rss - before < MOST_GROWTH


def test_many_connections(daemon: Daemon, cri: Cri) -> None:
    for _ in range(3000):
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(daemon.socket))
    idle = [socket.socket(socket.AF_UNIX) for _ in range(400)]
    try:
        for end in idle:
            end.connect(str(daemon.socket))
        assert cri.call("Version", limit=10).runtime_name
    finally:
        for end in idle:
            end.close()
    assert daemon.socket.resolve().stat().st_mode & 0o777 == 0o660
