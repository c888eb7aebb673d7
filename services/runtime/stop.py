"""Stopping a container: its signal, the wait, and SIGKILL to all that is left in its cgroup.

Run by the runtime worker. Rules kept: signals go through a pidfd; a later call joins the one under way, and can
only shorten its wait; the work goes on when the caller has left.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from kernel.host.aio import Deadline, Joins, Tasks
from kernel.ids import ContainerId
from services.runtime import stop_signal
from services.runtime.cgroup import Cgroups
from services.runtime.exits import Container

_KILL_SECONDS = 60.0


class Stops:
    """The stops under way."""

    def __init__(self, tasks: Tasks, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._joins: Joins[ContainerId, None] = Joins(tasks)
        self._waits: dict[ContainerId, asyncio.Timeout] = {}

    async def stop(self, container: Container, timeout: float) -> None:
        """Back once the container has exited and nothing of it runs."""
        if self._joins.running(container.id):
            self._shorten(container.id, timeout)
        else:
            self._joins.begin(container.id, self._stop(container, timeout), f"stop of {container.id}")
        await self._joins.wait(container.id)

    async def kill(self, container: Container) -> None:
        """SIGKILL to all of the container's processes, and its end noted."""
        deadline = Deadline.after(_KILL_SECONDS)
        if container.process is not None:
            container.process.signal(signal.SIGKILL)
        await self._cgroups.kill([container.state.cgroup], deadline)
        async with deadline.limit(f"container {container.id}: its end after SIGKILL"):
            await container.exited.wait()

    async def _stop(self, container: Container, timeout: float) -> None:
        started = container.state.phase in ("starting", "started")
        if not container.exited.is_set() and container.process is not None and started and timeout > 0:
            name = container.state.created.stop_signal if container.state.created else stop_signal.DEFAULT
            container.process.signal(stop_signal.number(name) or signal.SIGTERM)
            await self._wait(container, timeout)
        await self.kill(container)

    async def _wait(self, container: Container, timeout: float) -> None:
        """Until it has exited, or its time, which other calls may shorten, is up."""
        try:
            with suppress(TimeoutError):  # SIGKILL is next
                async with asyncio.timeout(timeout) as wait:
                    self._waits[container.id] = wait
                    await container.exited.wait()
        finally:
            del self._waits[container.id]

    def _shorten(self, container: ContainerId, timeout: float) -> None:
        wait = self._waits.get(container)
        until = asyncio.get_running_loop().time() + max(timeout, 0)
        if wait is not None and not wait.expired() and (wait.when() or 0) > until:
            wait.reschedule(until)
