"""Deadlines, named tasks with a parent, attempts that later callers join, and locks by key.

No error of a task is lost. There are two ways to start a task, depending on its result: `Tasks.run` if a caller awaits
it, `Tasks.spawn` if none does. The error of a spawned task is logged and counted in `FAILURES` as soon as the task
ends; so is an error that no caller retrieved from a task that was run, when Python drops the task
(`report_lost_errors`, which every process calls as its loop starts).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from kernel.errors import CrispError, DeadlineExceeded

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
        """Return the moment `seconds` from now."""
        return cls(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9))

    def remaining(self) -> float:
        """Return the seconds left; negative once it has passed."""
        return (self.at_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9

    def earlier(self, seconds: float) -> Deadline:
        """Return self or the moment `seconds` from now, whichever comes first."""
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


class Failures:
    """The number of errors in this process that no caller received. Both numbers only grow."""

    def __init__(self) -> None:
        self.errors = 0
        """Errors of the host or of another process (CrispError), logged as warnings."""
        self.bugs = 0
        """Errors of crisp's own code, logged as critical with their tracebacks."""

    def report(self, what: str, error: BaseException) -> None:
        """Log the error of `what` and count it."""
        if isinstance(error, CrispError):
            self.errors += 1
            _LOG.warning("%s failed: %s", what, error)
        else:
            self.bugs += 1
            _LOG.critical("%s failed", what, exc_info=error)


FAILURES = Failures()
"""The counts of this process, which are in its answer to `hello`."""


def report_lost_errors() -> None:
    """Have the running loop report each error that no caller received to FAILURES.

    These are the errors of callbacks, and those that no caller retrieved from a task before it was dropped. asyncio's
    own handler would log them as errors of the logger `asyncio`, and they would not be counted.
    """
    asyncio.get_running_loop().set_exception_handler(_on_lost_error)


def _on_lost_error(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    source = context.get("task") or context.get("future") or context.get("handle")
    name = source.get_name() if isinstance(source, asyncio.Task) else str(source or "the event loop")
    error = context.get("exception")
    if isinstance(error, BaseException):
        FAILURES.report(name, error)
    else:  # a report of asyncio itself, for instance about a task that was dropped while it ran
        FAILURES.bugs += 1
        _LOG.critical("%s: %s", name, context.get("message"))


class Spawned:
    """A task that no caller awaits. It can only be cancelled."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task

    def cancel(self) -> None:
        """Cancel the task, which ends at its next await. Does nothing if it has ended."""
        self._task.cancel()


async def result_of(task: asyncio.Task[_T]) -> _T:
    """Return the result of a task, or raise its error. The task goes on if this caller is cancelled.

    Unlike asyncio.shield(), this retrieves no error from a task whose callers have all left: such an error is reported.
    """
    await asyncio.wait((task,))
    return task.result()


async def wait_until_ended(spawned: Iterable[Spawned], seconds: float) -> None:
    """Wait until spawned tasks have ended, at most `seconds`; their errors are reported elsewhere."""
    if tasks := [one._task for one in spawned]:  # the other half of the class
        await asyncio.wait(tasks, timeout=seconds)


class Tasks:
    """The parent of background tasks: it names each, holds a reference to it, and cancels it at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def run(self, coroutine: Coroutine[object, object, _T], name: str, *, remembered: bool = False) -> asyncio.Task[_T]:
        """Run `coroutine` beside the caller, who awaits the task or gives it to another caller to await.

        `remembered`: the task is kept for callers that may come, or may not. Python never drops such a task, so its
        error is reported as soon as it ends, and raised in each caller as well.
        """
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if remembered:
            task.add_done_callback(_report)
        return task

    def spawn(self, coroutine: Coroutine[object, object, object], name: str) -> Spawned:
        """Run `coroutine` in the background; no caller awaits it. Its error is logged and counted (`FAILURES`)."""
        return Spawned(self.run(coroutine, name, remembered=True))

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended. Errors with which they end are reported as any other."""
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


def _report(task: asyncio.Task[_T]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        FAILURES.report(f"task {task.get_name()}", error)


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
    """One attempt per key: a caller that comes while it runs waits for its result, even after the first caller left.

    An attempt runs as a task of `tasks`, so a caller that is cancelled does not end it. Its error is raised in every
    caller that waits for it; if none is left, it is reported like the error of a task that no caller awaits.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[_K, asyncio.Task[_T]] = {}
        self._waiting: dict[_K, int] = {}
        """The number of callers that wait for the attempt under way."""

    def running(self, key: _K) -> bool:
        """Return whether an attempt for `key` is under way."""
        return key in self._running

    def any_running(self, wanted: Callable[[_K], bool]) -> bool:
        """Return whether an attempt is under way for one of the keys that `wanted` accepts."""
        return any(wanted(key) for key in self._running)

    async def join(self, key: _K, attempt: Callable[[], Coroutine[object, object, _T]], name: str) -> _T:
        """Return the result of the attempt under way for `key`; if there is none, begin one, in a task named `name`.

        `attempt` is called only in the second case, before any other code can run. An error of the call itself, rather
        than of the coroutine that it returns, is raised in this caller alone, and no attempt has begun.
        """
        self.ensure(key, attempt, name)
        return await self.wait(key)

    def ensure(self, key: _K, attempt: Callable[[], Coroutine[object, object, _T]], name: str) -> bool:
        """Begin an attempt unless one is under way, and do not wait for it. Return whether one began."""
        if key in self._running:
            return False
        self.begin(key, attempt(), name)
        return True

    def begin(self, key: _K, attempt: Coroutine[object, object, _T], name: str) -> asyncio.Task[_T]:
        """Begin an attempt and return its task; the caller has checked that none runs. Prefer `join` or `ensure`."""
        task = self._tasks.run(attempt, name)
        self._running[key] = task
        self._waiting[key] = 0
        task.add_done_callback(lambda _: self._ended(key, task))
        return task

    async def wait(self, key: _K) -> _T:
        """Return the result of the attempt under way, or raise its error. KeyError if there is none."""
        task = self._running[key]
        self._waiting[key] += 1
        try:
            return await result_of(task)
        finally:
            if self._running.get(key) is task:
                self._waiting[key] -= 1

    def _ended(self, key: _K, task: asyncio.Task[_T]) -> None:
        if self._running.get(key) is not task:
            return
        del self._running[key]
        if not self._waiting.pop(key):
            _report(task)


async def keep_trying(
    attempt: Callable[[], Awaitable[bool]], what: str, *, first: float = 1.0, longest: float = 60.0, at_once: bool
) -> None:
    """Call `attempt` until it returns True, with pauses that double from `first` to `longest` seconds.

    An attempt that raises a CrispError is logged and repeated; one that returns False has logged its reason itself. Any
    other error is a bug, and ends the loop. `at_once`: whether the first attempt comes before the first pause. `what`
    names the work in the log.
    """
    pause, failed = first, not at_once
    while True:
        if failed:
            await asyncio.sleep(pause)  # a pause: no event reports that the host or a registry has recovered
            pause = min(pause * 2, longest)
        try:
            if await attempt():
                break
        except CrispError as error:
            _LOG.warning("%s failed, again in %.0f s: %s", what, pause, error)
        failed = True
    if failed:
        _LOG.info("%s succeeded at last", what)
