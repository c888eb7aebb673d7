"""A throw-away thread for one piece of blocking work.

For work that changes the thread it runs in (a namespace), or that could hang on somebody's dead mount: a thread
of its own is never used again, and one that hangs takes no place in a pool.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from kernel.errors import DeadlineExceeded
from kernel.host.aio import Deadline

_T = TypeVar("_T")


async def run(work: Callable[[], _T], deadline: Deadline, what: str) -> _T:
    """The result of `work`; DeadlineExceeded names `what` where it takes too long (the thread is then left alone)."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def body() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 a boundary: it is raised again where the work is awaited
            _tell(loop, done, None, error)
        else:
            _tell(loop, done, result, None)

    threading.Thread(target=body, name=what, daemon=True).start()
    try:
        async with asyncio.timeout(max(deadline.remaining(), 0)):
            return await done
    except TimeoutError as error:
        raise DeadlineExceeded(f"{what}: the deadline passed") from error


def _tell(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[_T], result: _T | None, error: BaseException | None
) -> None:
    def settle() -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only where _T is

    with suppress(RuntimeError):  # the loop is closed: the worker has ended meanwhile
        loop.call_soon_threadsafe(settle)
