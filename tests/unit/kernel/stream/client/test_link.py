"""A client's connection: one buffer, holders of reading, a bound on what is unsent, and an end after the last word."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from kernel.stream.client.link import PIECE, Link


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
    """A link, and the client's end of it."""

    def __init__(self) -> None:
        self.ours, self.client = socket.socketpair()
        for end in (self.ours, self.client):
            end.setblocking(False)
        self.notes = Notes()
        self.ended = asyncio.Event()
        self.link = Link(memoryview(bytearray(PIECE)), lambda _: self.notes, lambda _: self.ended.set())

    async def read(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.client, PIECE), 5)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: made.link, made.ours)
    yield made
    made.link.abort()
    made.client.close()
    await asyncio.wait_for(made.ended.wait(), 5)


async def test_bytes_both_ways(pair: Pair) -> None:
    pair.client.send(b"question")
    await asyncio.wait_for(pair.notes.came.wait(), 5)
    assert pair.notes.got == b"question"
    pair.link.write(b"an", memoryview(b"swer"))
    assert await pair.read() == b"answer"


async def test_nothing_is_read_while_somebody_holds_it(pair: Pair) -> None:
    pair.link.hold("a")
    pair.link.hold("b")
    pair.client.send(b"x")
    pair.link.release("a")
    for _ in range(5):
        await asyncio.sleep(0)
    assert pair.link.held
    assert not pair.notes.came.is_set()
    pair.link.release("b")
    await asyncio.wait_for(pair.notes.came.wait(), 5)


async def test_a_client_that_does_not_read_is_seen_and_answers_do_not_gather(pair: Pair) -> None:
    written = 0
    while not pair.link.held:
        pair.link.write(bytes(1 << 16))
        written += 1 << 16
        assert written < 4 << 20, "reading goes on"
    assert pair.link.congested
    got = 0
    while got < written:
        got += len(await pair.read())
    await asyncio.wait_for(pair.notes.free.wait(), 5)
    assert not pair.link.held
    assert not pair.link.congested


async def test_the_last_word_is_delivered(pair: Pair) -> None:
    pair.link.write(bytes(1 << 20))
    pair.link.close()
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
