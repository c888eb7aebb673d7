"""Deadlines, joins and locks."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kernel.errors import DeadlineExceeded
from kernel.host.aio import Deadline, Joins, KeyedLock, Tasks


async def test_a_passed_deadline_names_what_was_under_way() -> None:
    with pytest.raises(DeadlineExceeded, match="mounting x: the deadline passed"):
        async with Deadline.after(0.01).limit("mounting x"):
            await asyncio.Event().wait()


def test_the_earlier_deadline_wins() -> None:
    long = Deadline.after(100)
    assert 0 < long.earlier(1).remaining() <= 1
    assert long.earlier(1000) is long


async def test_who_asks_meanwhile_joins_and_the_attempt_outlives_its_asker() -> None:
    tasks, release, runs = Tasks(), asyncio.Event(), []

    async def attempt() -> str:
        runs.append(1)
        await release.wait()
        return "made"

    joins: Joins[str, str] = Joins(tasks)
    joins.begin("key", attempt(), "attempt")
    loop = asyncio.get_running_loop()
    first, second = (loop.create_task(joins.wait("key")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert await second == "made"
    assert runs == [1]
    assert not joins.running("key")
    await tasks.close()


async def test_one_holder_per_key() -> None:
    lock, order = KeyedLock[str](), []

    async def work(key: str, name: str, go: asyncio.Event) -> None:
        async with lock.hold(key):
            order.append(name)
            await go.wait()

    gate, opened = asyncio.Event(), asyncio.Event()
    opened.set()
    loop = asyncio.get_running_loop()
    held = loop.create_task(work("a", "first", gate))
    await asyncio.sleep(0)
    waits = loop.create_task(work("a", "second", opened))
    await loop.create_task(work("b", "other", opened))
    assert order == ["first", "other"]
    gate.set()
    await asyncio.gather(held, waits)
    assert order == ["first", "other", "second"]


async def test_a_failed_background_task_is_said(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def fail() -> None:
        raise ValueError("broken")

    with caplog.at_level(logging.DEBUG):
        task = tasks.start(fail(), "the work")
        await asyncio.wait({task})
        await asyncio.sleep(0)
    assert "the work" in caplog.text
    assert "broken" in caplog.text
