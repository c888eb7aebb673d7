"""Ends of containers, conmons and pause processes, seen through pidfds, and told to any number of watchers.

Run by the runtime worker on its event loop. An exit code is conmon's, from its exit file; where conmon was killed
it is the kernel's, asked through the container's pidfd, or heard from its process events where that is too old. A
container is over when its process has ended and its code is known or cannot be known any more.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

from kernel.contracts.runtime import Changed, ContainerFact, PodChanged
from kernel.host import pidfd
from kernel.host.aio import Tasks
from kernel.host.pidfd import Watched
from kernel.ids import ContainerId
from services.runtime.cgroups.hierarchies import Cgroups
from services.runtime.exits.proc_connector import ProcConnector
from services.runtime.records.bundle import ContainerBundle, ContainerState

_LOG = logging.getLogger(__name__)
_CONMON_SECONDS = 10.0
"""How long conmon may take from the end of the process to its exit file: it first writes out the log."""
_REAP_SECONDS = 5.0
_QUEUE = 4096
UNKNOWN = 255
"""The exit code where nobody knows it."""


class Container:
    """A container as the worker holds it in memory."""

    def __init__(self, container: ContainerId, bundle: ContainerBundle, state: ContainerState) -> None:
        self.id = container
        self.bundle = bundle
        self.state = state
        self.process: Watched | None = None
        self.conmon: Watched | None = None
        self.exited = asyncio.Event()
        self.exit_code = 0
        self.finished_at = 0
        self.oom_killed = False
        self.known = True
        """Whether the exit code is known; only once it has exited."""
        self.frozen = False
        """Whether a checkpoint waits for its files to be read."""
        self.monitor_lost = False
        """Whether conmon ended before it did."""
        self.swept = False
        """Whether nothing of it has been running since it exited."""

    def fact(self) -> ContainerFact:
        """What the host says of it now."""
        over = self.exited.is_set()
        return ContainerFact(
            container=self.id,
            sandbox=self.state.sandbox,
            state=self._state(),
            pid=self.state.process.pid if self.state.process and not over else 0,
            started_at=self.state.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            oom_killed=self.oom_killed,
            frozen=self.frozen,
            monitor_lost=not over and self.monitor_lost,
        )

    def _state(self) -> Literal["created", "running", "exited", "unknown"]:
        if self.exited.is_set():
            return "exited" if self.known else "unknown"
        return "running" if self.state.phase in ("starting", "started") else "created"

    def close(self) -> None:
        """Watch its processes no longer."""
        for watched in (self.process, self.conmon):
            if watched is not None:
                watched.close()


class Watchers:
    """Those who want to hear each change."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Changed | PodChanged]] = set()

    def join(self) -> asyncio.Queue[Changed | PodChanged]:
        """A queue of all that changes from now on."""
        queue: asyncio.Queue[Changed | PodChanged] = asyncio.Queue()
        self._queues.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[Changed | PodChanged]) -> None:
        """Hear no more."""
        self._queues.discard(queue)

    def tell(self, change: Changed | PodChanged) -> None:
        """Tell all. One that does not listen is dropped rather than kept in memory."""
        for queue in list(self._queues):
            if queue.qsize() >= _QUEUE:
                _LOG.error("a watcher does not read its events: dropped")
                self._queues.discard(queue)
                continue
            queue.put_nowait(change)


