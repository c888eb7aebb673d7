"""Stopping a container: its signal, the wait, and SIGKILL to all that is left in its cgroup.

Run by the runtime worker. Rules kept: signals go through a pidfd; a later call joins the one under way, and can
only shorten its wait; the work goes on when the caller has left.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from kernel.host.aio import Deadline, Joins, Tasks
from kernel.host.pidfd import Watched
from kernel.ids import ContainerId
from services.runtime.cgroups.hierarchies import Cgroups
from services.runtime.exits import stop_signal
from services.runtime.exits.watching import Container

_KILL_SECONDS = 60.0


class Stops:
    """The stops under way."""

    def __init__(self, tasks: Tasks, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._joins: Joins[ContainerId, None] = Joins(tasks)
        self._until: dict[ContainerId, float] = {}
        """On the loop's clock, when SIGKILL follows."""
        self._waits: dict[ContainerId, asyncio.Timeout] = {}

    async def stop(self, container: Container, timeout: float) -> None:
        """Back once the container has exited and nothing of it runs."""
        until = asyncio.get_running_loop().time() + max(timeout, 0)
        if self._joins.running(container.id):
            self._shorten(container.id, until)
        else:
            self._until[container.id] = until
            self._joins.begin(container.id, self._stop(container), f"stop of {container.id}")
        await self._joins.wait(container.id)

    async def kill(self, container: Container) -> None:
        """SIGKILL to all of the container's processes, and its end noted."""
        if container.swept:
            return
        deadline = Deadline.after(_KILL_SECONDS)
        if container.process is not None:
            container.process.signal(signal.SIGKILL)
        await self._cgroups.kill([container.state.cgroup], deadline)
        async with deadline.limit(f"container {container.id}: its end after SIGKILL"):
            await container.exited.wait()

    async def _stop(self, container: Container) -> None:
        try:
            started = container.state.phase in ("starting", "started")
            if started and not container.exited.is_set() and container.process is not None:
                await self._ask(container, container.process)
            await self.kill(container)
        finally:
            del self._until[container.id]

    async def _ask(self, container: Container, process: Watched) -> None:
        """Send the stop signal, and wait until it has exited or its time, which other calls may shorten, is up."""
        if self._until[container.id] <= asyncio.get_running_loop().time():
            return
        name = container.state.created.stop_signal if container.state.created else stop_signal.DEFAULT
        process.signal(stop_signal.number(name) or signal.SIGTERM)
        try:
            with suppress(TimeoutError):  # SIGKILL is next
                async with asyncio.timeout_at(self._until[container.id]) as wait:
                    self._waits[container.id] = wait
                    await container.exited.wait()
        finally:
            self._waits.pop(container.id, None)

    def _shorten(self, container: ContainerId, until: float) -> None:
        if until < self._until.get(container, until):
            self._until[container] = until
            wait = self._waits.get(container)
            if wait is not None and not wait.expired():
                wait.reschedule(until)
