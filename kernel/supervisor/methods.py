"""The supervisor's bus methods (`kernel.contracts.supervisor`), each a few steps."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import NamedTuple

from kernel.bus.worker import Call
from kernel.contracts.definition import Nothing
from kernel.contracts.supervisor import Commit, Reloaded, Restarted, RestartRequest, Snapshot, Workers, WorkerStatus
from kernel.errors import DeadlineExceeded
from kernel.host import proc
from kernel.host.aio import FAILURES
from kernel.state.thread import StateThread
from kernel.supervisor.privileges import reality
from kernel.supervisor.privileges.workers import SPAWNER, SUPERVISOR
from kernel.supervisor.supervise import Supervisor

_MEASURE_SECONDS = 2.0


class Methods:
    """One coroutine per method of the contract."""

    def __init__(self, supervisor: Supervisor, state: StateThread) -> None:
        self._supervisor = supervisor
        self._state = state

    async def load(self, _request: Nothing, _call: Call) -> Snapshot:
        """Return all records."""
        return await self._state.load()

    async def commit(self, request: Commit, _call: Call) -> Nothing:
        """Apply one transaction."""
        await self._state.commit(request)
        return Nothing()

    async def workers(self, _request: Nothing, call: Call) -> Workers:
        """Return every process of crisp as /proc shows it."""
        supervisor = self._supervisor
        spawning = supervisor.spawning
        rows = [
            _Row(SUPERVISOR.name, os.getpid(), supervisor.restarts, "ready", "", FAILURES.errors, FAILURES.bugs),
            _Row(SPAWNER.name, spawning.pid, spawning.restarts, "ready" if spawning.up else "starting"),
        ]
        for name, worker in supervisor.workers.items():
            pid = worker.process.pid if worker.process and worker.process.alive else 0
            errors, bugs = (worker.hello.errors, worker.hello.bugs) if worker.hello else (0, 0)
            rows.append(_Row(name, pid, worker.restarts, worker.state, worker.down, errors, bugs))
        pids = tuple(row.pid for row in rows if row.pid)
        memory: dict[int, int] = {}
        with suppress(DeadlineExceeded):  # the spawner is being replaced: the other figures are still useful
            memory = await spawning.measure(pids, call.deadline.earlier(_MEASURE_SECONDS))
        return Workers(workers=tuple(_status(row, memory.get(row.pid, 0)) for row in rows))

    async def restart(self, request: RestartRequest, call: Call) -> Restarted:
        """End a worker in order and start it again."""
        return Restarted(pid=await self._supervisor.restart(request.name, call.deadline))

    async def reload(self, _request: Nothing, call: Call) -> Reloaded:
        """Read the configuration again."""
        return await self._supervisor.reload(call.deadline)

    async def watch_health(self, _request: Nothing, call: Call) -> Nothing:
        """Send the workers that are down, at once and at each change."""
        changed = asyncio.Event()
        forget = self._supervisor.watch_health(changed)
        try:
            while True:
                changed.clear()
                await call.progress(self._supervisor.health())
                await changed.wait()
        finally:
            forget()

    async def shutdown(self, _request: Nothing, _call: Call) -> Nothing:
        """End the daemon; the reply comes first."""
        asyncio.get_running_loop().call_later(0.05, self._supervisor.begin_shutdown)
        return Nothing()


class _Row(NamedTuple):
    """A process and its state, without figures from /proc."""

    name: str
    pid: int
    restarts: int
    state: str
    reason: str = ""
    errors: int = 0
    bugs: int = 0


def _status(row: _Row, memory: int) -> WorkerStatus:
    try:
        found = reality.status(row.pid)
        uptime = proc.age(proc.start_time(row.pid))
    except (FileNotFoundError, ProcessLookupError):  # the process is down, or has just ended
        return WorkerStatus(
            name=row.name, pid=0, uid=0, capabilities=(), seccomp="", no_new_privs=False, memory=0,
            restarts=row.restarts, uptime=0.0, state="starting" if row.state == "ready" else row.state,
            reason=row.reason,
        )  # fmt: skip
    return WorkerStatus(
        name=row.name, pid=row.pid, uid=found.uid, capabilities=found.capabilities, seccomp=found.seccomp,
        no_new_privs=found.no_new_privs, memory=memory, restarts=row.restarts, uptime=uptime, state=row.state,
        reason=row.reason, errors=row.errors, bugs=row.bugs,
    )  # fmt: skip