class Exits:
    """Follows containers to their ends."""

    def __init__(self, tasks: Tasks, cgroups: Cgroups, watchers: Watchers) -> None:
        self._tasks = tasks
        self._cgroups = cgroups
        self._watchers = watchers
        self._events = ProcConnector()
        self._told_oom_kills: dict[str, int] = {}
        """Of each pod's cgroup, the kills that have been told of a container that is over."""

    def follow(self, container: Container, after: Callable[[Container], Awaitable[None]]) -> None:
        """Watch a container that has a process, or whose conmon may still say how it ended."""
        state = container.state
        if state.restores and state.phase == "created" and container.bundle.exit() is None:
            return  # nothing of it runs before it is started
        container.process = Watched.open(state.process)
        container.conmon = Watched.open(state.conmon)
        if container.process is None and (container.conmon is None or container.bundle.exit() is not None):
            self._settle(container, None)
            return
        self._tasks.start(self._follow(container, after), f"exit of {container.id}")

    def end_unstarted(self, container: Container) -> None:
        """The end of a container that has no process, as it would have restored some: as if it had been killed."""
        container.exit_code, container.finished_at = 128 + signal.SIGKILL, time.time_ns()
        self._keep(container)
        container.exited.set()
        self._watchers.tell(Changed(fact=container.fact()))

    async def _follow(self, container: Container, after: Callable[[Container], Awaitable[None]]) -> None:
        code: int | None = None
        if container.process is not None:
            code = await self._to_the_end(container, container.process)
        if container.conmon is not None and container.bundle.exit() is None:
            with suppress(TimeoutError):  # it hangs: the kernel is asked
                async with asyncio.timeout(_CONMON_SECONDS):
                    await container.conmon.ended.wait()
        if code is None and container.process is not None and container.bundle.exit() is None:
            code = await container.process.exit_code(_REAP_SECONDS)
        self._settle(container, code)
        self._watchers.tell(Changed(fact=container.fact()))
        await after(container)
        container.swept = True

    async def _to_the_end(self, container: Container, process: Watched) -> int | None:
        """Wait for the process's end; its exit code where conmon will not tell and the kernel says it only now."""
        if container.conmon is not None:
            waits = [
                self._tasks.start(one.ended.wait(), f"end in {container.id}") for one in (process, container.conmon)
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        if not process.alive:
            return None
        _LOG.error("container %s runs on without its conmon, which was killed: nothing writes its log", container.id)
        container.monitor_lost = True
        self._watchers.tell(Changed(fact=container.fact()))
        if pidfd.KERNEL_KEEPS_EXIT_CODES:
            await process.ended.wait()
            return None
        with self._events.listen() as since:
            self._events.read()
            await process.ended.wait()
            if not self._events.speaks:
                return None
            with suppress(TimeoutError):  # that one was lost
                async with asyncio.timeout(_REAP_SECONDS):
                    return await self._events.exit_code(process.pid, since)
        return None

    def _settle(self, container: Container, code: int | None) -> None:
        """Note how it ended: conmon's word, else `code`, which is the kernel's."""
        if container.exited.is_set():
            return
        told = container.bundle.exit()
        if told is not None:
            container.exit_code, container.finished_at = told
        else:
            container.known = code is not None
            container.exit_code, container.finished_at = UNKNOWN if code is None else code, time.time_ns()
            if code is not None:
                self._keep(container)
        container.oom_killed = self._out_of_memory(container)
        if container.oom_killed:
            with suppress(OSError):  # the folder goes: so does the container
                container.bundle.oom.touch()
        container.exited.set()

    def _out_of_memory(self, container: Container) -> bool:
        """Whether conmon, the container's cgroup or, where that is gone, the pod's has counted such a kill."""
        path = container.state.cgroup
        above = path.rpartition("/")[0]
        own, lost = self._cgroups.oom_kills(path), self._cgroups.lost_oom_kills(above)
        told = max(container.state.oom_kills_before, self._told_oom_kills.get(above, 0))
        killed = container.bundle.oom_killed() or bool(own) or (own is None and lost > told)
        if killed:
            there = {one: count for one, count in self._told_oom_kills.items() if self._cgroups.exists(one)}
            self._told_oom_kills = {**there, above: lost + (own or 0)}
        return killed

    def _keep(self, container: Container) -> None:
        """Write the exit file that conmon did not, for the next start of this worker."""
        with suppress(OSError):  # the folder goes: so does the container
            container.bundle.exit_dir.mkdir(exist_ok=True)
            container.bundle.exit_file.write_text(str(container.exit_code))
