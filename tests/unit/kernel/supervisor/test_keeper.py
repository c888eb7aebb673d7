"""The life of one worker, with a spawner and a bus that the test plays; the processes are real."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from kernel.bus.client import Client
from kernel.contracts.definition import Hello
from kernel.errors import Internal, Unavailable
from kernel.host.aio import Deadline, Tasks
from kernel.supervisor.keeper import Keeper
from kernel.supervisor.processes import restart_policy
from kernel.supervisor.processes.spawning import Process, Spawning

SOON = 10


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart_policy, "_BACK_OFF", (0.0,))


class Played:
    """Starts `sleep` for a worker, and answers its calls."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.failing = 0
        """How many of the next starts fail."""
        self.serving = True
        self.saved = 0
        self.told: list[str] = []
        self.news = asyncio.Event()
        tasks = Tasks()
        self.keeper = Keeper(
            "image", cast("Client", self), cast("Spawning", self), tasks,
            on_process=self.on_process, on_health=self.on_health,
        )  # fmt: skip
        self.tasks = tasks

    async def spawn(self, name: str) -> Process:
        assert name == "image"
        if self.failing:
            self.failing -= 1
            raise Internal("no memory")
        child = subprocess.Popen(["sleep", "60"])
        self.children.append(child)
        return Process(child.pid, os.pidfd_open(child.pid))

    async def call(self, *_: object, deadline: Deadline) -> Hello:
        assert deadline.remaining() > 0
        if not self.serving:
            raise Unavailable("it is down")
        return Hello(pid=self.children[-1].pid, started_ns=0, errors=2, bugs=1)

    def on_process(self) -> None:
        self.saved += 1

    def on_health(self) -> None:
        self.told.append(self.keeper.down)
        self.news.set()

    async def healthy(self) -> None:
        async with asyncio.timeout(SOON):
            await self.keeper.ready.wait()


@asynccontextmanager
async def kept() -> AsyncIterator[Played]:
    played = Played()
    task = played.tasks.run(played.keeper.keep(), "keep")
    try:
        yield played
        async with asyncio.timeout(SOON):
            await played.keeper.end(task)
        task.result()
    finally:
        await played.tasks.close()
        for child in played.children:
            child.kill()
            child.wait()


async def test_a_worker_that_serves_is_ready_until_it_is_ended() -> None:
    async with kept() as played:
        await played.healthy()
        assert played.keeper.state == "ready"
        assert played.told == [""]
        assert played.saved == 1
        assert played.keeper.hello is not None
        assert (played.keeper.hello.errors, played.keeper.hello.bugs) == (2, 1)
    assert [child.returncode for child in played.children] == [-signal.SIGTERM]


async def test_a_worker_that_dies_comes_back_and_others_hear_nothing_of_it() -> None:
    async with kept() as played:
        await played.healthy()
        played.keeper.ready.clear()
        played.children[0].kill()
        await played.healthy()
        assert played.keeper.restarts == 1
        assert played.keeper.process is not None
        assert played.keeper.process.pid == played.children[1].pid
    assert played.told == [""]


async def test_a_restart_has_another_process_and_is_no_death() -> None:
    async with kept() as played:
        await played.healthy()
        for number in range(1, 8):  # as deaths, so many would hold it down
            assert await played.keeper.restart(Deadline.after(SOON)) == played.children[number].pid
    assert played.told == [""]
    assert played.keeper.restarts == 8


async def test_a_worker_that_cannot_be_started_is_held_down_and_a_restart_wakes_it() -> None:
    async with kept() as played:
        await played.healthy()
        played.failing = 1000
        played.news.clear()
        played.children[0].kill()
        async with asyncio.timeout(SOON):
            await played.news.wait()
        assert played.keeper.state == "held down"
        assert played.keeper.down.startswith("held down: ")
        played.failing = 0
        assert await played.keeper.restart(Deadline.after(SOON)) == played.children[1].pid
        assert not played.keeper.down


async def test_the_end_comes_also_to_a_worker_that_is_held_down() -> None:
    async with kept() as played:
        played.failing = 1000
        async with asyncio.timeout(SOON):
            await played.news.wait()
    assert not played.children or played.children[0].returncode is not None


async def test_an_answer_of_an_earlier_process_does_not_count() -> None:
    played = Played()
    played.children.append(subprocess.Popen(["sleep", "60"]))
    process = Process(played.children[0].pid, os.pidfd_open(played.children[0].pid))
    played.children.append(subprocess.Popen(["sleep", "60"]))
    try:
        assert not await played.keeper._says_hello(process, Deadline.after(SOON))
        assert played.keeper.hello is None
    finally:
        for child in played.children:
            child.kill()
            child.wait()
        await process.ended.wait()
        await played.tasks.close()
