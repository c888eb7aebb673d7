"""Follows containers to their ends by pidfds, finds out how each ended, and reports it to all watchers.

Run by the runtime worker on its event loop. An exit code is conmon's, from its exit file. If conmon was killed it is
the kernel's: read through the container's pidfd (Linux 6.15), on older kernels taken from its process events. A
container has exited when its process has ended and its code is known or cannot be known any more.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from kernel.contracts.runtime import Changed
from kernel.host import files, pidfd
from kernel.host.aio import Tasks
from kernel.host.pidfd import Watched
from kernel.ids import short
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.exits.proc_connector import ProcConnector
from services.runtime.records.container import UNKNOWN_EXIT_CODE, Container
from services.runtime.records.watchers import Watchers

_LOG = logging.getLogger(__name__)
_CONMON_SECONDS = 10.0
"""Seconds that conmon may take from the end of the process to its exit file: it first writes out the log."""
_REAP_SECONDS = 5.0
"""Seconds to wait for the exit code that the kernel reports once the process is reaped."""


class ContainerEnds:
    """Follows each container of the worker in a task of its own."""

    def __init__(self, tasks: Tasks, cgroups: Cgroups, watchers: Watchers) -> None:
        self._tasks = tasks
        self._cgroups = cgroups
        self._watchers = watchers
        self._events = ProcConnector()
        self._reported_oom_kills: dict[str, int] = {}
        """The number of kills that were reported for containers that have exited, by pod cgroup."""

    def follow(self, container: Container, after: Callable[[Container], Awaitable[None]]) -> None:
        """Watch a container that has a process, or whose conmon may still write how it ended.

        Once the end has been reported, `after` removes the container's remaining processes.
        """
        state = container.state
        if container.waits_for_restore and container.bundle.exit() is None:
            return  # it has no process before its start
        container.process = Watched.open(state.process)
        container.conmon = Watched.open(state.conmon)
        if container.process is None and (container.conmon is None or container.bundle.exit() is not None):
            self._settle(container, None)
            return
        self._tasks.spawn(self._follow(container, after), f"exit of container {short(container.id)}")

    def end_unstarted(self, container: Container) -> None:
        """Report a container as killed (exit code 137) that was to be restored and never got a process."""
        container.exit_code, container.finished_at = 128 + signal.SIGKILL, time.time_ns()
        _keep_exit_code(container)
        container.exited.set()
        self._watchers.report(Changed(fact=container.fact()))

    async def _follow(self, container: Container, after: Callable[[Container], Awaitable[None]]) -> None:
        code: int | None = None
        if container.process is not None:
            code = await self._wait_end(container, container.process)
        if container.conmon is not None and container.bundle.exit() is None:
            with suppress(TimeoutError):  # conmon hangs: the kernel's exit code counts
                async with asyncio.timeout(_CONMON_SECONDS):
                    await container.conmon.ended.wait()
        if code is None and container.process is not None and container.bundle.exit() is None:
            code = await container.process.exit_code(_REAP_SECONDS)
        self._settle(container, code)
        self._watchers.report(Changed(fact=container.fact()))
        await after(container)
        container.swept = True

    async def _wait_end(self, container: Container, process: Watched) -> int | None:
        """Wait until the process has ended. Return its exit code if conmon cannot write it and it is known only now."""
        if container.conmon is not None:
            await self._wait_first(process, container.conmon)
        if not process.alive:
            return None
        _LOG.error("container %s: runs on without its conmon, which was killed: its log stops", short(container.id))
        container.monitor_lost = True
        self._watchers.report(Changed(fact=container.fact()))
        if pidfd.KERNEL_KEEPS_EXIT_CODES:
            await process.ended.wait()
            return None
        with self._events.listen() as since:
            self._events.read()
            await process.ended.wait()
            if not self._events.speaks:
                return None
            with suppress(TimeoutError):  # the report was lost
                async with asyncio.timeout(_REAP_SECONDS):
                    return await self._events.exit_code(process.pid, since)
        return None

    async def _wait_first(self, *processes: Watched) -> None:
        """Wait until the first of these processes has ended."""
        waits = [self._tasks.run(one.ended.wait(), f"end of process {one.pid}") for one in processes]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _settle(self, container: Container, code: int | None) -> None:
        """Set how a container ended: as conmon wrote it, else by the kernel's `code`; None if that is not known."""
        if container.exited.is_set():
            return
        written = container.bundle.exit()
        if written is not None:
            container.exit_code, container.finished_at = written
        else:
            container.known = code is not None
            container.exit_code, container.finished_at = UNKNOWN_EXIT_CODE if code is None else code, time.time_ns()
            if code is not None:
                _keep_exit_code(container)
        container.oom_killed = self._was_out_of_memory(container)
        if container.oom_killed:
            _keep(container, container.bundle.oom.touch)
        container.exited.set()

    def _was_out_of_memory(self, container: Container) -> bool:
        """Return whether conmon noted an out-of-memory kill, or the container's cgroup counted one; if that is gone,
        the pod's."""
        path = container.state.cgroup
        above = path.rpartition("/")[0]
        own, lost = self._cgroups.oom_kills(path), self._cgroups.lost_oom_kills(above)
        reported = max(container.state.oom_kills_before, self._reported_oom_kills.get(above, 0))
        killed = container.bundle.oom_killed() or bool(own) or (own is None and lost > reported)
        if killed:
            there = {one: count for one, count in self._reported_oom_kills.items() if self._cgroups.exists(one)}
            self._reported_oom_kills = {**there, above: lost + (own or 0)}
        return killed


def _keep_exit_code(container: Container) -> None:
    """Write the exit file that conmon did not write, for the worker's next start."""

    def write() -> None:
        container.bundle.exit_dir.mkdir(exist_ok=True)
        files.replace(container.bundle.exit_file, str(container.exit_code).encode(), durable=False)

    _keep(container, write)


def _keep(container: Container, write: Callable[[], None]) -> None:
    """Call `write`, which changes the bundle of a container that has exited, and may be removed at the same time."""
    try:
        write()
    except FileNotFoundError:  # its bundle is being removed: no worker will read it
        return
    except OSError as error:
        _LOG.error("container %s: its end cannot be written, a restart loses it: %s", short(container.id), error)
