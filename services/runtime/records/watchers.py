"""Queues of changes, one for each call that watches the worker.

Run by the runtime worker on its event loop. Rule kept: a watcher that does not read costs a bounded amount of memory.
"""

from __future__ import annotations

import asyncio
import logging

from kernel.contracts.runtime import Changed, PodChanged

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 4096
"""Changes in a queue at which its watcher counts as one that does not read."""


class Watchers:
    """The watchers of this worker."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Changed | PodChanged]] = set()

    def join(self) -> asyncio.Queue[Changed | PodChanged]:
        """Return a queue that gets every change from now on."""
        queue: asyncio.Queue[Changed | PodChanged] = asyncio.Queue()
        self._queues.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[Changed | PodChanged]) -> None:
        """Put no more changes into a queue."""
        self._queues.discard(queue)

    def report(self, change: Changed | PodChanged) -> None:
        """Put a change into all queues. A queue whose watcher does not read is dropped rather than kept in memory."""
        for queue in list(self._queues):
            if queue.qsize() >= _MOST_WAITING:
                _LOG.error("a watcher does not read its events: dropped")
                self._queues.discard(queue)
                continue
            queue.put_nowait(change)
