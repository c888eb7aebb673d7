"""Sources and sinks on real pipes: bounded, without waiting, and closed at their end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from kernel.stream.sessions.descriptor_io import Sink, Source
from kernel.stream.wires.channel import Channel


class Paper(Channel):
    """A channel that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.size = 0
        self.taken = 0
        self.left = 1 << 30

    def room(self) -> int:
        return self.left

    def send(self, data: memoryview) -> None:
        self.sent += data

    def finish(self) -> None: ...

    def reset(self) -> None: ...

    def set_backlog(self, size: int) -> None:
        self.size = size

    def consumed(self, size: int) -> None:
        self.taken += size


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        with suppress(OSError):  # a test has closed it
            os.close(end)


async def turns(count: int = 5) -> None:
    """Let the loop look at its descriptors."""
    for _ in range(count):
        await asyncio.sleep(0)


def source(fd: int, channel: Paper, size: int = 1 << 16) -> tuple[Source, asyncio.Event]:
    ended = asyncio.Event()
    return Source(fd, memoryview(bytearray(size)), channel.room, channel.send, ended.set), ended


class TestSource:
    async def test_reads_to_the_end(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        _, ended = source(pipe[0], channel)
        os.write(pipe[1], b"hello")
        await turns()
        assert channel.sent == b"hello"
        os.close(pipe[1])
        await asyncio.wait_for(ended.wait(), 5)

    async def test_reads_no_more_than_there_is_room_for(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        channel.left = 3
        reading, ended = source(pipe[0], channel)
        os.write(pipe[1], b"hello")
        channel.left, _ = 0, await turns(1)
        await turns()
        assert channel.sent in (b"", b"hel")
        sent = len(channel.sent)
        channel.left = 100
        reading.resume()
        await turns()
        assert channel.sent == b"hello"
        assert sent <= 3
        reading.close()
        assert not ended.is_set()

    async def test_a_drained_one_does_not_wait_for_who_holds_the_other_end(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        reading, ended = source(pipe[0], channel, 4)
        os.write(pipe[1], b"the last words")
        reading.drain()
        await asyncio.wait_for(ended.wait(), 5)
        assert channel.sent == b"the last words"

    async def test_a_drained_one_without_room_goes_on_later(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        channel.left = 0
        reading, ended = source(pipe[0], channel)
        os.write(pipe[1], b"late")
        reading.drain()
        await turns()
        assert not ended.is_set()
        channel.left = 100
        reading.resume()
        await asyncio.wait_for(ended.wait(), 5)
        assert channel.sent == b"late"


class TestSink:
    async def test_writes_at_once_and_ends(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        sink = Sink(channel)
        sink.open(pipe[1])
        channel.on_data(memoryview(b"hello"))
        assert (os.read(pipe[0], 100), channel.taken, channel.size) == (b"hello", 5, 0)
        channel.on_end()
        assert os.read(pipe[0], 100) == b""

    async def test_keeps_what_comes_before_the_descriptor(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        sink = Sink(channel)
        for piece in (b"early ", b"bird"):
            channel.on_data(memoryview(piece))
        channel.on_end()
        assert (channel.size, channel.taken) == (10, 0)
        sink.open(pipe[1])
        assert os.read(pipe[0], 100) == b"early bird"
        assert os.read(pipe[0], 100) == b""
        assert (channel.size, channel.taken) == (0, 10)

    async def test_keeps_what_the_descriptor_does_not_take(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        sink = Sink(channel)
        sink.open(pipe[1])
        data = os.urandom(1 << 20)
        for at in range(0, len(data), 10000):
            channel.on_data(memoryview(data)[at : at + 10000])
        channel.on_end()
        assert channel.size + channel.taken == len(data)
        got = bytearray()
        while len(got) < len(data):
            await turns(2)
            got += os.read(pipe[0], 1 << 16)
        await turns(2)
        assert bytes(got) == data
        assert os.read(pipe[0], 1) == b""
        assert (channel.size, channel.taken) == (0, len(data))

    async def test_many_small_pieces_take_no_more_than_their_bytes(self) -> None:
        channel = Paper()
        sink = Sink(channel)
        for _ in range(50000):
            channel.on_data(memoryview(b"x"))
        assert sink._kept.__sizeof__() < 100_000
        sink.close()
        assert (channel.size, channel.taken) == (0, 50000)

    async def test_a_reader_that_has_gone_takes_all(self, pipe: tuple[int, int]) -> None:
        channel = Paper()
        sink = Sink(channel)
        sink.open(pipe[1])
        os.close(pipe[0])
        for _ in range(3):
            channel.on_data(memoryview(b"into nothing"))
        assert (channel.size, channel.taken) == (0, 36)
        sink.close()

    async def test_packets_are_bounded(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            channel = Paper()
            sink = Sink(channel, most=100)
            sink.open(ours.detach())
            channel.on_data(memoryview(bytes(250)))
            assert [len(theirs.recv(1000)) for _ in range(3)] == [100, 100, 50]
            sink.close()
