"""Deadlines, named tasks with a parent, and one-at-a-time by key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from kernel.errors import DeadlineExceeded

_T = TypeVar("_T")
_K = TypeVar("_K")
_LOG = logging.getLogger(__name__)


class Deadline:
    """A moment on the boot-time clock (unmoved by clock jumps, the same in every process of the host)."""

    __slots__ = ("at_ns",)

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        return cls(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9))

    def remaining(self) -> float:
        """Seconds left; negative once passed."""
        return (self.at_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9

    def earlier(self, seconds: float) -> Deadline:
        """This moment or the one `seconds` from now, whichever comes first."""
        other = Deadline.after(seconds)
        return other if other.at_ns < self.at_ns else self

    @asynccontextmanager
    async def limit(self, what: str) -> AsyncIterator[None]:
        """Run the body until the deadline; DeadlineExceeded names `what` was under way."""
        try:
            async with asyncio.timeout(max(self.remaining(), 0)):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded(f"{what}: the deadline passed") from error


class Tasks:
    """The parent of background tasks: each has a name, a reference, and a log line if it fails."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, coroutine: Coroutine[object, object, _T], name: str) -> asyncio.Task[_T]:
        """Run `coroutine` beside the caller."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[_T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and task.get_coro() is not None:
            _LOG.debug("task %s failed: %s", task.get_name(), error)

    async def close(self) -> None:
        """Cancel all and wait for them."""
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class KeyedLock(Generic[_K]):
    """One holder per key; holders of different keys run side by side."""

    def __init__(self) -> None:
        self._locks: dict[_K, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: _K) -> AsyncIterator[None]:
        """Hold `key` for the body; the lock is forgotten with its last waiter."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)


class Joins(Generic[_K, _T]):
    """One attempt per key: whoever asks while it runs waits for its result, also after the first asker left.

    The attempt runs as a task of `tasks`, so a caller that is cancelled does not end it.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[_K, asyncio.Task[_T]] = {}

    def running(self, key: _K) -> bool:
        """Whether an attempt for `key` is under way."""
        return key in self._running

    def any_running(self, wanted: Callable[[_K], bool]) -> bool:
        """Whether an attempt is under way for one of the keys that are wanted."""
        return any(wanted(key) for key in self._running)

    def begin(self, key: _K, attempt: Coroutine[object, object, _T], name: str) -> asyncio.Task[_T]:
        """Start an attempt under `key`; the caller has checked that none runs."""
        task = self._tasks.start(attempt, name)
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return task

    async def wait(self, key: _K) -> _T:
        """The result of the attempt under way."""
        return await asyncio.shield(self._running[key])
