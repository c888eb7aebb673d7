"""Jobs: blocking work in threads of bounded pools, which the event loop can end early.

A thread that waits for a registry cannot be cancelled. A job whose result is no longer needed is given up instead:
its connections are shut down and its pauses end, so that its thread is free again in a moment.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kernel.errors import Cancelled, CrispError
from kernel.host import aio
from services.image.registry.transport import Transport

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)


class Job:
    """One piece of work in a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._transport: Transport | None = None

    def given_up(self) -> bool:
        """Return whether the result is no longer needed."""
        return self._given_up.is_set()

    def pause(self, seconds: float) -> None:
        """Wait; Cancelled once given up. Called in the job's thread."""
        if self._given_up.wait(seconds):
            raise Cancelled("given up")

    def use(self, transport: Transport) -> None:
        """Note that the job now waits on these connections; Cancelled if given up. Called in the job's thread."""
        with self._lock:
            self._transport = transport
            if self._given_up.is_set():
                raise Cancelled("given up")

    def give_up(self) -> None:
        """End the job early: its waits fail at once. Called on the event loop."""
        with self._lock:
            self._given_up.set()
            if self._transport is not None:
                self._transport.abort()


class Jobs:
    """The jobs of one pool of threads."""

    def __init__(self, threads: int, name: str) -> None:
        """`name` begins the threads' names."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._running: set[Job] = set()

    async def run(self, work: Callable[[Job], _T]) -> _T:
        """Return the result of `work`, done in a thread. If the caller is cancelled, the job is given up."""
        return await self.result_of(*self.start(work))

    def start(self, work: Callable[[Job], _T]) -> tuple[Job, asyncio.Future[_T]]:
        """Begin a job and return it with the future of its thread, for `result_of`."""
        job = Job()
        self._running.add(job)
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, job)
        future.add_done_callback(lambda done: self._ended(job, done))
        return job, future

    async def result_of(self, job: Job, future: asyncio.Future[_T]) -> _T:
        """Return the result of a job that was started. If the caller is cancelled, the job is given up."""
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            job.give_up()
            raise

    async def close(self) -> None:
        """Give up all jobs and wait for their threads."""
        for job in list(self._running):
            job.give_up()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _ended(self, job: Job, done: asyncio.Future[_T]) -> None:
        self._running.discard(job)
        if not job.given_up() or done.cancelled() or (error := done.exception()) is None:
            return
        if isinstance(error, CrispError):
            _LOG.debug("a job that was given up has ended: %s", error)
        else:  # no caller awaits it any more
            aio.FAILURES.report("a job that was given up", error)
