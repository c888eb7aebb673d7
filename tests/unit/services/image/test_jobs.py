"""Jobs in threads end when nobody wants them any more, and their bugs are reported."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from kernel.errors import Cancelled, Unavailable
from kernel.host import aio
from services.image.jobs import Job, Jobs


@pytest_asyncio.fixture
async def jobs() -> AsyncIterator[Jobs]:
    made = Jobs(2, "test")
    yield made
    await made.close()


async def test_a_job_gives_its_result_or_its_error(jobs: Jobs) -> None:
    def fail(job: Job) -> int:
        raise Unavailable("gone")

    assert await jobs.run(lambda job: 7) == 7
    with pytest.raises(Unavailable, match="gone"):
        await jobs.run(fail)


async def test_a_job_ends_with_its_caller(jobs: Jobs) -> None:
    begun, ended = threading.Event(), threading.Event()

    def wait(job: Job) -> None:
        begun.set()
        try:
            job.pause(20)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(jobs.run(wait), 0.1)
    assert begun.is_set()
    assert await asyncio.to_thread(ended.wait, 5)


@pytest.mark.parametrize(("error", "bugs"), [(Cancelled("given up"), 0), (KeyError("a bug"), 1)])
async def test_a_bug_in_a_job_that_was_given_up_is_reported(jobs: Jobs, error: Exception, bugs: int) -> None:
    def fail(job: Job) -> None:
        with pytest.raises(Cancelled):
            job.pause(20)
        raise error

    before = aio.FAILURES.bugs
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(jobs.run(fail), 0.1)
    await jobs.close()
    await asyncio.sleep(0.05)  # the loop hears of the thread's end
    assert aio.FAILURES.bugs == before + bugs
