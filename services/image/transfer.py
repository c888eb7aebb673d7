"""Downloads that several callers may follow: the bytes so far, and the end. Runs on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

from kernel.host.aio import Tasks
from kernel.ids import Digest

_LINGERING = 5.0
"""Seconds to wait for a thread that was given up: nothing can wake it while it resolves a name."""
_INTERVAL = 0.1
"""Seconds between two reports of progress."""


class Transfer:
    """One download that runs. All but `notable` is for the event loop alone."""

    def __init__(self, source: tuple[object, ...]) -> None:
        """`source`: repository, size and credentials. If these fail, another caller's may succeed."""
        self.source = source
        self.followers = 0
        """The number of callers that wait for it."""
        self.work: asyncio.Future[None] | None = None
        """The work of its thread; None until one is free."""
        self._done = 0
        self._changed = asyncio.Event()
        self._reported = 0.0
        self._task: asyncio.Task[None] | None = None

    def run(self, task: asyncio.Task[None], ended: Callable[[], object]) -> None:
        """Follow `task`, which downloads; `ended` is called at its end."""
        self._task = task

        def on_end(_: asyncio.Task[None]) -> None:
            ended()
            self._changed.set()

        task.add_done_callback(on_end)

    def notable(self, done: int) -> bool:
        """Return whether it is time for another report. Called in the downloading thread."""
        now = time.monotonic()
        if done and now - self._reported < _INTERVAL:
            return False
        self._reported = now
        return True

    def arrived(self, done: int) -> None:
        """Record how many bytes have arrived so far."""
        self._done = done
        self._changed.set()

    async def follow(self) -> AsyncIterator[int]:
        """Yield the bytes so far, whenever they have changed, until the end. Raises the error of the download."""
        assert self._task is not None  # run() is called right after the constructor
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
            if not self._task.cancelled():  # if it was stopped, the caller looks whether to begin another
                self._task.result()
        finally:
            self.followers -= 1

    async def stop(self) -> None:
        """End the download and wait for its thread, which may take a moment longer."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if self.work is not None:
            await asyncio.wait([self.work], timeout=_LINGERING)


class Transfers:
    """The downloads that run, by the digest of their blob."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[Digest, Transfer] = {}

    def running(self, blob: Digest) -> Transfer | None:
        """Return the download of a blob; None if there is none."""
        return self._running.get(blob)

    def begin(
        self, blob: Digest, source: tuple[object, ...], download: Callable[[Transfer], Coroutine[object, object, None]]
    ) -> Transfer:
        """Begin to download a blob, of which there is no download yet."""
        transfer = self._running[blob] = Transfer(source)
        task = self._tasks.run(download(transfer), f"fetch {blob}")
        transfer.run(task, lambda: self._running.pop(blob, None))
        return transfer

    async def stop_unfollowed(self, blobs: Iterable[Digest]) -> list[Digest]:
        """Stop those downloads of these blobs that no call waits for. Return the blobs of which none runs now."""
        blobs = tuple(blobs)
        for transfer in [self._running[blob] for blob in blobs if blob in self._running]:
            if not transfer.followers:
                await transfer.stop()
        return [blob for blob in blobs if blob not in self._running]
