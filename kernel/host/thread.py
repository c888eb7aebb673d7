"""Throw-away threads, each for one piece of blocking work.

They are for work that changes its thread (a namespace, a root), or that could hang on a dead mount: the thread is never
used again, and one that hangs takes no place in a pool. A thread that is left behind is a daemon thread: it does not
delay the end of the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from kernel.errors import DeadlineExceeded
from kernel.host.aio import Deadline

_T = TypeVar("_T")


async def run(
    work: Callable[[], _T], deadline: Deadline, what: str, *, discard: Callable[[_T], None] | None = None
) -> _T:
    """Return the result of `work`, or raise its error; DeadlineExceeded names `what` if it takes too long.

    After that the thread is left alone, and so it is if the caller is cancelled. `discard` gets a result that comes
    later and must be released, such as a descriptor; it must not block.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Outcome[_T]] = loop.create_future()

    def settle(outcome: _Outcome[_T]) -> None:
        if done.done():
            outcome.drop(discard)
        else:
            done.set_result(outcome)

    def body() -> None:
        outcome = _Outcome(work)
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:  # the loop is closed, because the process ends
            outcome.drop(discard)

    threading.Thread(target=body, name=what, daemon=True).start()
    try:
        async with asyncio.timeout(max(deadline.remaining(), 0)):
            return (await done).take()
    except TimeoutError as error:
        if done.done() and not done.cancelled():
            raise  # the work's own error
        raise DeadlineExceeded(f"{what}: the deadline passed") from error


def run_blocking(work: Callable[[], _T], what: str) -> _T:
    """Run `work` in a thread of its own and block until it ends; return its result or raise its error.

    This is for callers that run in a thread already, which the work must not change.
    """
    outcomes: list[_Outcome[_T]] = []
    thread = threading.Thread(target=lambda: outcomes.append(_Outcome(work)), name=what, daemon=True)
    thread.start()
    thread.join()
    return outcomes[0].take()


class _Outcome(Generic[_T]):
    """The outcome of a piece of work: its result or its error."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._result: list[_T] = []
        self._error: BaseException | None = None
        try:
            self._result.append(work())
        except BaseException as error:  # noqa: BLE001  # a boundary: it is raised again in the waiting caller
            self._error = error

    def take(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._result[0]

    def drop(self, discard: Callable[[_T], None] | None) -> None:
        if discard is not None and self._result:
            with suppress(OSError):  # no caller waits for the result any more
                discard(self._result[0])
