from __future__ import annotations

import asyncio
import threading

import pytest

from kernel.errors import DeadlineExceeded, NotFound
from kernel.host.aio import Deadline
from services.runtime import thread


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
