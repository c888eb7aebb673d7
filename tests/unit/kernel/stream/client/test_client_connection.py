"""A client's connection: one buffer, holders of reading, a bound on what is unsent, and an end after the last word."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from kernel.stream.client.client_connection import PIECE, ClientConnection


class Notes:
    """A handler that notes what it is told."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.came = asyncio.Event()
        self.gone = asyncio.Event()
        self.free = asyncio.Event()

    def received(self, view: memoryview) -> None:
        self.got += view
        self.came.set()

    def writable(self) -> None:
        self.free.set()

    def lost(self) -> None:
        self.gone.set()


class Pair:
    """A connection, and the client's end of it."""

    def __init__(self) -> None:
        self.ours, self.client = socket.socketpair()
        for end in (self.ours, self.client):
            end.setblocking(False)
        self.notes = Notes()
        self.ended = asyncio.Event()
        self.connection = ClientConnection(
            memoryview(bytearray(PIECE)), lambda _: self.notes, lambda _: self.ended.set()
        )

    async def read(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.client, PIECE), 5)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: made.connection, made.ours)
    yield made
    made.connection.abort()
    made.client.close()
    await asyncio.wait_for(made.ended.wait(), 5)


async def test_bytes_both_ways(pair: Pair) -> None:
    pair.client.send(b"question")
    await asyncio.wait_for(pair.notes.came.wait(), 5)
    assert pair.notes.got == b"question"
    pair.connection.write(b"an", memoryview(b"swer"))
    assert await pair.read() == b"answer"


async def test_nothing_is_read_while_somebody_holds_it(pair: Pair) -> None:
    pair.connection.hold("a")
    pair.connection.hold("b")
    pair.client.send(b"x")
    pair.connection.release("a")
    for _ in range(5):
        await asyncio.sleep(0)
    assert pair.connection.held
    assert not pair.notes.came.is_set()
    pair.connection.release("b")
    await asyncio.wait_for(pair.notes.came.wait(), 5)


async def test_a_client_that_does_not_read_is_seen_and_answers_do_not_gather(pair: Pair) -> None:
    written = 0
    while not pair.connection.held:
        pair.connection.write(bytes(1 << 16))
        written += 1 << 16
        assert written < 4 << 20, "reading goes on"
    assert pair.connection.congested
    got = 0
    while got < written:
        got += len(await pair.read())
    await asyncio.wait_for(pair.notes.free.wait(), 5)
    assert not pair.connection.held
    assert not pair.connection.congested


async def test_the_last_word_is_delivered(pair: Pair) -> None:
    pair.connection.write(bytes(1 << 20))
    pair.connection.close()
    pair.client.send(b"never read")
    got = 0
    while piece := await pair.read():
        got += len(piece)
    assert got == 1 << 20
    pair.client.close()
    await asyncio.wait_for(pair.ended.wait(), 5)
    assert not pair.notes.gone.is_set()
    assert not pair.notes.got


async def test_a_client_that_goes_is_told_of(pair: Pair) -> None:
    pair.client.close()
    await asyncio.wait_for(pair.notes.gone.wait(), 5)
