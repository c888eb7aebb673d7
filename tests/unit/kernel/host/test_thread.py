"""Throw-away threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kernel.errors import DeadlineExceeded, NotFound
from kernel.host import thread
from kernel.host.aio import Deadline


async def test_its_result_and_its_errors() -> None:
    assert await thread.run(threading.get_ident, Deadline.after(5), "who") != threading.get_ident()

    def fail() -> None:
        raise NotFound("gone")

    with pytest.raises(NotFound):
        await thread.run(fail, Deadline.after(5), "fail")


async def test_one_that_hangs_is_left_alone() -> None:
    over = threading.Event()
    with pytest.raises(DeadlineExceeded, match="a dead mount"):
        await thread.run(over.wait, Deadline.after(0.05), "a dead mount")
    over.set()


def test_one_that_outlives_its_worker_ends_quietly() -> None:
    over, seen = threading.Event(), []

    async def worker() -> None:
        with pytest.raises(DeadlineExceeded):
            await thread.run(lambda: over.wait() and seen.extend(threading.enumerate()), Deadline.after(0.01), "late")

    asyncio.run(worker())
    late = [one for one in threading.enumerate() if one.name == "late"]
    over.set()
    for one in late:
        one.join(10)  # an exception in it would fail the test
    assert len(late) == 1
    assert late[0] in seen


async def test_a_result_that_comes_too_late_is_discarded() -> None:
    over, discarded = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        over.wait()
        return "a descriptor"

    def discard(result: str) -> None:
        assert result == "a descriptor"
        loop.call_soon_threadsafe(discarded.set)

    with pytest.raises(DeadlineExceeded):
        await thread.run(work, Deadline.after(0.01), "late", discard=discard)
    over.set()
    async with asyncio.timeout(5):
        await discarded.wait()


def test_a_result_for_a_loop_that_has_closed_is_discarded() -> None:
    over, discarded = threading.Event(), threading.Event()

    async def worker() -> None:
        with pytest.raises(DeadlineExceeded):
            await thread.run(over.wait, Deadline.after(0.01), "late", discard=lambda _: discarded.set())

    asyncio.run(worker())
    over.set()
    assert discarded.wait(5)


async def test_a_timeout_of_the_work_itself_is_no_deadline() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await thread.run(fail, Deadline.after(5), "fail")


def test_blocking_work_runs_in_a_thread_of_its_own() -> None:
    assert thread.run_blocking(threading.get_ident, "who") != threading.get_ident()

    def fail() -> None:
        raise NotFound("gone")

    with pytest.raises(NotFound):
        thread.run_blocking(fail, "fail")
