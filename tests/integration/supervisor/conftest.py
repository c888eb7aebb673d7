"""A daemon of the test's own, asked over the bus."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest

from kernel.bus.client import Client
from kernel.config import reading as configuration
from kernel.contracts import supervisor as contract
from kernel.contracts.definition import Nothing
from kernel.contracts.supervisor import WorkerStatus
from kernel.errors import CrispError
from kernel.host.aio import Deadline
from tests.harness.daemon import Daemon

WORKERS = ("runtime", "network", "storage", "image", "stream", "front")
EVERYONE = ("supervisor", "spawner", *WORKERS)


@pytest.fixture(scope="module")
def own_daemon(system_users: None) -> Iterator[Daemon]:
    """A daemon without registry; a test that ends it starts it again."""
    mine = Daemon()
    try:
        yield mine
        mine.stop()
    finally:
        mine.close()


class Crisp:
    """The daemon's processes, as the supervisor sees them."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.config = configuration.load(daemon.config_file)
        self.client = Client(contract.CONTRACT, self.config.paths.bus("supervisor"))

    async def workers(self) -> dict[str, WorkerStatus]:
        reply = await self.client.call(contract.WORKERS, Nothing(), deadline=Deadline.after(10))
        return {one.name: one for one in reply.workers}

    async def until(
        self, what: str, found: Callable[[dict[str, WorkerStatus]], bool], limit: float = 30
    ) -> dict[str, WorkerStatus]:
        """Ask until the processes are as wanted."""
        now: dict[str, WorkerStatus] = {}
        try:
            async with asyncio.timeout(limit):
                while True:
                    with suppress(CrispError):
                        now = await self.workers()
                        if found(now):
                            return now
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"not within {limit} s: {what}: {now}\n{self.daemon.tail()}") from None

    async def all_ready(self) -> dict[str, WorkerStatus]:
        return await self.until("all serve", lambda now: all(now[name].state == "ready" for name in EVERYONE))

    async def kill(self, name: str) -> int:
        """SIGKILL; the pid that it had."""
        pid = (await self.workers())[name].pid
        os.kill(pid, signal.SIGKILL)
        return pid


@pytest.fixture
async def crisp(own_daemon: Daemon) -> AsyncIterator[Crisp]:
    """The daemon with every process ready."""
    if not own_daemon.own_processes():
        own_daemon.start(wait=False)
    mine = Crisp(own_daemon)
    try:
        await mine.all_ready()
        yield mine
    finally:
        await mine.client.close()
