"""The supervisor's side of the link, against a spawner that the test plays."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from kernel.errors import DeadlineExceeded, Internal
from kernel.host import process
from kernel.host.aio import Deadline, keep_trying
from kernel.supervisor.processes import spawner_link, spawning
from kernel.supervisor.processes.spawning import Spawning


class Started(NamedTuple):
    pid: int


class Played:
    """The other end, and what was heard from it."""

    def __init__(self) -> None:
        self.ours, theirs = spawner_link.pair()
        self.died: list[spawner_link.Died] = []
        self.stopped = asyncio.Event()
        self.spawning = Spawning(
            theirs, config_file=Path("/nonexistent"), source=Path("/nonexistent"), netns=-1, on_died=self.died.append,
            on_stop=self.stopped.set, on_hangup=lambda: None, on_replaced=lambda: None,
        )  # fmt: skip

    async def heard(self) -> spawner_link.ToSpawner | None:
        return await asyncio.to_thread(spawner_link.receive_from_supervisor, self.ours)


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    mine = Played()
    yield mine
    await mine.spawning.close(0)
    mine.ours.close()


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def started(end: socket.socket, name: str, pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    spawner_link.send(end, spawner_link.Started(name, pid), pidfd)
    os.close(pidfd)


async def test_a_process_is_forked_signalled_and_its_end_seen(played: Played, sleeper: subprocess.Popen[bytes]) -> None:
    asked = asyncio.gather(played.spawning.spawn("image"))
    assert await played.heard() == spawner_link.Spawn("image")
    started(played.ours, "image", sleeper.pid)
    (process,) = await asked
    assert process.pid == sleeper.pid
    process.signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        await process.ended.wait()
    process.signal(signal.SIGTERM)  # nobody is there any more
    assert sleeper.wait() == -signal.SIGTERM


async def test_a_fork_that_fails(played: Played) -> None:
    asked = asyncio.gather(played.spawning.spawn("image"), return_exceptions=True)
    await played.heard()
    spawner_link.send(played.ours, spawner_link.Failed("image", "no memory"))
    (error,) = await asked
    assert isinstance(error, Internal)
    assert "no memory" in error.message


async def test_a_process_that_nobody_waits_for_is_ended(played: Played, sleeper: subprocess.Popen[bytes]) -> None:
    started(played.ours, "image", sleeper.pid)
    assert await asyncio.to_thread(sleeper.wait, 5) == -signal.SIGKILL


async def test_memory_is_asked_for(played: Played) -> None:
    asked = asyncio.gather(played.spawning.measure((1, 2), Deadline.after(5)))
    assert await played.heard() == spawner_link.Measure((1, 2))
    spawner_link.send(played.ours, spawner_link.Measured({1: 4096}))
    assert await asked == [{1: 4096}]
    with pytest.raises(DeadlineExceeded):
        await played.spawning.measure((1,), Deadline.after(0.01))


async def test_deaths_and_the_order_to_stop_are_passed_on(played: Played) -> None:
    spawner_link.send(played.ours, spawner_link.Died("image", 7, -9))
    spawner_link.send(played.ours, spawner_link.Stop())
    async with asyncio.timeout(5):
        await played.stopped.wait()
    assert played.died == [spawner_link.Died("image", 7, -9)]


async def test_the_spawner_is_told_to_end_too(played: Played) -> None:
    assert played.spawning.up
    await played.spawning.close(3)
    assert await played.heard() == spawner_link.Bye(3)
    assert not played.spawning.up


async def test_a_spawner_that_cannot_be_started_is_started_later(
    played: Played, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[str] = []
    replaced = asyncio.Event()

    async def start(argv: Sequence[str], **_: object) -> Started:
        attempts.append(argv[0])
        if len(attempts) == 1:
            raise Internal("no memory")
        return Started(os.getpid())

    monkeypatch.setattr(process, "start", start)
    monkeypatch.setattr(spawning, "keep_trying", partial(keep_trying, first=0.01))
    monkeypatch.setattr(played.spawning, "_on_replaced", replaced.set)
    played.ours.close()
    async with asyncio.timeout(20):
        await replaced.wait()
    assert len(attempts) == 2
    assert "replacing the spawner failed" in caplog.text
    assert played.spawning.up
    assert played.spawning.pid == os.getpid()
