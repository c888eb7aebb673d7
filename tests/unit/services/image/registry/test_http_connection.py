"""Exchanges over a connection: bodies of every framing, and connections that can be used again or not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import nullcontext

import h11
import pytest

from services.image.registry.http_connection import BrokenOff, Disconnected, Exchange, HttpConnection, TunnelRefused

HEAD = b"HTTP/1.1 200 OK\r\n"


class Server:
    """The other end of a connection, which sends what it was given."""

    def __init__(self) -> None:
        ours, self.end = socket.socketpair()
        ours.settimeout(5)
        self.end.settimeout(5)
        self.connection = HttpConnection(ours)

    def get(self, answer: bytes, *, close: bool = False) -> Exchange:
        self.end.sendall(answer)
        if close:
            self.end.shutdown(socket.SHUT_WR)
        return Exchange(self.connection, "GET", "/x", {"Host": "a.example"}, None)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.connection.close()
    made.end.close()


def body(exchange: Exchange, size: int = 3) -> bytes:
    found, buffer = b"", memoryview(bytearray(size))
    while count := exchange.readinto(buffer):
        found += buffer[:count]
    return found


@pytest.mark.parametrize(
    ("answer", "length", "kept"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello", 5, True),
        (HEAD + b"Content-Length: 0\r\n\r\n", 0, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0, True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", None, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello", 5, True),
        (HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", 5, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 5, False),
        (HEAD + b"Content-Length: 5\r\n\r\nhello and more", 5, False),
    ],
)
def test_a_body_ends_where_its_framing_says(server: Server, answer: bytes, length: int | None, kept: bool) -> None:
    exchange = server.get(answer)
    assert exchange.length == length
    assert body(exchange) == (b"" if length == 0 else b"hello")
    assert (exchange.is_finished, server.connection.is_usable) == (True, kept)
    if kept:
        assert body(server.get(HEAD + b"Content-Length: 2\r\n\r\nok")) == b"ok"


def test_a_body_without_framing_ends_with_the_connection(server: Server) -> None:
    assert body(server.get(HEAD + b"\r\nhello", close=True)) == b"hello"
    assert not server.connection.is_open


def test_a_body_that_breaks_off(server: Server) -> None:
    exchange = server.get(HEAD + b"Content-Length: 5\r\n\r\nhel", close=True)
    assert body(exchange) == b"hel"
    assert not server.connection.is_open


def test_chunks_that_break_off(server: Server) -> None:
    exchange = server.get(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", close=True)
    with pytest.raises(BrokenOff):
        body(exchange)


def test_a_connection_whose_answer_was_not_read_is_not_used_again(server: Server) -> None:
    exchange = server.get(HEAD + b"Content-Length: 5\r\n\r\nhel")
    assert exchange.readinto(memoryview(bytearray(3))) == 3
    assert (server.connection.is_open, server.connection.is_usable) == (True, False)
    server.end.sendall(b"lo")
    assert body(exchange) == b"lo"
    assert server.connection.is_usable


def test_no_answer_at_all(server: Server) -> None:
    with pytest.raises(Disconnected):
        server.get(b"", close=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200",
        HEAD + b"X: y\r\n" * 101 + b"\r\n",
        HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20,
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)
def test_an_answer_that_is_malformed(server: Server, answer: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        server.get(answer, close=True)


def test_a_request_is_sent_as_it_is_given(server: Server) -> None:
    server.end.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
    Exchange(server.connection, "POST", "/t?q=1", {"Host": "a.example", "User-Agent": "crisp"}, b"x=y")
    sent = server.end.recv(1000)
    assert sent == b"POST /t?q=1 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: crisp\r\nContent-Length: 3\r\n\r\nx=y"


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X\r\nY": "b"}])
def test_no_header_becomes_two(server: Server, headers: dict[str, str]) -> None:
    with pytest.raises(h11.LocalProtocolError):
        Exchange(server.connection, "GET", "/", {"Host": "a.example", **headers}, None)


@pytest.mark.parametrize(("status", "leads"), [(b"200 Connection established", True), (b"407 No", False)])
def test_a_tunnel_through_a_proxy(server: Server, status: bytes, leads: bool) -> None:
    server.end.sendall(b"HTTP/1.0 " + status + b"\r\n\r\n")
    with nullcontext() if leads else pytest.raises(TunnelRefused):
        server.connection.tunnel("[2001:db8::1]:443", {"Proxy-Authorization": "Basic x"})
    assert server.end.recv(1000).startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nProxy-")
    assert server.connection.is_usable == leads
