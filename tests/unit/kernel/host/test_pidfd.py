"""Processes watched and signalled through pidfds."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import msgspec

from kernel.host import pidfd


async def test_a_process_is_watched_to_its_end() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "100")
    identity = pidfd.identify(process.pid)
    assert identity is not None
    watched = pidfd.Watched.open(identity)
    assert watched is not None
    assert watched.alive
    heard: list[str] = []
    watched.on_end(lambda: heard.append("a"))
    watched.on_end(lambda: heard.append("b"))()
    watched.signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        await watched.ended.wait()
    assert heard == ["a"]
    await process.wait()
    if tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 15):
        assert await watched.exit_code(5) == 143
    watched.signal(signal.SIGTERM)
    watched.close()
    watched.close()
    assert pidfd.Watched.open(identity) is None
    assert pidfd.identify(process.pid) is None


async def test_a_stranger_with_the_same_pid_is_not_taken_for_it() -> None:
    mine = pidfd.identify(os.getpid())
    assert mine is not None
    assert pidfd.Watched.open(replace(mine, start=mine.start + 1)) is None
    assert pidfd.Watched.open(replace(mine, boot="another")) is None
    assert pidfd.Watched.open(None) is None


async def test_kill_waits_for_the_ends() -> None:
    processes = [await asyncio.create_subprocess_exec("sleep", "100") for _ in range(3)]
    assert await pidfd.kill([process.pid for process in processes], 5)
    assert [await process.wait() for process in processes] == [-9, -9, -9]
    assert await pidfd.kill([process.pid for process in processes], 5)


async def test_only_the_same_process_is_opened() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "100")
    identity = pidfd.identify(process.pid)
    assert identity is not None
    fd = pidfd.open_same(identity.pid, identity.start)
    assert fd is not None
    os.close(fd)
    assert pidfd.open_same(identity.pid, identity.start + 1) is None
    assert pidfd.open_same(0, 0) is None
    process.kill()
    await process.wait()
    assert pidfd.open_same(identity.pid, identity.start) is None


async def test_one_that_has_ended_calls_back_at_once() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "100")
    watched = pidfd.Watched(process.pid, os.pidfd_open(process.pid))
    process.kill()
    await watched.ended.wait()
    called = asyncio.Event()
    watched.on_end(called.set)
    async with asyncio.timeout(5):
        await called.wait()
    watched.close()
    await process.wait()


def test_an_identity_is_kept_in_a_record() -> None:
    identity = pidfd.Identity(pid=1, start=2, boot="b")
    encoded = msgspec.json.encode(identity)
    assert encoded == b'{"pid":1,"start":2,"boot":"b"}'
    assert msgspec.json.decode(encoded, type=pidfd.Identity) == identity
