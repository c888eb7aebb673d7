"""Stopping a container: its stop signal, the wait, and SIGKILL to everything that is left in its cgroup.

Run by the runtime worker on its event loop. Rules kept: signals go through a pidfd; a later call joins the stop under
way, and can only shorten its wait; the stop goes on when its caller has left.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress

from kernel.host.aio import Deadline, Joins, Tasks
from kernel.host.pidfd import Watched
from kernel.ids import ContainerId, short
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.exits import stop_signal
from services.runtime.records.container import Container

_KILL_SECONDS = 60.0
"""Seconds that the processes may take to end after SIGKILL."""


class Stops:
    """The stops under way."""

    def __init__(self, tasks: Tasks, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._joins: Joins[ContainerId, None] = Joins(tasks)
        self._kill_at: dict[ContainerId, float] = {}
        """The time of SIGKILL, in seconds of the loop's clock."""
        self._waits: dict[ContainerId, asyncio.Timeout] = {}

    async def stop(self, container: Container, timeout: float) -> None:
        """Stop a container within `timeout` seconds, or kill it then. Returns once it has exited and nothing of it
        runs."""
        kill_at = asyncio.get_running_loop().time() + max(timeout, 0)

        def attempt() -> Coroutine[object, object, None]:
            self._kill_at[container.id] = kill_at
            return self._stop(container)

        if self._joins.running(container.id):
            self._shorten(container.id, kill_at)
        await self._joins.join(container.id, attempt, f"stop of container {short(container.id)}")

    async def kill(self, container: Container) -> None:
        """Send SIGKILL to all of a container's processes. Returns once they have ended and the exit is known."""
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
            if container.was_started and not container.exited.is_set() and container.process is not None:
                await self._send_stop_signal(container, container.process)
            await self.kill(container)
        finally:
            del self._kill_at[container.id]

    async def _send_stop_signal(self, container: Container, process: Watched) -> None:
        """Send the stop signal, and wait until the container has exited or its time, which other calls may shorten,
        is up."""
        if self._kill_at[container.id] <= asyncio.get_running_loop().time():
            return
        name = container.state.created.stop_signal if container.state.created else stop_signal.DEFAULT
        process.signal(stop_signal.number(name) or signal.SIGTERM)
        try:
            with suppress(TimeoutError):  # SIGKILL follows
                async with asyncio.timeout_at(self._kill_at[container.id]) as wait:
                    self._waits[container.id] = wait
                    await container.exited.wait()
        finally:
            self._waits.pop(container.id, None)

    def _shorten(self, container_id: ContainerId, kill_at: float) -> None:
        if kill_at < self._kill_at.get(container_id, kill_at):
            self._kill_at[container_id] = kill_at
            wait = self._waits.get(container_id)
            if wait is not None and not wait.expired():
                wait.reschedule(kill_at)
