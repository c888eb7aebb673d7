"""The supervisor's end of the link: it requests workers from the spawner, and replaces a spawner that dies.

The death of a spawner is reported as end of file on the link. A new one is started by exec with the other end of a
fresh link and a descriptor of the host's network namespace (the supervisor has left that). Requests that were under way
are sent again to the new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kernel.config.sections import PROXIES
from kernel.errors import DeadlineExceeded, Internal
from kernel.host import proc, process
from kernel.host.aio import Deadline, Tasks, keep_trying
from kernel.host.pidfd import Watched
from kernel.supervisor.processes import notify, restart_policy, spawner_link

_LOG = logging.getLogger(__name__)
_FORK_SECONDS = 20.0


class Process(Watched):
    """A worker's process. Make it inside a running loop."""

    def __init__(self, pid: int, fd: int) -> None:
        """`fd`: a pidfd of the process, which is closed when the process ends."""
        super().__init__(pid, fd)
        found = proc.stat(pid)
        self.start_time = found.start if found else 0  # 0 if it has ended, which the pidfd reports next
        self.on_end(self.close)


class Spawning:
    """The link to the spawner. Make it inside a running loop."""

    def __init__(
        self,
        end: socket.socket,
        *,
        config_file: Path,
        source: Path,
        netns: int,
        on_died: Callable[[spawner_link.Died], None],
        on_stop: Callable[[], None],
        on_hangup: Callable[[], None],
        on_replaced: Callable[[], None],
    ) -> None:
        self.pid = os.getppid()
        self.start_time = proc.start_time(self.pid)
        self.restarts = 0
        self._config_file = config_file
        self._source = source
        self._netns = netns
        self._on_died = on_died
        self._on_stop = on_stop
        self._on_hangup = on_hangup
        self._on_replaced = on_replaced
        self._tasks = Tasks()
        self._loop = asyncio.get_running_loop()
        self._forks: dict[str, asyncio.Future[Process]] = {}
        self._measures: list[tuple[tuple[int, ...], asyncio.Future[dict[int, int]]]] = []
        self._deaths: tuple[restart_policy.Death, ...] = ()
        self._closed = False
        self._end: socket.socket | None = None
        self._attach(end)

    @property
    def up(self) -> bool:
        """Whether there is a spawner now."""
        return self._end is not None

    async def spawn(self, name: str) -> Process:
        """Return a new process of a worker. There is one call at a time for each name."""
        future: asyncio.Future[Process] = self._loop.create_future()
        self._forks[name] = future
        try:
            self._send(spawner_link.Spawn(name))
            async with asyncio.timeout(_FORK_SECONDS):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded(f"the spawner did not fork the {name} worker in time") from error
        finally:
            self._forks.pop(name, None)

    async def measure(self, pids: tuple[int, ...], deadline: Deadline) -> dict[int, int]:
        """Return the proportional set size of processes in bytes, by pid."""
        future: asyncio.Future[dict[int, int]] = self._loop.create_future()
        self._measures.append((pids, future))
        self._send(spawner_link.Measure(pids))
        async with deadline.limit("reading memory"):
            return await future

    def reread(self) -> None:
        """Send the spawner the order to read the changed configuration; a new spawner reads it at its start."""
        self._send(spawner_link.Reread())

    async def close(self, status: int) -> None:
        """Send the spawner the order to end too."""
        self._closed = True
        self._send(spawner_link.Bye(status))
        await self._tasks.close()
        self._detach()

    def _attach(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._loop.add_reader(end.fileno(), self._on_ready)

    def _detach(self) -> None:
        if self._end is not None:
            self._loop.remove_reader(self._end.fileno())
            self._end.close()
            self._end = None

    def _send(self, message: spawner_link.ToSpawner) -> None:
        if self._end is not None:
            try:
                spawner_link.send(self._end, message)
            except ConnectionError:  # the spawner died: requests under way are sent again to the next one
                _LOG.debug("the spawner has gone before %s was sent", type(message).__name__)
            except OSError as error:  # the spawner does not read; callers give up at their deadlines
                _LOG.error("the message %s to the spawner is not sent: %s", type(message).__name__, error.strerror)

    def _on_ready(self) -> None:
        assert self._end is not None  # the reader is removed with it
        try:
            message, fds = spawner_link.receive_from_spawner(self._end)
        except BlockingIOError:
            return
        match message:
            case None:
                self._detach()
                if not self._closed:
                    self._tasks.spawn(self._replace_at_last(), "replace the spawner")
            case spawner_link.Started(name, pid):
                self._on_started(name, pid, fds[0])
            case spawner_link.Failed(name, why):
                if (future := self._forks.get(name)) is not None and not future.done():
                    future.set_exception(Internal(f"the {name} worker cannot be forked: {why}"))
            case spawner_link.Measured(memory):
                _, measured = self._measures.pop(0)
                if not measured.done():
                    measured.set_result(memory)
            case spawner_link.Died():
                self._on_died(message)
            case spawner_link.Stop():
                self._on_stop()
            case spawner_link.Hangup():
                self._on_hangup()

    def _on_started(self, name: str, pid: int, pidfd: int) -> None:
        started = Process(pid, pidfd)
        future = self._forks.get(name)
        if future is None or future.done():  # the caller has given up: the process must not run beside the next one
            started.signal(signal.SIGKILL)
        else:
            future.set_result(started)

    async def _replace_at_last(self) -> None:
        await keep_trying(self._replace, "replacing the spawner", at_once=True)

    async def _replace(self) -> bool:
        self._deaths = restart_policy.remember(self._deaths, restart_policy.Death(time.monotonic(), ready=True))
        verdict = restart_policy.judge(self._deaths)
        _LOG.error("the spawner died; a new one follows after %.1f s", verdict.after)
        await asyncio.sleep(verdict.after)
        ours, theirs = spawner_link.pair()
        try:
            started = await self._launch(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        found = proc.stat(started.pid)
        self.pid, self.start_time = (
            started.pid,
            found.start if found else 0,
        )  # 0 if it has ended, which the link reports next
        self.restarts += 1
        self._attach(ours)
        self._on_replaced()
        for name in self._forks:
            self._send(spawner_link.Spawn(name))
        for pids, _ in self._measures:
            self._send(spawner_link.Measure(pids))
        return True

    async def _launch(self, link: socket.socket) -> asyncio.subprocess.Process:
        environment = {
            **process.ENVIRONMENT,
            **notify.environment(),
            **{name: os.environ[name] for names in PROXIES.values() for name in names if name in os.environ},
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        }
        return await process.start(
            (
                sys.executable, "-P", "-m", "kernel.supervisor.spawner", "--config", str(self._config_file),
                "--source", str(self._source), "--adopt", str(link.fileno()), "--netns", str(self._netns),
            ),
            stderr=2,
            env=environment,
            pass_fds=(link.fileno(), self._netns),
        )  # fmt: skip
