"""A download that several callers may follow: its bytes so far, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

_LINGERING = 5.0
"""Seconds that a thread is waited for: where it looks a name up, nothing can wake it."""
_INTERVAL = 0.1
"""Seconds between two reports of progress."""


class Transfer:
    """One download under way. All but `notable` is for the event loop alone."""

    def __init__(self, source: tuple[object, ...]) -> None:
        """`source`: repository, size and credentials; another caller's may succeed where these fail."""
        self.source = source
        self.followers = 0
        self.work: asyncio.Future[None] | None = None
        """What its thread does, once one is free."""
        self._done = 0
        self._changed = asyncio.Event()
        self._reported = 0.0
        self._task: asyncio.Task[None] | None = None

    def run(self, task: asyncio.Task[None], ended: Callable[[], object]) -> None:
        """Follow `task`, which downloads; `ended` is called once it has."""
        self._task = task

        def over(_: asyncio.Task[None]) -> None:
            ended()
            self._changed.set()

        task.add_done_callback(over)

    def notable(self, done: int) -> bool:
        """Whether it is time to report again; called by the downloading thread."""
        now = time.monotonic()
        if done and now - self._reported < _INTERVAL:
            return False
        self._reported = now
        return True

    def arrived(self, done: int) -> None:
        """So many bytes are here."""
        self._done = done
        self._changed.set()

    async def follow(self) -> AsyncIterator[int]:
        """The bytes so far, whenever they changed, until the end; raises what ended the download."""
        assert self._task is not None  # run() comes right after the constructor
        self.followers += 1
        seen = -1
        try:
            while not self._task.done():
                if self._done != seen:
                    seen = self._done
                    yield seen
                    continue
                await self._changed.wait()
                self._changed.clear()
            if not self._task.cancelled():  # stopped before we came: the caller looks whether to start anew
                self._task.result()
        finally:
            self.followers -= 1

    async def stop(self) -> None:
        """End the download, and wait for its thread, which may take a moment longer."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if self.work is not None:
            await asyncio.wait([self.work], timeout=_LINGERING)
