"""A SPDY connection under pressure: what is kept of it is bounded, whatever the client does."""

from __future__ import annotations

import asyncio
import os
import struct
from contextlib import suppress

import pytest

from kernel.contracts.stream import Ended, Opened
from kernel.stream.wires import spdy
from kernel.stream.wires.channel import MOST_BACKLOG
from kernel.stream.wires.spdy.frames import Kind
from tests.harness.streams import Command


async def test_input_that_nobody_reads_is_bounded(stream) -> None:
    command = await asyncio.to_thread(Command, await stream.url(stdin=True), stdin=True)
    await stream.heard(Opened)
    command.socket.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            command.socket.send(command.spdy.data(command.streams["stdin"], 1 << 16) + bytes(1 << 16))
    session = next(iter(stream.service._sessions.values()))
    async with asyncio.timeout(20):
        while not session.wire.client.held:
            await asyncio.sleep(0.01)
    assert len(session._stdin._kept) <= MOST_BACKLOG + (256 << 10)
    command.close()
    session.close()


async def test_a_client_whose_windows_stay_shut_gets_nothing_and_costs_nothing(stream) -> None:
    command = await asyncio.to_thread(Command, await stream.url(), strict=True)
    command.socket.sendall(command.spdy.settings(0))
    started = await stream.run("cat", "/dev/zero", stdin=False)
    command.socket.sendall(command.spdy.ping(1))
    session = next(iter(stream.service._sessions.values()))
    async with asyncio.timeout(20):
        while session.wire.spdy._streams._initial_window:
            await asyncio.sleep(0.01)
    before = len(command.output())
    command.socket.sendall(command.spdy.ping(3))
    while not await asyncio.to_thread(command.pump):
        pass
    assert len(command.output()) - before <= spdy.WINDOW
    assert not any(channel.unsent for channel in session.wire._channels.values())
    command.close()
    await stream.heard(Ended)
    started.kill()
    started.wait()


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">HHI", 0x8003, Kind.SYN_STREAM, 0xFFFFFF),
        struct.pack(">HHI", 0x8003, Kind.SETTINGS, 8) + struct.pack(">II", 0xFFFFFFFF, 0),
        struct.pack(">HHI", 0x8003, Kind.SYN_STREAM, 20) + struct.pack(">IIH", 99, 0, 0) + os.urandom(10),
        struct.pack(">HHI", 0x8003, Kind.WINDOW_UPDATE, 8) + bytes(8),
        (struct.pack(">HHI", 0x8003, Kind.PING, 4) + struct.pack(">I", 1)) * 1000,
        struct.pack(">HHI", 0x8002, Kind.PING, 4) + bytes(4),
    ],
    ids=["length", "settings", "headers", "window", "pings", "version"],
)
async def test_a_frame_that_breaks_the_protocol_ends_the_session(stream, frame: bytes) -> None:
    command = await asyncio.to_thread(Command, await stream.url())
    await stream.heard(Opened)

    def client() -> None:
        with command:
            command.socket.sendall(frame)
            command.drain()
            assert command.gone

    await asyncio.to_thread(client)
    await stream.heard(Ended)
    assert not stream.service._sessions
