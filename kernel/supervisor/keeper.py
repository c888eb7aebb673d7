"""The life of one worker as a loop: start it, wait until it is ready, watch it, judge its death.

A worker is ready when it has answered `hello` on the bus; that its process is alive is not enough. A worker that misses
heartbeats and does no work meanwhile counts as dead, and is killed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable

from kernel.bus.client import Client
from kernel.contracts.definition import HELLO, Hello, Nothing
from kernel.errors import CrispError
from kernel.host import proc
from kernel.host.aio import Deadline, Tasks
from kernel.supervisor.processes import restart_policy
from kernel.supervisor.processes.spawning import Process, Spawning

_LOG = logging.getLogger(__name__)
BEAT = 1.0
"""Seconds between two heartbeats."""
_PATIENCE = 2.0
"""Seconds that a heartbeat may take."""
_START_SECONDS = 20.0
_GRACE = 2.0
"""Seconds within which a worker may be back without being reported as down."""
_TERM_SECONDS = 5.0
_SETTLE = 0.05
"""Seconds between two looks for the process of a worker that is being started while the daemon ends."""


class Keeper:
    """One worker. Make it inside a running loop."""

    def __init__(
        self,
        name: str,
        client: Client,
        spawning: Spawning,
        tasks: Tasks,
        *,
        on_process: Callable[[], None],
        on_health: Callable[[], None],
    ) -> None:
        """Prepare one worker. `on_process` is called when the worker's process is another one, `on_health` when `down`
        has changed."""
        self.name = name
        self.client = client
        self.process: Process | None = None
        self.restarts = 0
        self.hello: Hello | None = None
        """The last answer of its process."""
        self.state = "starting"
        """See WorkerStatus."""
        self.down = "it has not started yet"
        """The reason that watchers of health receive; empty if all is well."""
        self.ready = asyncio.Event()
        self.told_to_end = False
        """Whether its next end was requested, and so is no death."""
        self._spawning = spawning
        self._tasks = tasks
        self._on_process = on_process
        self._on_health = on_health
        self._deaths: tuple[restart_policy.Death, ...] = ()
        self._ending = False
        self._restarting = asyncio.Lock()
        self._wake = asyncio.Event()
        """An event that ends a back-off early."""

    async def keep(self) -> None:
        """Keep the worker running, until `end`."""
        while not self._ending:
            if self.process is None:
                await self._start()
            process = self.process
            if process is not None:
                if await self._becomes_ready(process):
                    await self._watch(process)
                await process.ended.wait()
            await self._after_death()

    async def restart(self, deadline: Deadline) -> int:
        """End the process in order and start another. Return its pid once it is ready."""
        async with deadline.limit(f"restarting the {self.name} worker"), self._restarting:
            before = self.process
            if before is not None and before.alive:
                self.told_to_end = True
                await _end(before, _TERM_SECONDS)
                self.ready.clear()
            self._wake.set()
            while (process := self.process) is None or process is before or not self.ready.is_set():
                await self.ready.wait()
            return process.pid

    def begin_end(self) -> None:
        """Start no process from now on, and wait for no back-off; a process that runs must still be ended."""
        self._ending = True
        self._wake.set()

    async def end(self, kept: asyncio.Task[None], patience: float = _TERM_SECONDS) -> None:
        """End the worker permanently, also one that is just being started. `kept` is the task of `keep`.

        The process gets `patience` seconds between SIGTERM and SIGKILL.
        """
        self.begin_end()
        while not kept.done():
            if self.process is not None:
                await _end(self.process, patience)
            await asyncio.wait({kept}, timeout=_SETTLE)

    async def _start(self) -> None:
        self.state = "starting"
        try:
            self.process = await self._spawning.spawn(self.name)
        except CrispError as error:
            _LOG.error("the %s worker cannot be started: %s", self.name, error)
        self._on_process()

    async def _becomes_ready(self, process: Process) -> bool:
        """Wait for the first hello; a worker that does not answer in time is killed."""
        until, grace = Deadline.after(_START_SECONDS), Deadline.after(_GRACE)
        while process.alive:
            if await self._says_hello(process, until if self.down else until.earlier(_GRACE)):
                self.state, self.told_to_end = "ready", False
                self.ready.set()
                self._set_down("")
                _LOG.info("the %s worker serves, pid %d", self.name, process.pid)
                return True
            if until.remaining() <= 0:
                _LOG.error(
                    "the %s worker does not serve %.0f s after its start: it is killed", self.name, _START_SECONDS
                )
                process.signal(signal.SIGKILL)
                await process.ended.wait()
            elif grace.remaining() <= 0 and not self.down:
                self._set_down("it is starting")
        return False

    async def _watch(self, process: Process) -> None:
        """Send heartbeats until the process ends or hangs."""
        worked = [proc.main_thread_cpu(process.pid)]
        while not await _within(process.ended, BEAT):
            answered = await self._says_hello(process, Deadline.after(_PATIENCE))
            worked = [*([] if answered else worked), proc.main_thread_cpu(process.pid)]
            if restart_policy.hangs(worked) and process.alive:
                _LOG.error("the %s worker, pid %d, hangs: it is killed", self.name, process.pid)
                process.signal(signal.SIGKILL)

    async def _says_hello(self, process: Process, deadline: Deadline) -> bool:
        call = self._tasks.run(self.client.call(HELLO, Nothing(), deadline=deadline), f"hello {self.name}")
        ended = self._tasks.run(process.ended.wait(), f"end of {self.name}")
        try:
            await asyncio.wait((call, ended), return_when=asyncio.FIRST_COMPLETED)
            if call.done() and call.result().pid == process.pid:  # not an answer of an earlier process
                self.hello = call.result()
                return True
        except CrispError:
            return False
        else:
            return False
        finally:
            call.cancel()
            ended.cancel()

    async def _after_death(self) -> None:
        """Judge the death, and wait as long as the verdict requires."""
        was_ready, self.state = self.state == "ready", "starting"
        self.process = self.hello = None
        self.ready.clear()
        self.restarts += 1
        if self.told_to_end or self._ending:
            self.told_to_end = False
            return
        self._deaths = restart_policy.remember(self._deaths, restart_policy.Death(time.monotonic(), was_ready))
        verdict = restart_policy.judge(self._deaths)
        if verdict.held:
            self.state = "held down"
            _LOG.error("the %s worker is held down for %.0f s: %s", self.name, verdict.after, verdict.reason)
            self._set_down(f"held down: {verdict.reason}")
        self._on_process()
        self._wake.clear()
        if verdict.after:
            await _within(self._wake, verdict.after)

    def _set_down(self, reason: str) -> None:
        if self.down != reason:
            self.down = reason
            self._on_health()


async def _end(process: Process, patience: float) -> None:
    """Send SIGTERM, and SIGKILL if the process still runs after `patience` seconds."""
    process.signal(signal.SIGTERM)
    if not await _within(process.ended, patience):
        process.signal(signal.SIGKILL)
        await process.ended.wait()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Return whether `event` is set within the time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
